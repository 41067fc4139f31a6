"""What every executor of `concurrent.futures` does, as a suite: the standard library's own pass it too.

A subclass gives the executor, and inherits the tests:

    class TestMine(ExecutorContract):
        @pytest.fixture
        def executor(self):
            with MyExecutor(workers=2) as executor:
                yield executor

A test that means nothing for an executor is taken out by its name: `test_map_... = None`. No test sleeps to wait for
something, or measures time: tasks that must last are held behind a Gate.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Executor,
    Future,
    as_completed,
    wait,
)
from pathlib import Path
from typing import Any

import pytest

from heald.testing.work import add, echo, fail, held, make_generator, touch

_MANY = 10  # more than any executor sends ahead to its two workers
_EXCEPTIONS = (
    ValueError("a", 1),
    KeyError("k"),
    StopIteration(3),
    FileNotFoundError(2, "no such file", "deck.in"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ExceptionGroup("two", [ValueError(1), TypeError(2)]),
    TimeoutError("its own, not ours"),
    GeneratorExit("g"),
    KeyboardInterrupt(),
)


class Gate:
    """Holds a task inside until `open`, in whatever process it runs: a FIFO, which blocks who reads."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._writer: int | None = None

    def wait_entered(self) -> None:
        """Wait until a task is inside."""
        self._writer = os.open(self.path, os.O_WRONLY)

    def open(self) -> None:
        """Let the task go on, and let in whoever comes later."""
        if not self.path.is_fifo():
            return
        fifo = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)  # also wakes one that is just entering
        free = self.path.with_suffix(".free")
        free.touch()
        free.replace(self.path)
        os.close(fifo)
        if self._writer is not None:
            os.close(self._writer)


