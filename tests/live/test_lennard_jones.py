"""The example that runs LAMMPS, for real: its results, its second start, also after it was killed, and on a cluster."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from tests.testbed.host import HEAD
from tests.testbed.slurm import Slurm

from heald import Run

EXAMPLE = Path(__file__).parents[2] / "examples" / "lennard_jones"
SCRIPT = EXAMPLE / "lennard_jones.py"
NEEDS = ("lammps", "matplotlib", "numpy")
RUNS = 11  # two isotherms of four densities and one refinement each, and one state that NIST tabulates
MEANS = ("measured", "pressure", "energy")
COLUMNS = ["temperature", "density", "atoms", *(mean + end for mean in MEANS for end in ("", "_error"))]

# NIST Standard Reference Database 173, NVT Monte Carlo of 500 atoms, cut at 3 sigma with analytic tail corrections:
# T = 0.9, density 0.776. The tolerance is four standard errors of the run's own mean, and what published values differ
# by among themselves: 0.02 in pressure, 0.004 in energy.
NIST_PRESSURE, NIST_ENERGY = 0.24056, -5.4689

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
    pytest.skip(f"the example cannot run without {missing}: pip install 'heald[demo]'", allow_module_level=True)


def start(out: Path) -> tuple[list[str], dict[str, str]]:
    """The command that runs the example, and its environment: a wide terminal, and a memo of its own."""
    command = [sys.executable, "-W", "error", str(SCRIPT), "--quick", "--out", str(out)]
    return command, os.environ | {"COLUMNS": "100", "XDG_CACHE_HOME": str(out / "cache")}


def sweep(out: Path) -> str:
    """Run the example to its end; what it printed."""
    command, environ = start(out)
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def complete(out: Path) -> dict[str, int]:
    """The logs of the runs that LAMMPS has ended, and when each was last written."""
    logs = out.glob("runs/*/log.lammps")
    return {log.parent.name: log.stat().st_mtime_ns for log in logs if "Total wall time" in log.read_text()}


def rows(out: Path) -> list[dict[str, float]]:
    with (out / "table.csv").open(newline="") as stream:
        return [{name: float(text) for name, text in row.items()} for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a sweep that has ended, and what it printed."""
    out = tmp_path_factory.mktemp("lennard_jones")
    return out, sweep(out)


def test_formulas() -> None:
    for module in ("thermo.py", "published.py", "comparison.py"):
        subprocess.run([sys.executable, "-m", "doctest", module], cwd=EXAMPLE, check=True)


def test_table_has_every_run(done: tuple[Path, str]) -> None:
    out, printed = done
    table = rows(out)
    assert list(table[0]) == COLUMNS
    assert len(table) == len(complete(out)) == RUNS
    assert all(row["pressure_error"] > 0 and row["energy_error"] > 0 for row in table)
    for row in table:
        assert row["measured"] == pytest.approx(row["temperature"], abs=6 * row["measured_error"])
    for temperature in (1.5, 2.0):
        isotherm = [row for row in table if row["temperature"] == temperature]
        assert len(isotherm) == 5
        assert all(low["pressure"] < high["pressure"] for low, high in pairwise(isotherm))
        assert all(low["energy"] > high["energy"] for low, high in pairwise(isotherm))
    assert "measured T" in printed


def test_large_runs_used_mpi(done: tuple[Path, str]) -> None:
    out, _ = done
    large = {row["density"] for row in rows(out) if row["atoms"] == 864}
    parallel = [log for log in out.glob("runs/*/log.lammps") if " on 2 procs for " in log.read_text()]
    assert large == {0.84}
    assert len(parallel) == 2


def assert_agrees_with_nist(out: Path, printed: str) -> None:
    (row,) = (row for row in rows(out) if row["temperature"] == 0.9)
    assert (row["density"], row["atoms"]) == (0.776, 500)
    assert row["pressure"] == pytest.approx(NIST_PRESSURE, abs=4 * row["pressure_error"] + 0.02)
    assert row["energy"] == pytest.approx(NIST_ENERGY, abs=4 * row["energy_error"] + 0.004)
    comparison = (out / "comparison.txt").read_text()
    assert "Standard Reference Database 173" in comparison
    assert "4 standard errors" in comparison
    for text in (comparison, printed):
        assert text.count("agrees") == 2
        assert "DIFFERS" not in text


def test_agrees_with_nist(done: tuple[Path, str]) -> None:
    assert_agrees_with_nist(*done)


def test_figure_is_a_picture(done: tuple[Path, str]) -> None:
    pixels = pytest.importorskip("matplotlib.image").imread(done[0] / "isotherms.png")
    height, width, _ = pixels.shape
    assert width >= 1200
    assert height >= 1000
    assert (pixels[..., :3].min(axis=2) < 0.9).mean() > 0.01, "it is blank"


def test_second_start_runs_nothing(done: tuple[Path, str]) -> None:
    out, printed = done
    files = [out / "table.csv", out / "isotherms.png", out / "comparison.txt"]
    logs, times = complete(out), [file.stat().st_mtime_ns for file in files]
    assert sweep(out) == printed
    assert complete(out) == logs
    assert [file.stat().st_mtime_ns for file in files] == times


def test_without_its_journal_the_memo_serves(done: tuple[Path, str]) -> None:
    out, printed = done
    logs = complete(out)
    shutil.rmtree(out / "run.heald")
    assert sweep(out) == printed
    assert complete(out) == logs


def test_killed_and_started_again_it_goes_on(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    command, environ = start(tmp_path)
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: len(complete(tmp_path)) >= 2 or process.poll() is not None, timeout=60)
        early = complete(tmp_path)
        # On two cores, these have been followed by others by then: that they ended is recorded.
        wait_until(lambda: len(complete(tmp_path)) >= len(early) + 3 or process.poll() is not None, timeout=60)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "table.csv").exists()
    sweep(tmp_path)
    assert len(rows(tmp_path)) == RUNS
    assert early.items() <= complete(tmp_path).items(), "a run that had ended was run again"


def test_over_two_nodes_of_a_cluster(slurm: Slurm, tmp_path: Path) -> None:
    programs, out = Path(sys.executable).parent, tmp_path / "out"
    (tmp_path / "testbed.toml").write_text(
        f'scheduler = "slurm"\nqueue = "batch"\nsetup = ["export PATH={programs}:$PATH"]\n[node]\ncores = 4\n'
    )
    run = [sys.executable, "-m", "heald", "run", "--site", "testbed", "--nodes", "2", "--walltime", "10m"]
    around = {"HEALD_SITE_PATH": str(tmp_path), "COLUMNS": "100", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = [*run, SCRIPT, "--quick", "--spread", "2", "--out", out]
    done = slurm.hosts.run(HEAD, words, folder=tmp_path, environment=around, timeout=240)
    assert_agrees_with_nist(out, done.stdout)
    assert len(rows(out)) == len(complete(out)) == RUNS
    logs = [file.read_text() for file in out.glob("runs/*/log.lammps")]
    assert sum("1 by 1 by 2 MPI processor grid" in log for log in logs) == 2
    history = Run(out / "run.heald").history()
    works = [history.works[record.task.work] for record in history.records.values()]
    assert [work.resources.nodes for work in works if work.resources.ranks == 2] == [2, 2]
