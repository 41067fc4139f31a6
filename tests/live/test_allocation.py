"""`heald site check` and `heald allocation` on a real Slurm."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.testbed.host import python
from tests.testbed.slurm import Slurm

pytestmark = pytest.mark.live

STUDY = """
import time, heald

@heald.task
def nap(number):
    time.sleep(0.5)
    return number

executor = heald.ClusterExecutor("./testbed.toml", nodes=1, workers=1, walltime="10m", blocks=1, silence=2)
with heald.Session([executor], memo=None, journal="run.heald"):
    print(sum(future.result() for future in nap.map(range(40))))
"""


@pytest.fixture
def heald(slurm: Slurm, tmp_path: Path) -> Callable[..., Any]:
    """`heald` on the head host; what it printed."""
    (tmp_path / "testbed.toml").write_text('name = "testbed"\nscheduler = "slurm"\n')
    program = str(Path(sys.executable).with_name("heald"))

    def run(*words: str, status: int = 0) -> Any:
        return slurm.hosts.run("n0", [program, *words], folder=tmp_path, status=status, timeout=60)

    return run


def test_a_site_that_works(heald: Callable[..., Any]) -> None:
    done = heald("site", "check", "./testbed.toml", "--nodes", "3", "--json")
    found = json.loads(done.stdout)
    assert [one["host"] for one in found["nodes"]] == ["n1", "n2", "n3"]
    assert all(one["launcher"] == "srun" and 0 < one["trip"] < 1 for one in found["nodes"])
    assert "3 of 3 agents are here" in done.stderr


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('queue = "nowhere"', "invalid partition"),
        ('setup = ["echo no such module; exit 3"]', "no such module"),
        ('interface = "127.0.0.1"', "nobody answers: tcp://127.0.0.1"),
    ],
)
def test_a_site_that_does_not(heald: Callable[..., Any], tmp_path: Path, keys: str, said: str) -> None:
    (tmp_path / "wrong.toml").write_text(f'name = "wrong"\nscheduler = "slurm"\n{keys}\n')
    assert said in heald("site", "check", "./wrong.toml", status=1).stderr


def test_a_site_that_tells_too_few_cores(heald: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text('scheduler = "slurm"\n[node]\ncores = 1\n')
    found = json.loads(heald("site", "check", "./small.toml", "--nodes", "2", "--json").stdout)
    assert [one["host"] for one in found["nodes"]] == ["n1", "n2"]
    cores = found["nodes"][0]["shape"]["cores"]
    told = f"n[1-2]: {cores} cores for a job, and the site says 1: set cores = {cores} in its [node]"
    assert (told in found["remarks"]) == (cores > 1)


def test_a_site_that_asks_for_more_cores_than_nodes_have(slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_text('scheduler = "slurm"\nexclusive = false\n[node]\ncores = 64\n')
    words = [Path(sys.executable).with_name("heald"), "site", "check", "./large.toml"]
    with slurm.hosts.start("n0", words, folder=tmp_path) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "cores" in line)
        assert said == "no node of slurm has more than 4 cores, and the site says 64: set cores = 4 in its [node]\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert slurm.command("squeue", "--noheader") == ""


def test_nodes_come_and_go_as_people_say(
    slurm: Slurm, heald: Callable[..., Any], tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    def listed() -> dict[str, Any]:
        return {one["id"]: one for one in json.loads(heald("allocation", "ls", "--json").stdout)}

    with slurm.hosts.start("n0", python(tmp_path, STUDY), folder=tmp_path) as process:
        wait_until(lambda: (tmp_path / "run.heald/agents/cluster/a1.out").exists(), timeout=30)
        wait_until(lambda: listed()["a1"]["agents"] == 1, timeout=30)
        assert "a2, a3" in heald("allocation", "add", "2").stdout
        wait_until(lambda: [one["agents"] for one in listed().values()] == [1, 1, 1], timeout=30)
        assert listed()["a2"]["job"] in slurm.command("squeue", "--noheader", "--format=%i").split()
        assert "a1 gets no more work" in heald("allocation", "release", "a1").stdout
        wait_until(lambda: listed()["a1"]["state"] == "cancelled", timeout=30)
        assert process.communicate(timeout=60)[0] == f"{sum(range(40))}\n"
    assert {one["state"] for one in listed().values()} == {"cancelled"}
    assert "start its script again" in heald("allocation", "add", "1", status=2).stderr
