"""What the live tests share: a session, scripts in processes of their own, and a check that both left nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.live.study import Study
from tests.testbed.fixture import (  # noqa: F401
    accounted_slurm,
    each_mpi,
    flux,
    gridengine,
    hosts,
    pbs,
    slurm,
    testbeds_stay_clean,
)
from tests.testbed.slurm import Slurm

import heald

# Inherited by all that a test starts, however far down and whoever its parent is by then.
_MARK = "HEALD_TEST_LIVE"

Survivors = Callable[[], list[psutil.Process]]


@pytest.fixture(autouse=True)
def survivors(no_leftovers: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Survivors]:
    """The living processes that this test started, directly or not, with name and cmdline in their `info`.

    After the test there must be none.
    """
    mark = uuid.uuid4().hex
    monkeypatch.setenv(_MARK, mark)

    def find() -> list[psutil.Process]:
        running = psutil.process_iter(["name", "cmdline"])  # asked now: a moment later it may have ended
        return [process for process in running if process.pid != os.getpid() and _has(process, mark)]

    yield find
    psutil.wait_procs(find(), timeout=5)
    left = find()
    described = [f"{process.pid}: {' '.join(process.info['cmdline'] or ())}" for process in left]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=5)
    assert not described, f"these outlived the test: {described}"


@pytest.fixture
def session(survivors: Survivors) -> Iterator[heald.Session]:
    """Two workers, one second of grace, and nothing kept."""
    session = heald.Session([heald.ProcessExecutor(workers=2, grace=1)], memo=None).start()
    yield session
    session.close(cancel=True)


class Scripts:
    """Runs programs of users, each a text, in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(self, source: str, *arguments: object, name: str = "script.py") -> subprocess.Popen[str]:
        """Begin to run a program; its two outputs are pipes."""
        file = self.folder / name
        file.write_text(source)
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(file), *map(str, arguments)],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, source: str, *arguments: object, name: str = "script.py", status: int = 0) -> str:
        """Run a program to its end, which must be with `status`; what it printed, errors last."""
        process = self.start(source, *arguments, name=name)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == status, stdout + stderr
        return stdout + stderr


@pytest.fixture
def scripts(tmp_path: Path, survivors: Survivors) -> Iterator[Scripts]:
    """Runs programs in the test's folder, and ends those that it did not wait for."""
    scripts = Scripts(tmp_path)
    yield scripts
    for process in scripts.started:
        process.kill()
        process.communicate(timeout=10)


@pytest.fixture
def study(slurm: Slurm, tmp_path: Path, wait_until: Callable[..., None]) -> Study:  # noqa: F811
    """A script on the head of the Slurm testbed, in the test's folder."""
    return Study(slurm, tmp_path, wait_until)


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:  # it has ended, or it is another user's
        return False
