"""The process that starts a script again, with scripts of a line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heald.run import supervisor


class Supervised:
    """A shell line, under a supervisor of its own."""

    def __init__(self, folder: Path, line: str, *, begin: bytes = b"\n") -> None:
        self.status = folder / "status"
        self.process = subprocess.Popen(
            [sys.executable, "-IS", supervisor.__file__, str(self.status), "/bin/sh", "-c", line],
            cwd=folder,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(begin)
        self.process.stdin.close()

    def end(self) -> tuple[int, str]:
        assert self.process.stderr is not None
        with self.process:
            said = self.process.stderr.read().decode()
        return int(self.status.read_text()), said


@pytest.mark.parametrize("status", [0, 3])
def test_what_exits_is_over(tmp_path: Path, status: int) -> None:
    assert Supervised(tmp_path, f"echo x >> tried; exit {status}").end() == (status, "")
    assert (tmp_path / "tried").read_text() == "x\n"


def test_what_is_killed_is_started_again(tmp_path: Path) -> None:
    status, said = Supervised(tmp_path, "test -e tried && exit 5; touch tried; kill -KILL $$").end()
    assert status == 5
    assert "Killed (signal 9): started again" in said


def test_not_without_end(tmp_path: Path) -> None:
    status, said = Supervised(tmp_path, "echo x >> tried; kill -SEGV $$").end()
    assert status == -signal.SIGSEGV
    assert (tmp_path / "tried").read_text() == "x\n" * 4
    assert "4 times within a minute" in said


@pytest.mark.parametrize("number", supervisor._WISHES)
def test_who_asks_it_to_end_means_it(tmp_path: Path, number: int) -> None:
    status, said = Supervised(tmp_path, f"echo x >> tried; kill -{number} $$").end()
    assert (status, said) == (-number, "")
    assert (tmp_path / "tried").read_text() == "x\n"


def test_what_it_is_asked_itself_it_passes_on(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    running = Supervised(tmp_path, "trap 'touch asked; exit 7' TERM; touch began; while :; do sleep 0.01; done")
    wait_until((tmp_path / "began").exists)
    running.process.send_signal(signal.SIGTERM)
    assert running.end()[0] == 7
    assert (tmp_path / "asked").exists()


def test_nothing_begins_when_nobody_knows_of_it(tmp_path: Path) -> None:
    begun = Supervised(tmp_path, "touch tried", begin=b"")
    with begun.process:
        assert begun.process.wait(10) == 1
    assert not (tmp_path / "tried").exists()


def test_the_script_has_nothing_that_the_starter_had(tmp_path: Path) -> None:
    left, right = os.pipe()
    os.set_inheritable(right, True)
    line = "ls /proc/self/fd > open; readlink /proc/self/fd/0 > input"
    command = [sys.executable, "-IS", supervisor.__file__, str(tmp_path / "status"), "/bin/sh", "-c", line]
    subprocess.run(command, cwd=tmp_path, input=b"\n", close_fds=False, check=True, timeout=30)
    os.close(left)
    os.close(right)
    assert (tmp_path / "open").read_text().split() == ["0", "1", "2", "3"], "3 is the listing"
    assert (tmp_path / "input").read_text() == "/dev/null\n"


def test_it_loads_nothing_but_the_standard_library() -> None:
    code = f"import runpy, sys; runpy.run_path({supervisor.__file__!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True).stdout
    assert {name.partition(".")[0] for name in loaded.split()} <= set(sys.stdlib_module_names) | {"__main__"}
