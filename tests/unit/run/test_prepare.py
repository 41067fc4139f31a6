"""What is prepared, in folders of the test; `tests/live/test_environment.py` has many workers do it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from heald.core.environment import Environment
from heald.core.errors import StagingError
from heald.run.prepare import prepare, script


def made(folder: Path, **software: str | tuple[str, ...]) -> object:
    return prepare(Environment(**software), folder, str(folder))  # type: ignore[arg-type]


def test_only_what_it_changes_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAME", "as before")
    found = prepare(Environment(setup=("export NEW='a\nb' SAME='as before'; cd /",)), tmp_path, str(tmp_path))
    assert found.variables == {"NEW": "a\nb"}
    assert (found.python, found.container) == (sys.executable, "")


def test_setup_runs_where_the_session_was_started_and_only_once(tmp_path: Path) -> None:
    for _ in range(2):
        made(tmp_path, setup=("echo x >> here",))
    assert (tmp_path / "here").read_text() == "x\n"
    made(tmp_path, setup=("echo y >> here",))
    assert (tmp_path / "here").read_text() == "x\ny\n"


def test_the_first_line_that_fails_ends_it_with_its_own_words(tmp_path: Path) -> None:
    line = "echo 'no licence' >&2; exit 4"
    with pytest.raises(StagingError, match=r"cannot be prepared: no licence \(exited with status 4\)") as caught:
        made(tmp_path, setup=(line, "touch never"))
    assert not (tmp_path / "never").exists()
    by_hand = caught.value.hint.rpartition(": ")[2].split()
    assert subprocess.run(by_hand, capture_output=True, cwd=tmp_path).returncode == 4
    assert "no licence" in Path(by_hand[1]).with_suffix(".log").read_text()


def test_it_is_tried_again_by_who_comes_later(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    software = Environment(setup=("test ! -e broken", "export X=1"))
    with pytest.raises(StagingError):
        prepare(software, tmp_path, str(tmp_path))
    (tmp_path / "broken").unlink()
    assert prepare(software, tmp_path, str(tmp_path)).variables == {"X": "1"}


def test_who_waited_does_not_try_again(tmp_path: Path) -> None:
    """The second comes while the first is at it, which waits for a file that the second's thread makes first."""
    software = Environment(setup=("echo x >> tried; while ! test -e go; do sleep 0.01; done; false",))
    failures: list[str] = []

    def attempt() -> None:
        try:
            prepare(software, tmp_path, str(tmp_path))
        except StagingError as raised:
            failures.append(raised.message)

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    threads[0].start()
    deadline = time.monotonic() + 20
    while not (tmp_path / "tried").exists():
        assert time.monotonic() < deadline
    threads[1].start()
    locks = f"/proc/{os.getpid()}/fd"
    while sum(os.path.realpath(f"{locks}/{one}").endswith("/lock") for one in os.listdir(locks)) < 2:
        assert time.monotonic() < deadline
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join(20)
    assert len(failures) == 2
    assert (tmp_path / "tried").read_text() == "x\n"


@pytest.mark.parametrize("python", ["nowhere", "/nowhere/python"])
def test_an_interpreter_that_there_is_not(python: str, tmp_path: Path) -> None:
    with pytest.raises(StagingError, match=f"there is no Python '{python}'"):
        made(tmp_path, python=python)


def test_an_interpreter_is_looked_for_where_setup_puts_it(tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(sys.executable)
    found = prepare(Environment(setup=(f"export PATH={tmp_path}:$PATH",), python="mine"), tmp_path, str(tmp_path))
    assert found.python == f"{tmp_path}/mine"


def test_requirements_that_change_make_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "uv"
    fake.write_text('#!/bin/sh\necho "$@" >> uv.log\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    requirements = tmp_path / "requirements.txt"
    pythons = set()
    for text in ("numpy", "numpy", "scipy"):
        requirements.write_text(text)
        found = prepare(Environment(uv=("-r", str(requirements))), tmp_path, str(tmp_path))
        pythons.add(found.python)
        assert found.variables["VIRTUAL_ENV"] == str(Path(found.python).parents[1])
    assert len(pythons) == 2
    calls = (tmp_path / "uv.log").read_text().splitlines()
    assert len(calls) == 4
    assert calls[0].startswith(f"venv --quiet --python {sys.executable}")


def test_a_container_is_tried_before_anything_runs_in_it(tmp_path: Path) -> None:
    with pytest.raises(StagingError, match="cannot be prepared"):
        made(tmp_path, container="ch:/nowhere")


def test_the_script_quotes_what_people_wrote() -> None:
    text = script(Environment(modules=("a b",), conda="m d", uv=("x; rm",)), Path("/e f"))
    assert "module load 'a b'\n" in text
    assert "activate 'm d')" in text
    assert "'x; rm'" in text
    assert text.endswith("env -0 > '/e f/variables'\n")
