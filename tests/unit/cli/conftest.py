"""A run of a script, made once for the tests that look at it, and the command line called in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

SCRIPT = """
import sys

import heald

@heald.task(retries=1, tags={"density": "0.5"})
def simulate(x):
    print("simulating", x)
    if x == 2:
        print("it diverged", file=sys.stderr)
        raise ValueError("no such state point")
    return x

@heald.command(walltime="1m")
def convert(x):
    return f"echo converted {x}; exit {x}"

@heald.task
def fit(points):
    return sum(points)

with heald.Session([heald.ProcessExecutor(2)], journal="run.heald", memo=None, progress=False):
    points = [simulate.submit(x) for x in range(3)]         # 1, 2, 3: the third fails
    tables = [convert.submit(x) for x in range(2)]          # 4, 5: the second fails
    good = fit.submit(points[:2])                           # 6
    bad = fit.submit([good, points[2]])                     # 7: what it needs failed
    heald.wait([*points, *tables, good, bad])
"""


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of seven tasks, three of which failed; beside it is its script, study.py."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.py").write_text(SCRIPT)
    apart = {f"XDG_{name}_HOME": str(folder / "xdg") for name in ("STATE", "CACHE", "CONFIG")}
    subprocess.run([sys.executable, "study.py"], cwd=folder, env=os.environ | apart, check=True)
    return folder / "run.heald"


@pytest.fixture
def heald(study: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`heald` with these words, in the folder of the study, on 80 columns: its exit_code, stdout and stderr."""
    from heald.cli.program import app

    monkeypatch.chdir(study.parent)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *words: CliRunner().invoke(app, list(words), prog_name="heald")
