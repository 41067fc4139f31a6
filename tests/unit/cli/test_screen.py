from __future__ import annotations

import pytest

from heald.cli import screen
from heald.cli.table import coloured


def test_a_pipe_takes_any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert screen.width() is None
    monkeypatch.setenv("COLUMNS", "66")
    assert screen.width() == 66


def test_a_pipe_gets_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    screen.say(coloured("failed", "red"))
    assert capsys.readouterr().out == "failed\n"


def test_a_pipe_gets_all_rows() -> None:
    assert len(screen.some(range(1000), None)) == 1000
    assert list(screen.some(range(1000), 2)) == [0, 1]


def test_a_terminal_gets_the_first_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert len(screen.some(range(1000), None)) == 50


def test_who_cannot_be_asked_has_not_agreed(capsys: pytest.CaptureFixture[str]) -> None:
    assert screen.confirmed("Really?", yes=True)
    assert not screen.confirmed("Really?", yes=False)
    assert capsys.readouterr().err == "Nothing is removed: add --yes\n"
