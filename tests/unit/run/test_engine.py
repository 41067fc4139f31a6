"""The engine, asked through sessions: threads of this process carry the tasks out, so that a test can hold them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import heald
from heald.core.errors import UsageError
from heald.core.state import State
from heald.run.engine import Engine


class Hold:
    """A task that waits inside until the test lets it go on."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> str:
        self.entered.set()
        assert self.go.wait(30)
        return "went on"


@pytest.fixture
def hold() -> Iterator[Hold]:
    made = Hold()
    yield made
    made.go.set()


@pytest.fixture
def session(hold: Hold) -> Iterator[heald.Session]:
    session = heald.Session([heald.ThreadExecutor(1)], memo=None).start()
    yield session
    hold.go.set()
    session.close(cancel=True)


def engine_of(session: heald.Session) -> Engine:
    assert session._engine is not None
    return session._engine


class TestTurns:
    def test_what_was_submitted_runs_in_its_order(self, session: heald.Session, hold: Hold) -> None:
        ran: list[int] = []
        session.submit(hold)
        futures = [session.submit(ran.append, number) for number in range(100)]
        hold.go.set()
        heald.wait(futures)
        assert ran == list(range(100))

    def test_priority_goes_first(self, session: heald.Session, hold: Hold) -> None:
        ran: list[int] = []
        session.submit(hold)
        futures = [heald.task(priority=number % 3)(ran.append).submit(number) for number in range(9)]
        hold.go.set()
        heald.wait(futures)
        assert ran == [2, 5, 8, 1, 4, 7, 0, 3, 6]

    def test_post_is_done_in_its_thread(self, session: heald.Session) -> None:
        engine = engine_of(session)
        assert engine.ask(threading.current_thread).name == "heald-engine"
        assert engine.ask(lambda: engine.ask(lambda: engine.inside))
        assert not engine.inside

    def test_ask_does_not_wait_for_ever(self, session: heald.Session) -> None:
        engine, go = engine_of(session), threading.Event()
        engine.post(lambda: go.wait(30))  # type: ignore[arg-type]
        with pytest.raises(heald.HealdError, match="does not answer"):
            engine.ask(lambda: 1, timeout=0)
        go.set()

    def test_what_is_after_comes_in_order_of_time(self, session: heald.Session) -> None:
        engine, called, over = engine_of(session), list[int](), threading.Event()

        def plan() -> None:
            engine.after(0.002, lambda: called.append(2))
            engine.after(0.0, lambda: called.append(0))
            engine.after(0.001, lambda: called.append(1))
            engine.after(0.003, over.set)

        engine.post(plan)
        assert over.wait(30)
        assert called == [0, 1, 2]

    def test_shared_memory_that_nobody_needs_any_more_goes_back(
        self, session: heald.Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("heald.data.arena._WARM", 2**20)
        monkeypatch.setattr("heald.data.arena._TRIM_SECONDS", 0.0)
        monkeypatch.setattr("heald.run.engine._TRIM", 0.01)
        engine = engine_of(session)
        engine.arena.write(bytes(2**24))
        deadline = time.monotonic() + 30
        while os.fstat(engine.arena.fd).st_blocks * 512 > 2**21:
            assert time.monotonic() < deadline
            engine.ask(lambda: None)

    def test_drain_waits_for_all_that_came_before(self, session: heald.Session, hold: Hold) -> None:
        engine = engine_of(session)
        session.submit(hold)
        assert not engine.drain(timeout=0)
        hold.go.set()
        for _ in range(100):
            session.submit(abs, -1)
        assert engine.drain()
        assert session.tally.open == 0
        assert session.tally.done == 101


class TestLooking:
    def test_states_of_a_task(self, session: heald.Session, hold: Hold) -> None:
        engine = engine_of(session)
        first = session.submit(hold)
        second = session.submit(abs, -1)
        third = session.submit(abs, session.submit(abs, second))
        hold.entered.wait(30)
        assert engine.ask(lambda: engine.state(second.task)) is State.ready
        assert engine.state(third.task) is State.waiting
        assert "is ready to run: needs 1 cpu" in second.explain()
        assert "it waits for abs#3 (waiting)" in third.explain()
        hold.go.set()
        assert third.result() == 1
        assert engine.state(first.task) is None
        assert "hold" in first.explain().lower()

    def test_one_that_nobody_could_run(self, session: heald.Session) -> None:
        wide = heald.task(cpus=64)(abs)
        with pytest.raises(heald.UsageError, match="can never run: thread: needs 64 cpus"):
            wide.submit(-1).result()


class TestCancelling:
    def test_what_waits_for_it_is_cancelled_too(self, session: heald.Session, hold: Hold) -> None:
        session.submit(hold)
        first = session.submit(abs, -1)
        second = session.submit(abs, first)
        assert first.cancel()
        with pytest.raises(heald.TaskCancelled, match="abs#2, which it needs, was cancelled"):
            second.result(30)

    def test_cancel_waiting_leaves_what_runs(self, session: heald.Session, hold: Hold) -> None:
        running = session.submit(hold)
        waiting = [session.submit(abs, -1) for _ in range(3)]
        hold.entered.wait(30)
        session.cancel_waiting()
        for future in waiting:
            with pytest.raises(heald.TaskCancelled, match="shut down"):
                future.result(30)
        hold.go.set()
        assert running.result() == "went on"


class TestRetries:
    def test_until_it_does_well(self, session: heald.Session) -> None:
        tried: list[int] = []

        def third_time() -> int:
            tried.append(1)
            if len(tried) < 3:
                raise OSError("not yet")
            return len(tried)

        assert heald.task(retries=heald.Retry(limit=5, delay=0.001))(third_time).submit().result() == 3

    def test_a_hook_is_asked(self, session: heald.Session) -> None:
        asked: list[tuple[str, int]] = []

        def hook(failure: Any, attempt: int) -> bool:
            asked.append((failure.message, attempt))
            return attempt < 2

        with pytest.raises(ZeroDivisionError):
            heald.task(retries=5, retry_if=hook)(lambda: 1 / 0).submit().result()
        assert asked == [("ZeroDivisionError: division by zero", 1), ("ZeroDivisionError: division by zero", 2)]

    def test_a_hook_that_raises_ends_the_task(self, session: heald.Session) -> None:
        def hook(failure: Any, attempt: int) -> bool:
            raise LookupError("the hook is broken")

        failed = heald.task(retries=5, retry_if=hook)(lambda: 1 / 0).submit()
        assert isinstance(failed.exception(), ZeroDivisionError)
        assert session.submit(abs, -1).result() == 1


class TestTheEnd:
    def test_what_comes_in_while_it_closes_is_cancelled(self, hold: Hold) -> None:
        session = heald.Session([heald.ThreadExecutor(1)], memo=None).start()
        engine, late = engine_of(session), list[Any]()
        session.submit(hold)
        waiting = session.submit(abs, -1)
        waiting.add_done_callback(lambda _: late.append(session.submit(abs, -2)))
        hold.entered.wait(30)
        waiting.add_done_callback(lambda _: hold.go.set())
        session.close(cancel=True)
        assert waiting.cancelled()
        assert all(future.done() for future in late)
        assert not engine._thread.is_alive()

    def test_a_callback_that_submits_for_ever_does_not_hold_it_up(self) -> None:
        session = heald.Session([heald.ThreadExecutor(1)], memo=None).start()
        engine, futures, over = engine_of(session), list[Any](), threading.Event()

        def again(done: Any) -> None:
            try:
                futures.append(session.submit(abs, -1))
            except UsageError:  # the session is closed
                over.set()
            else:
                futures[-1].add_done_callback(again)

        futures.append(session.submit(abs, -1))
        futures[0].add_done_callback(again)
        futures[0].result()
        session.close(cancel=True)
        assert over.wait(30)
        assert all(future.done() for future in futures)
        assert not engine._thread.is_alive()

    def test_a_fault_of_ours_fails_all_loudly(self, hold: Hold, caplog: pytest.LogCaptureFixture) -> None:
        session = heald.Session([heald.ThreadExecutor(1)], memo=None).start()
        running, waiting = session.submit(hold), session.submit(abs, -1)
        hold.entered.wait(30)
        with caplog.at_level(logging.CRITICAL):
            engine_of(session).post(lambda: 1 / 0)  # type: ignore[arg-type]
            for future in (running, waiting):
                with pytest.raises(heald.TaskError, match="the engine stopped: ZeroDivisionError") as raised:
                    future.result(30)
                assert "report" in raised.value.hint
        assert "the engine stopped" in caplog.text
        with pytest.raises(heald.TaskError, match="the engine stopped"):
            session.submit(abs, -1).result(30)
        session.close()
