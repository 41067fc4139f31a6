"""The software of one worker, which here is a process of the test's."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heald.core.environment import Environment
from heald.run import software as module
from heald.run.prepare import Prepared
from heald.run.software import Software

Apart = Callable[..., Any]


def test_variables_are_set_when_it_is_entered(apart: Apart, tmp_path: Path) -> None:
    def run() -> Any:
        software = Software(str(tmp_path), str(tmp_path), {})
        software.enter(Environment(setup=("export WEFT=wool",)))
        return os.environ["WEFT"], software.words(Environment()), software.processes

    assert apart(run) == ("wool", [], set())


def test_one_interpreter_serves_until_it_dies(apart: Apart, tmp_path: Path) -> None:
    def run() -> Any:
        software = Software(str(tmp_path), str(tmp_path), {})
        environment = Environment(python=sys.executable)
        first = software.interpreter(environment)
        again = software.interpreter(Environment({"OTHER": "1"}, "auto", python=sys.executable))
        other = software.interpreter(Environment(python=sys.executable, setup=("true",)))
        same = first is again, first is other, software.processes == {first.pid, other.pid}
        os.kill(first.pid, signal.SIGKILL)
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
        new = software.interpreter(environment)
        return *same, new.pid != first.pid, new.alive

    assert apart(run) == (True, False, True, True, True)


def test_one_interpreter_serves_where_modules_are_found_alike(apart: Apart, tmp_path: Path) -> None:
    def run() -> Any:
        software = Software(str(tmp_path), str(tmp_path), {})
        first = software.interpreter(Environment(python=sys.executable))
        sys.path.append(str(tmp_path))
        other = software.interpreter(Environment(python=sys.executable))
        return first is other, first.alive, software.interpreter(Environment(python=sys.executable)) is other

    assert apart(run) == (False, False, True)


def test_a_container_has_the_folders_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "prepare", lambda software, folder, home: Prepared(container=software.container))
    monkeypatch.setattr(module, "own_folders", lambda: ["/home/ada/study"])
    monkeypatch.chdir(tmp_path)
    software = Software("/runs/1", "/home/ada", {})
    found = software.words(Environment({"X": "1"}, container="podman:md"))
    assert {"-v=/runs/1:/runs/1", "-v=/home/ada:/home/ada", f"-w={tmp_path}"} <= set(found)
    assert {"--env=X", "--env=HEALD_TASK", "--env=OMP_NUM_THREADS"} <= set(found)


def test_what_was_prepared_holds_for_the_variables_that_it_began_with(apart: Apart, tmp_path: Path) -> None:
    def run() -> Any:
        for inherited in ({b"JOB": b"1"}, {b"JOB": b"1", b"SSH_TTY": b"3"}, {b"JOB": b"2"}):
            software = Software(str(tmp_path), str(tmp_path), inherited)
            software.enter(Environment(setup=("echo x >> prepared",)))
        return (tmp_path / "prepared").read_text()

    assert apart(run) == "x\nx\n"
