"""Asking the process that drives a run, and stopping it. The process here is this one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

import heald
from heald.core.errors import HealdError, JournalLocked, UsageError
from heald.flow.driver import answers, driver_of
from heald.flow.run import Run
from heald.store.folder import Folder
from heald.store.owner import this_process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.heald"


@pytest.fixture
def session(path: Path) -> Iterator[heald.Session]:
    session = heald.Session([heald.ThreadExecutor(workers=2)], journal=path, memo=None, progress=False).start()
    yield session
    session.close(cancel=True)  # one that was stopped begins nothing more: it would never be drained


@pytest.fixture
def interrupts(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set by the interrupt that the main thread gets."""
    interrupted = threading.Event()
    usual = signal.signal(signal.SIGINT, lambda number, frame: interrupted.set())
    yield interrupted
    signal.signal(signal.SIGINT, usual)


def test_one_that_can_be_asked_answers(path: Path, session: heald.Session) -> None:
    assert answers(Run(path))
    session.close()
    assert not answers(Run(path))


def test_nobody_drives_a_run_that_is_over(path: Path, session: heald.Session) -> None:
    session.close()
    run = Run(path)
    assert driver_of(run, "heald task cancel {}") is None
    with pytest.raises(UsageError, match="does not run"):
        run.stop()


def test_one_that_is_just_ending_is_waited_for(path: Path, session: heald.Session) -> None:
    session.close()
    folder = Folder(path)
    folder.claim()  # a process that can be asked no more, and is not gone
    threading.Timer(0.2, folder.release).start()
    assert driver_of(Run(path), "heald task cancel {}") is None


def test_one_that_takes_long_to_begin_or_to_end_is_told_of(
    path: Path, session: heald.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.close()
    monkeypatch.setattr("heald.flow.driver._MOMENT", 0.1)
    folder = Folder(path)
    folder.claim()
    with pytest.raises(
        HealdError, match=f"process {os.getpid()}, which drives .*, cannot be asked: Connection refused"
    ):
        Run(path).stop()
    folder.release()


def test_between_two_lives_of_a_detached_script_nobody_may_touch_it(path: Path, session: heald.Session) -> None:
    session.close()
    run = Run(path)
    run.detached.supervise(os.getpid())
    with pytest.raises(HealdError, match="just starting"):
        run.cancel([])
    assert (path / "owner").exists() is False


def test_one_of_another_host_is_named_with_the_command(path: Path, session: heald.Session) -> None:
    session.close()
    (path / "owner").write_bytes(msgspec.json.encode(msgspec.structs.replace(this_process(), host="node07")))
    with pytest.raises(JournalLocked) as caught:
        Run(path).stop(now=True)
    assert caught.value.hint.startswith(f"ssh node07 heald run stop {path} --now; ")


def test_stop_interrupts_when_what_runs_is_over(
    path: Path, session: heald.Session, interrupts: threading.Event, wait_until: Callable[..., None]
) -> None:
    gate, entered = threading.Event(), threading.Event()

    def hold() -> bool:
        entered.set()
        return gate.wait(20)

    held = session.submit(hold)
    after = session.submit(lambda value: value, held)
    assert entered.wait(10)
    assert Run(path).stop() == [held.task]
    late = session.submit(abs, -1)
    assert not interrupts.is_set()
    gate.set()
    wait_until(interrupts.is_set)  # not by its own wait: a signal just before that would be seen only after it
    assert held.result(10)
    assert not after.done()
    assert not late.done()
    session.close(cancel=True)
    assert {after.cancelled(), late.cancelled()} == {True}


def test_stop_now_interrupts_at_once(
    path: Path, session: heald.Session, interrupts: threading.Event, wait_until: Callable[..., None]
) -> None:
    entered, gate = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        gate.wait(20)

    held = session.submit(hold)
    assert entered.wait(10)
    assert Run(path).stop(now=True) == [held.task]
    wait_until(interrupts.is_set)  # not by its own wait: a signal just before that would be seen only after it
    heald.wait([held], timeout=10)
    assert held.cancelled()
    gate.set()


def test_a_script_that_cannot_be_interrupted_says_so(path: Path, session: heald.Session) -> None:
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(HealdError, match="ignores SIGINT") as caught:
            Run(path).stop()
    finally:
        signal.signal(signal.SIGINT, usual)
    assert f"kill {os.getpid()}" in caught.value.hint
