"""An interpreter, of this same Python, started and asked by the test as a worker does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from heald.core.errors import StagingError
from heald.core.event import Failure
from heald.core.retry import REFUSED, RESULT, WORKER_LOST
from heald.data.payload import Sealed
from heald.run import interpreter
from heald.run.interpreter import Interpreter, own_folders, program
from heald.run.usage import Kills


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Interpreter]:
    made = Interpreter(sys.executable, [], program(tmp_path), [])
    yield made
    made.close()


@pytest.fixture
def call(there: Interpreter, tmp_path: Path) -> Callable[..., Any]:
    """Has it call a function; the value, or the Failure."""

    def ask(function: Callable[..., Any], *args: Any) -> Any:
        around = {
            "directory": str(tmp_path),
            "argv": ["study.py", "3"],
            "variables": {"X": "1"},
            "cores": sorted(os.sched_getaffinity(0)),
            "files": [str(tmp_path / "out"), str(tmp_path / "err")],
        }
        sealed = Sealed(cloudpickle.dumps((args, {})), (), ())
        pickled = cloudpickle.dumps(function)
        value = there.call((pickled[:16] + bytes(str(id(function)), "ascii"), pickled), sealed, {}, around, Kills())
        return value.open() if isinstance(value, Sealed) else value

    return ask


def test_it_says_who_it_is(there: Interpreter) -> None:
    assert there.version == tuple(sys.version_info[:3])
    assert there.name.startswith(f"{sys.executable} (Python {sys.version_info[0]}.")
    assert there.alive


def test_it_calls(call: Callable[..., Any], there: Interpreter, tmp_path: Path) -> None:
    def work(x: int) -> Any:
        import os

        print("working")
        return x + 1, os.getcwd(), sys.argv, os.environ["X"], os.getpid()

    assert call(work, 1) == (2, str(tmp_path), ["study.py", "3"], "1", there.pid)
    assert (tmp_path / "out").read_text() == "working\n"
    assert there.measured[1] > 1e6


def test_its_death_is_told_and_another_can_be_started(call: Callable[..., Any], there: Interpreter) -> None:
    def die() -> None:
        import os

        os._exit(9)

    lost = call(die)
    assert isinstance(lost, Failure)
    assert (lost.kind, lost.exit) == (WORKER_LOST, 9)
    assert not there.alive
    assert there.close() == 9


def test_one_that_was_killed_meanwhile(call: Callable[..., Any], there: Interpreter) -> None:
    os.kill(there.pid, signal.SIGKILL)
    os.waitid(os.P_PID, there.pid, os.WEXITED | os.WNOWAIT)
    assert not there.alive
    assert call(abs, -1).exit == -signal.SIGKILL


def test_signals_while_nothing_runs_change_nothing(call: Callable[..., Any], there: Interpreter) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        os.kill(there.pid, number)
    assert call(abs, -1) == 1


def test_code_is_for_one_version(there: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    code, name, plain = cloudpickle.dumps(lambda: 1), cloudpickle.dumps(abs), Sealed(b"", (), ())
    assert there.refusal(code, plain) is None
    monkeypatch.setattr(there, "version", (3, 99, 0))
    refused = there.refusal(code, plain)
    assert refused is not None
    assert (refused.kind, refused.final) == (REFUSED, True)
    assert there.refusal(name, plain) is None
    assert there.refusal(name, Sealed(b"", (), [Sealed(code, (), ())])) is not None
    monkeypatch.setattr(there, "version", (3, 7, 1))
    assert "too old" in there.refusal(name, plain).message  # type: ignore[union-attr]


def test_a_value_with_code_in_it_does_not_come_from_another_version(
    call: Callable[..., Any], there: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(there, "version", (3, 99, 0))
    assert call(abs, -1) == 1
    assert call(eval, "lambda: 1").kind == RESULT


@pytest.mark.parametrize(
    ("python", "words"), [("/nowhere/python", "could not be started"), ("false", "exited with status 1 before it said")]
)
def test_one_that_does_not_start(python: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(StagingError, match=words):
        Interpreter(python, [], program(tmp_path), [])


def test_the_program_is_made_once(tmp_path: Path) -> None:
    file = program(tmp_path)
    written = file.stat().st_mtime_ns
    assert program(tmp_path) == file
    assert file.stat().st_mtime_ns == written
    assert (file.parent / "cloudpickle" / "__init__.py").exists()
    assert os.listdir(tmp_path) == [file.parent.name]


def test_the_users_folders_are_neither_pythons_nor_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(packages), os.path.dirname(os.__file__), "/nowhere"])
    assert own_folders() == [str(tmp_path)]
    assert interpreter._HERE in sys.version
