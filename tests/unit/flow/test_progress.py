from __future__ import annotations

import io
import sys
import threading
from typing import Any

import pytest

import heald
from heald.flow import progress
from heald.flow.progress import Progress
from heald.run.tally import Tally


class Engine:
    """What a progress bar looks at."""

    def __init__(self, *, runs: int = 0, **counts: int) -> None:
        self.tally = Tally()
        for name, count in counts.items():
            setattr(self.tally, name, count)
        self.looked = threading.Event()
        self._runs = runs

    def running(self) -> int:
        self.looked.set()
        return self._runs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(progress, "_PERIOD", 0.001)


def shown(engine: Any, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *, always: bool = False) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    display = Progress(engine, always=always)
    assert engine.looked.wait(10)
    display.close()
    return stream.getvalue()


@pytest.mark.usefixtures("impatient")
def test_it_shows_how_many_are_over_and_what_the_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(runs=3, submitted=20, done=5, failed=2, cancelled=1, recalled=4)
    text = shown(engine, monkeypatch, io.StringIO(), always=True)
    assert "8/20" in text
    for words in ("3 running", "4 known already", "2 failed", "1 cancelled"):
        assert words in text


@pytest.mark.usefixtures("impatient")
def test_it_does_not_mention_what_there_is_none_of(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(Engine(submitted=3, done=3), monkeypatch, io.StringIO(), always=True)
    assert "3/3" in text
    assert not any(words in text for words in ("running", "known", "failed", "cancelled"))


@pytest.mark.usefixtures("impatient")
def test_a_terminal_is_shown_it_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert "1/2" in shown(Engine(submitted=2, done=1), monkeypatch, Terminal())


@pytest.mark.usefixtures("impatient")
def test_it_is_quiet_when_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(submitted=2)
    Progress(engine, always=False).close()
    assert not engine.looked.is_set()
    assert capsys.readouterr().err == ""


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    engine = Engine(submitted=2)
    Progress(engine, always=True).close()
    assert not engine.looked.is_set()
    assert stream.getvalue() == ""


class Watched(Terminal):
    """Tells when somebody writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


@pytest.mark.usefixtures("impatient")
def test_a_session_shows_it_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Watched()
    monkeypatch.setattr(sys, "stderr", stream)
    with heald.Session([heald.ThreadExecutor(workers=1)], memo=None, progress=True) as session:
        for future in [session.submit(stream.written.wait, 10), *session.map(abs, range(9))]:
            future.result()
    assert "10/10" in stream.getvalue()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("stdout", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_what_is_printed_meanwhile_goes_where_it_should(stdout: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stderr, engine = Terminal(), Engine(submitted=2)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(sys, "stdout", stdout)
    display = Progress(engine, always=False)
    assert engine.looked.wait(10)
    print("a result")
    display.close()
    above = stdout.isatty()  # above the bar, on the terminal that both are
    assert ("a result" in stderr.getvalue()) is above
    assert ("a result" in stdout.getvalue()) is not above


@pytest.mark.parametrize("progress", [None, False])
def test_a_session_is_quiet_otherwise(progress: bool | None, capsys: pytest.CaptureFixture[str]) -> None:
    with heald.Session([heald.ThreadExecutor(workers=1)], memo=None, progress=progress) as session:
        assert session.submit(abs, -1).result() == 1
    assert capsys.readouterr().err == ""