class ExecutorContract:
    """The tests. `workers`: how many tasks the executor runs at the same time."""

    workers = 2

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        """A fresh executor, shut down after the test."""
        raise NotImplementedError("a subclass gives the fixture `executor`")

    @pytest.fixture
    def gate(self, executor: Executor, tmp_path: Path) -> Iterator[Callable[[], Gate]]:
        """Makes gates, all opened before the executor is shut down."""
        made: list[Gate] = []

        def make() -> Gate:
            made.append(Gate(tmp_path / f"gate-{len(made)}"))
            return made[-1]

        yield make
        for one in made:
            one.open()

    @pytest.fixture
    def busy(self, executor: Executor, gate: Callable[[], Gate]) -> list[Gate]:
        """The gates of tasks that occupy all workers."""
        gates = [gate() for _ in range(self.workers)]
        for one in gates:
            executor.submit(held, one.path)
        for one in gates:
            one.wait_entered()
        return gates

    # -- submit and result -------------------------------------------------------------------------------------------

    def test_gives_the_result(self, executor: Executor) -> None:
        """A call becomes a future of its value."""
        future = executor.submit(add, 1, second=2)
        assert isinstance(future, Future)
        assert future.result() == 3
        assert future.exception() is None
        assert future.done()
        assert not future.running()
        assert not future.cancelled()

    def test_takes_any_keyword(self, executor: Executor) -> None:
        """The names of its own parameters are free for the function's."""
        assert executor.submit(dict, self=1, fn=2, executor=3).result() == {"self": 1, "fn": 2, "executor": 3}

    @pytest.mark.parametrize(
        "value",
        [None, False, b"", 2**300, {"a": [(1, {2})]}, bytes(10_000_000), "ß\udcff"],
        ids=["None", "False", "empty", "int", "nested", "10 MB", "surrogate"],
    )
    def test_values_come_back_as_they_were(self, executor: Executor, value: object) -> None:
        """Whatever can be pickled goes in and out."""
        assert executor.submit(echo, value).result() == value

    def test_result_waits_no_longer_than_told(self, executor: Executor, gate: Callable[[], Gate]) -> None:
        """After TimeoutError the task goes on."""
        one = gate()
        future = executor.submit(held, one.path)
        for ask in (future.result, future.exception):
            with pytest.raises(TimeoutError):
                ask(timeout=0)
        one.wait_entered()
        assert not future.done()
        one.open()
        assert future.result() == "let go"

    def test_many_tasks(self, executor: Executor) -> None:
        """Thousands of futures, each with its own value."""
        futures = [executor.submit(echo, number) for number in range(3000)]
        assert [future.result() for future in futures] == list(range(3000))

    def test_many_threads_submit(self, executor: Executor) -> None:
        """`submit` may be called from any thread."""
        sums: list[int] = []

        def use() -> None:
            sums.append(sum(future.result() for future in [executor.submit(echo, number) for number in range(100)]))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sums == [sum(range(100))] * 8

    def test_one_long_task_holds_nobody(self, executor: Executor, gate: Callable[[], Gate]) -> None:
        """Short tasks pass a long one that came before them."""
        one = gate()
        long = executor.submit(held, one.path)
        one.wait_entered()
        assert list(executor.map(echo, range(100))) == list(range(100))
        assert not long.done()

    # -- exceptions --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("exception", _EXCEPTIONS, ids=lambda exception: type(exception).__name__)
    def test_exceptions_keep_type_and_args(self, executor: Executor, exception: BaseException) -> None:
        """What the task raised is what its future raises, and what `exception` returns."""
        future = executor.submit(fail, exception)
        found = future.exception()
        assert type(found) is type(exception)
        assert found.__dict__.keys() >= exception.__dict__.keys()
        assert repr(found.args) == repr(exception.args)
        with pytest.raises(type(exception)) as raised:
            future.result()
        assert raised.value is found

    def test_exceptions_show_where_they_come_from(self, executor: Executor) -> None:
        """The task's own traceback is in what is printed."""
        found = executor.submit(fail, ValueError("broken")).exception()
        assert found is not None
        text = "".join(traceback.format_exception(found))
        assert "in fail" in text
        assert "work.py" in text
        assert "ValueError: broken" in text

    def test_what_cannot_travel_fails_alone(self, executor: Executor) -> None:
        """An argument or a value that cannot be pickled is an error of that call; others go on."""
        for call in ((echo, make_generator()), (echo, threading.Lock()), (make_generator,)):
            with pytest.raises(Exception, match="pickle"):
                executor.submit(*call).result()
        assert executor.submit(echo, 1).result() == 1

    # -- cancelling --------------------------------------------------------------------------------------------------

    def test_what_waits_can_be_cancelled(self, executor: Executor, busy: list[Gate], tmp_path: Path) -> None:
        """It never runs, and its future says so."""
        pending = [executor.submit(touch, tmp_path / str(number)) for number in range(_MANY)]
        last = pending[-1]
        assert last.cancel()
        assert last.cancel()
        assert last.cancelled()
        assert last.done()
        assert not last.running()
        for ask in (last.result, last.exception):
            with pytest.raises(CancelledError):
                ask()
        for one in busy:
            one.open()
        executor.shutdown()
        assert [future.result() for future in pending[:-1]] == [str(number) for number in range(_MANY - 1)]
        assert not (tmp_path / str(_MANY - 1)).exists()

    def test_what_is_over_cannot_be_cancelled(self, executor: Executor) -> None:
        """Its value stays."""
        future = executor.submit(echo, 1)
        assert future.result() == 1
        assert not future.cancel()
        assert not future.cancelled()
        assert future.result() == 1

    # -- callbacks ---------------------------------------------------------------------------------------------------

    def test_callbacks_are_called_in_order(self, executor: Executor, busy: list[Gate]) -> None:
        """In the order in which they were added, each with the future."""
        called: list[Any] = []
        over = threading.Event()
        future = executor.submit(echo, 1)
        future.add_done_callback(called.append)
        future.add_done_callback(lambda one: called.append(one.result()))
        future.add_done_callback(lambda _: over.set())
        assert not called
        busy[0].open()
        assert over.wait(30)
        assert called == [future, 1]

    def test_callbacks_come_at_once_when_it_is_over(self, executor: Executor) -> None:
        """In the thread that adds them."""
        called: list[Any] = []
        future = executor.submit(echo, 1)
        future.result()
        future.add_done_callback(lambda one: called.append((one, threading.current_thread())))
        assert called == [(future, threading.current_thread())]

    def test_callbacks_that_raise_are_logged(
        self, executor: Executor, busy: list[Gate], caplog: pytest.LogCaptureFixture
    ) -> None:
        """They harm neither the future nor the next callback, and are not lost."""
        over = threading.Event()
        future = executor.submit(echo, 1)
        future.add_done_callback(lambda _: fail(ValueError("from a callback")))
        future.add_done_callback(lambda _: over.set())
        with caplog.at_level(logging.ERROR):
            busy[0].open()
            assert over.wait(30)
            future.add_done_callback(lambda _: fail(ValueError("from a late one")))
        assert future.result() == 1
        texts = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
        assert texts == ["from a callback", "from a late one"]

    def test_callbacks_come_however_it_ends(self, executor: Executor, busy: list[Gate]) -> None:
        """Also when it failed, or was cancelled."""
        ends: list[Any] = []
        over = threading.Event()
        failed = executor.submit(fail, ValueError())
        cancelled = [executor.submit(echo, 1) for _ in range(_MANY)][-1]
        cancelled.add_done_callback(lambda future: ends.append(future.cancelled()))
        failed.add_done_callback(lambda future: ends.append(type(future.exception())))
        failed.add_done_callback(lambda _: over.set())
        assert cancelled.cancel()
        assert ends == [True]
        busy[0].open()
        assert over.wait(30)
        assert ends == [True, ValueError]

    def test_a_callback_may_submit(self, executor: Executor) -> None:
        """One task after another, without a thread that waits."""
        values: list[int] = []
        over = threading.Event()

        def go_on(future: Future[int]) -> None:
            values.append(future.result())
            if len(values) < 20:
                executor.submit(add, future.result(), 1).add_done_callback(go_on)
            else:
                over.set()

        executor.submit(echo, 0).add_done_callback(go_on)
        assert over.wait(30)
        assert values == list(range(20))

    # -- map ---------------------------------------------------------------------------------------------------------

    def test_map_keeps_the_order(self, executor: Executor) -> None:
        """Values in the order of the inputs, as many as the shortest has."""
        assert list(executor.map(add, [1, 2, 3], [10, 20])) == [11, 22]
        assert list(executor.map(echo, range(500), chunksize=7)) == list(range(500))
        assert list(executor.map(echo, [])) == []

    def test_map_raises_in_place(self, executor: Executor) -> None:
        """What a call raises comes where its value would have come, not before."""
        values = executor.map(divmod, [7, 1, 8], [2, 0, 2])
        assert next(values) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            next(values)
        with pytest.raises(StopIteration):
            next(values)

    def test_map_begins_before_it_is_read(self, executor: Executor, tmp_path: Path) -> None:
        """All calls are submitted at once, read or not."""
        paths = [tmp_path / str(number) for number in range(20)]
        executor.map(touch, paths)
        executor.shutdown()
        assert all(path.exists() for path in paths)

    def test_map_waits_no_longer_than_told(self, executor: Executor, busy: list[Gate]) -> None:
        """TimeoutError comes from the iterator."""
        values = executor.map(echo, range(3), timeout=0)
        with pytest.raises(TimeoutError):
            next(values)

    def test_map_refuses_a_chunksize_below_one(self, executor: Executor) -> None:
        """At the call."""
        with pytest.raises(ValueError, match="chunksize"):
            executor.map(echo, [1], chunksize=0)

    # -- shutdown ----------------------------------------------------------------------------------------------------

    def test_shut_down_it_takes_nothing(self, executor: Executor) -> None:
        """RuntimeError; shutting down again does nothing."""
        future = executor.submit(echo, 1)
        executor.shutdown()
        executor.shutdown()
        assert future.result() == 1
        with pytest.raises(RuntimeError):
            executor.submit(echo, 1)
        with pytest.raises(RuntimeError):
            list(executor.map(echo, [1]))

    def test_shut_down_unused(self, executor: Executor) -> None:
        """Fine too."""
        executor.shutdown()
        with pytest.raises(RuntimeError):
            executor.submit(echo, 1)

    def test_with_waits(self, executor: Executor) -> None:
        """At the end of the block all is over."""
        with executor as entered:
            assert entered is executor
            futures = [executor.submit(echo, number) for number in range(100)]
        assert all(future.done() for future in futures)
        with pytest.raises(RuntimeError):
            executor.submit(echo, 1)

    def test_shutdown_need_not_wait(self, executor: Executor, busy: list[Gate]) -> None:
        """What was submitted is run all the same."""
        pending = [executor.submit(echo, number) for number in range(_MANY)]
        executor.shutdown(wait=False)
        assert not pending[-1].done()
        for one in busy:
            one.open()
        assert [future.result() for future in pending] == list(range(_MANY))

    def test_shutdown_can_cancel(self, executor: Executor, busy: list[Gate]) -> None:
        """What runs goes on, what waits is cancelled."""
        pending = [executor.submit(echo, number) for number in range(_MANY)]
        cancelled = threading.Event()
        pending[-1].add_done_callback(lambda _: cancelled.set())
        closing = threading.Thread(target=executor.shutdown, kwargs={"cancel_futures": True})
        closing.start()
        assert cancelled.wait(30)
        for one in busy:
            one.open()
        closing.join()
        assert pending[-1].cancelled()
        assert all(future.done() for future in pending)
        assert {future.result() for future in pending if not future.cancelled()} <= set(range(_MANY))

    # -- wait and as_completed ---------------------------------------------------------------------------------------

    def test_wait_for_all(self, executor: Executor) -> None:
        """Failed and cancelled ones are over too; one given twice counts once."""
        futures = [executor.submit(echo, 1), executor.submit(fail, ValueError())]
        done, not_done = wait([*futures, futures[0]], return_when=ALL_COMPLETED)
        assert done == set(futures)
        assert not not_done

    def test_wait_for_the_first(self, executor: Executor, gate: Callable[[], Gate]) -> None:
        """Returns while others run; again at once when one is over already."""
        one = gate()
        long, short = executor.submit(held, one.path), executor.submit(echo, 1)
        for _ in range(2):
            done, not_done = wait([long, short], return_when=FIRST_COMPLETED)
            assert done == {short}
            assert not_done == {long}
        one.open()
        assert wait([long]).done == {long}

    def test_wait_for_an_exception(self, executor: Executor, gate: Callable[[], Gate]) -> None:
        """A value does not end the wait, an exception does."""
        one = gate()
        long, short = executor.submit(held, one.path), executor.submit(echo, 1)
        failing = executor.submit(fail, ValueError())
        for _ in range(2):
            done, not_done = wait([long, short, failing], return_when=FIRST_EXCEPTION)
            assert failing in done
            assert long in not_done
        one.open()
        assert wait([long, short], return_when=FIRST_EXCEPTION).done == {long, short}

    def test_wait_no_longer_than_told(self, executor: Executor, gate: Callable[[], Gate]) -> None:
        """What is over is told, and what is not."""
        one = gate()
        long, short = executor.submit(held, one.path), executor.submit(echo, 1)
        short.result()
        done, not_done = wait([long, short], timeout=0)
        assert done == {short}
        assert not_done == {long}

    def test_as_completed(self, executor: Executor, gate: Callable[[], Gate]) -> None:
        """Each once, those that are over first; TimeoutError after them."""
        one = gate()
        long, short = executor.submit(held, one.path), executor.submit(echo, 1)
        over = as_completed([long, short, short])
        assert next(over) is short
        one.open()
        assert list(over) == [long]
        assert set(as_completed([long, short])) == {long, short}

    def test_as_completed_no_longer_than_told(self, executor: Executor, gate: Callable[[], Gate]) -> None:
        """Those that are over come before TimeoutError."""
        one = gate()
        long, short = executor.submit(held, one.path), executor.submit(echo, 1)
        short.result()
        found: list[Any] = []
        with pytest.raises(TimeoutError):
            found.extend(as_completed([long, short], timeout=0))
        assert found == [short]

    # -- asyncio -----------------------------------------------------------------------------------------------------

    def test_asyncio_awaits(self, executor: Executor) -> None:
        """`run_in_executor`, `wrap_future` and `gather`, with values and exceptions."""

        async def use() -> list[Any]:
            loop = asyncio.get_running_loop()
            calls = [loop.run_in_executor(executor, add, number, 1) for number in range(20)]
            wrapped = asyncio.wrap_future(executor.submit(fail, KeyError("k")))
            return await asyncio.gather(*calls, wrapped, return_exceptions=True)

        *values, raised = asyncio.run(use())
        assert values == list(range(1, 21))
        assert repr(raised) == "KeyError('k')"

    def test_asyncio_cancels(self, executor: Executor, busy: list[Gate]) -> None:
        """Cancelling the wrapper cancels the task."""
        last = [executor.submit(echo, 1) for _ in range(_MANY)][-1]

        async def use() -> None:
            wrapped = asyncio.wrap_future(last)
            wrapped.cancel()
            with pytest.raises(asyncio.CancelledError):
                await wrapped

        asyncio.run(use())
        assert last.cancelled()
