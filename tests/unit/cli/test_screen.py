from __future__ import annotations

import json

import pytest

from heald.cli import screen
from heald.cli.table import Column, coloured


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


def test_long_tables_and_documents_are_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    screen.say_table([Column("ID", str, right=True)], range(2500))
    assert capsys.readouterr().out.splitlines() == [f"{text:>4}" for text in ("ID", *range(2500))]
    screen.say_documents(range(2500))
    assert json.loads(capsys.readouterr().out) == list(range(2500))
