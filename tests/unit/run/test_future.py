"""Futures alone, with the test in the engine's place; with real tasks they are in tests/contract/test_executor.py."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import pickle
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import heald
from heald.core.event import Failure
from heald.core.retry import CANCELLED, USER
from heald.core.state import State
from heald.core.task import Payload
from heald.data.payload import pack, unpack
from heald.run.future import Future, Submission, second
from heald.run.log import path
from heald.run.outcome import Live


class FakeOwner:
    """An engine of one task."""

    def __init__(self, logs: Path | None = None) -> None:
        self.logs = logs
        self.cancelled: list[tuple[int, str]] = []
        self.decoded = 0
        self.inside = False
        self.where: State | None = State.ready

    def cancel(self, task: int, reason: str) -> None:
        self.cancelled.append((task, reason))

    def decode(self, outcome: Any) -> Any:
        self.decoded += 1
        return unpack(outcome)

    def check_wait(self) -> None:
        if self.inside:
            raise heald.UsageError("it would never end")

    def state(self, task: int) -> State | None:
        return self.where

    def explain(self, task: int) -> str:
        return f"task {task} waits"

    def worker(self, task: int) -> str | None:
        return "worker-1" if self.where is State.running else None


@pytest.fixture
def owner() -> FakeOwner:
    return FakeOwner()


@pytest.fixture
def future(owner: FakeOwner) -> Future[Any]:
    return Future(owner, 7, "square")


def packed(value: object) -> Payload:
    return pack(value, None, subject="a value")[0]


BROKEN = Failure(USER, "ValueError: broken", packed(ValueError("broken")))


class TestAsking:
    def test_before_the_end(self, future: Future[Any], owner: FakeOwner) -> None:
        assert isinstance(future, concurrent.futures.Future)
        assert not future.done()
        assert not future.cancelled()
        assert not future.running()
        owner.where = State.running
        assert future.running()
        with pytest.raises(TimeoutError, match=r"square#7 is not over after 0\.0 seconds"):
            future.result(0.0)
        with pytest.raises(TimeoutError):
            future.exception(0.0)

    def test_a_value_is_unpickled_once_and_only_when_asked_for(self, future: Future[Any], owner: FakeOwner) -> None:
        future._settle(packed([1]))
        assert future.done()
        assert owner.decoded == 0
        assert future.result() is future.result()
        assert future.exception() is None
        assert owner.decoded == 1

    def test_none_is_a_value(self, future: Future[Any], owner: FakeOwner) -> None:
        future._settle(packed(None))
        assert future.result() is None
        assert future.result() is None
        assert owner.decoded == 1

    def test_a_live_value_is_handed_on(self, future: Future[Any], owner: FakeOwner) -> None:
        value = object()
        future._settle(Live(value))
        assert future.result() is value
        assert owner.decoded == 0

    def test_a_failure_is_one_exception(self, future: Future[Any]) -> None:
        future._settle(BROKEN)
        with pytest.raises(ValueError, match="broken") as raised:
            future.result()
        assert future.exception() is raised.value
        assert not future.cancelled()

    def test_a_value_that_cannot_be_unpickled(self, future: Future[Any]) -> None:
        future._settle(Payload(b"no pickle"))
        with pytest.raises(heald.ResultError, match="square#7: the value cannot be unpickled here"):
            future.result()
        assert isinstance(future.exception(), heald.ResultError)

    def test_a_value_that_is_lost(self, future: Future[Any], owner: FakeOwner, monkeypatch: pytest.MonkeyPatch) -> None:
        def lost(outcome: Any) -> Any:
            raise heald.JournalCorrupt("the object 0a is gone", hint="start again")

        monkeypatch.setattr(owner, "decode", lost)
        future._settle(packed(3))
        with pytest.raises(heald.ResultError) as raised:
            future.result()
        assert raised.value.message.endswith("the object 0a is gone")
        assert raised.value.hint == "start again"

    def test_an_exception_may_be_a_value(self, future: Future[Any]) -> None:
        future._settle(packed(ValueError("a value")))
        assert repr(future.result()) == "ValueError('a value')"
        assert future.exception() is None

    def test_whoever_waits_is_woken(self, future: Future[Any]) -> None:
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(future.result(30))) for _ in range(5)]
        for thread in threads:
            thread.start()
        future._settle(packed(1))
        for thread in threads:
            thread.join()
        assert found == [1] * 5

    def test_waiting_where_it_would_never_end(self, future: Future[Any], owner: FakeOwner) -> None:
        owner.inside = True
        with pytest.raises(heald.UsageError):
            future.result()
        future._settle(packed(1))
        assert future.result() == 1

    def test_explain_and_repr(self, future: Future[Any]) -> None:
        assert repr(future) == "<heald.Future square#7 pending>"
        assert future.explain() == "task 7 waits"
        future._settle(BROKEN)
        assert repr(future) == "<heald.Future square#7 done>"
        assert "broken" in future.explain()

    def test_logs(self, tmp_path: Path) -> None:
        future: Future[Any] = Future(FakeOwner(tmp_path), 7, "square")
        assert future.stdout is None
        file = path(tmp_path, 7, 2, "err")
        file.parent.mkdir()
        file.touch()
        assert future.stdout is None
        assert future.stderr == file
        assert Future(FakeOwner(), 7, "square").stdout is None

    def test_logs_of_one_that_runs_are_its_workers(self, tmp_path: Path) -> None:
        owner = FakeOwner(tmp_path)
        owner.where = State.running
        future: Future[Any] = Future(owner, 7, "square")
        (tmp_path / "worker-1.out").write_text("step 1")
        (tmp_path / "worker-1.err").touch()
        assert future.stdout == tmp_path / "worker-1.out"
        assert future.stderr is None
        future._settle(packed(1))
        assert future.stdout is None


class TestEnds:
    def test_only_the_first_counts(self, future: Future[Any]) -> None:
        assert future._settle(packed(1))
        assert not future._settle(packed(2))
        assert not future._settle(BROKEN)
        assert future.result() == 1

    def test_cancel_is_at_once_and_tells_the_owner(self, future: Future[Any], owner: FakeOwner) -> None:
        assert future.cancel()
        assert future.cancel()
        assert future.done()
        assert future.cancelled()
        assert owner.cancelled == [(7, "cancelled by its owner")]
        with pytest.raises(CancelledError) as raised:
            future.result()
        assert isinstance(raised.value, heald.TaskCancelled)
        with pytest.raises(CancelledError):
            future.exception()
        assert repr(future) == "<heald.Future square#7 cancelled>"

    def test_what_is_over_is_not_cancelled(self, future: Future[Any], owner: FakeOwner) -> None:
        future._settle(packed(1))
        assert not future.cancel()
        assert owner.cancelled == []

    def test_one_that_was_cancelled_from_elsewhere(self, future: Future[Any]) -> None:
        future._settle(Failure(CANCELLED, "the session was closed"), "CANCELLED_AND_NOTIFIED")
        assert future.cancelled()
        with pytest.raises(heald.TaskCancelled, match="the session was closed"):
            future.result()

    def test_nobody_else_may_end_it(self, future: Future[Any]) -> None:
        with pytest.raises(heald.UsageError):
            future.set_result(1)
        with pytest.raises(heald.UsageError):
            future.set_exception(None)
        with pytest.raises(heald.UsageError):
            future.set_running_or_notify_cancel()


class TestCallbacks:
    def test_are_called_in_order_once(self, future: Future[Any]) -> None:
        called: list[Any] = []
        future.add_done_callback(lambda one: called.append((1, one)))
        future.add_done_callback(lambda one: called.append((2, one)))
        future._settle(packed(1))
        future.add_done_callback(lambda one: called.append((3, one)))
        assert called == [(1, future), (2, future), (3, future)]

    @pytest.mark.parametrize("raised", [ValueError("v"), SystemExit(1), GeneratorExit(), asyncio.CancelledError()])
    def test_that_raise_are_logged(
        self, future: Future[Any], caplog: pytest.LogCaptureFixture, raised: BaseException
    ) -> None:
        def fail(_: object) -> None:
            raise raised

        called: list[Any] = []
        future.add_done_callback(fail)
        future.add_done_callback(called.append)
        future._settle(packed(1))
        assert called == [future]
        (record,) = caplog.records
        assert record.exc_info
        assert record.exc_info[1] is raised
        assert "square#7" in record.message

    def test_an_interrupt_is_the_users(self, future: Future[Any]) -> None:
        def interrupt(_: object) -> None:
            raise KeyboardInterrupt

        future._settle(packed(1))
        with pytest.raises(KeyboardInterrupt):
            future.add_done_callback(interrupt)

    @pytest.mark.parametrize("waited_for", [False, True])
    def test_none_is_lost_or_called_twice_in_any_race(self, waited_for: bool) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(200):
                self.race(waited_for)
        finally:
            sys.setswitchinterval(interval)

    def race(self, waited_for: bool) -> None:
        future: Future[Any] = Future(FakeOwner(), 1, "raced")
        if waited_for:
            concurrent.futures.wait([future], timeout=0)
        start = threading.Barrier(4)
        called: list[str] = []
        ended: list[bool] = []

        def add() -> None:
            start.wait()
            for name in "abc":
                future.add_done_callback(lambda _, name=name: called.append(name))  # type: ignore[misc]

        def end(act: Callable[[], bool]) -> None:
            start.wait()
            ended.append(act())

        threads = [threading.Thread(target=add)]
        threads += [threading.Thread(target=end, args=(lambda: future._settle(packed(1)),)) for _ in range(2)]
        threads += [threading.Thread(target=end, args=(future.cancel,))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(called) == ["a", "b", "c"]
        assert sum(ended) == 1
        assert future.cancelled() == ended[-1] or future.done()


class TestWithTheStandardLibrary:
    def test_wait_and_as_completed(self, owner: FakeOwner) -> None:
        good, bad, cancelled, open_ = (Future[Any](owner, task, "one") for task in range(4))
        good._settle(packed(1))
        bad._settle(BROKEN)
        cancelled.cancel()
        assert concurrent.futures.wait([good, bad, cancelled, open_], timeout=0).done == {good, bad, cancelled}
        first = concurrent.futures.wait([good, bad, open_], return_when=concurrent.futures.FIRST_EXCEPTION)
        assert first.done == {good, bad}
        assert set(concurrent.futures.as_completed([good, bad, cancelled, good])) == {good, bad, cancelled}

    def test_a_waiting_wait_is_told(self, owner: FakeOwner) -> None:
        futures = [Future[Any](owner, task, "one") for task in range(3)]
        found: list[Any] = []
        waiting = threading.Thread(target=lambda: found.extend(concurrent.futures.as_completed(futures, timeout=30)))
        waiting.start()
        futures[2]._settle(packed(1))
        futures[0]._settle(BROKEN)
        futures[1].cancel()
        waiting.join()
        assert set(found) == set(futures)

    def test_await(self, future: Future[Any]) -> None:
        async def use() -> Any:
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: future._settle(packed(1)))
            return await future

        assert asyncio.run(use()) == 1

    def test_await_of_a_failure(self, future: Future[Any]) -> None:
        async def use() -> Any:
            return await future

        future._settle(BROKEN)
        with pytest.raises(ValueError, match="broken"):
            asyncio.run(use())


class TestStandingForItsValue:
    def test_in_arguments_it_is_a_gap(self, future: Future[Any]) -> None:
        payload, placeholders = pack([future, {"a": future}], None, subject="the arguments")
        assert placeholders == [future]
        assert unpack(payload, inputs=[packed(3)]) == [3, {"a": 3}]

    def test_elsewhere_it_cannot_be_pickled(self, future: Future[Any]) -> None:
        with pytest.raises(heald.UsageError, match="only be pickled as an argument"):
            pickle.dumps(future)

    def test_an_item_is_a_future(self, future: Future[Any]) -> None:
        item = future["energy"][1]
        assert item.whole is future
        assert item.part == "['energy'][1]"
        assert not item.done()
        future._settle(packed({"energy": [1, 2]}))
        assert item.result() == 2
        assert repr(item) == "<heald.Future square['energy'][1]#7 done>"

    @pytest.mark.parametrize("use", [iter, list, lambda future: 1 in future, lambda future: (lambda a, b: a)(*future)])
    def test_it_has_items_but_none_after_another(self, future: Future[Any], use: Callable[[Any], Any]) -> None:
        with pytest.raises(TypeError, match=r"not iterable|must be an iterable"):
            use(future)

    def test_an_item_in_arguments(self, future: Future[Any]) -> None:
        payload, placeholders = pack([future["a"]["b"], future], None, subject="the arguments")
        whole = {"a": {"b": 5}}
        inputs = [packed(whole) if one.whole is future and not one.part else packed(whole["a"]) for one in placeholders]  # type: ignore[attr-defined]
        assert unpack(payload, inputs=inputs) == [5, whole]

    def test_an_item_that_is_not_there(self, future: Future[Any]) -> None:
        item = future["missing"]
        future._settle(packed({}))
        assert item.done()
        assert isinstance(item.exception(), KeyError)
        with pytest.raises(KeyError) as raised:
            item.result()
        assert raised.value.__notes__ == ["when square['missing'] was taken from what task square#7 returned"]

    def test_items_of_a_failure_fail_and_of_a_cancelled_are_cancelled(self, owner: FakeOwner) -> None:
        failed, cancelled = Future[Any](owner, 1, "one"), Future[Any](owner, 2, "two")
        of_failed, of_cancelled = failed["a"], cancelled["a"]
        failed._settle(BROKEN)
        cancelled.cancel()
        broken = of_failed.exception()
        assert isinstance(broken, ValueError)
        assert broken.__notes__ == ["in task one#1"]
        assert of_cancelled.cancelled()

    def test_outputs_are_futures_of_files(self, owner: FakeOwner) -> None:
        files = [Path("a"), Path("b")]
        future: Submission[Any] = Submission(owner, 7, "write", files)
        assert [one.done() for one in future.outputs] == [False, False]
        payload, placeholders = pack(future.outputs[1], None, subject="an argument")
        assert placeholders == [future]
        assert unpack(payload, inputs=[packed(None)]) == Path("b")
        future._settle(packed(None))
        assert [one.result() for one in future.outputs] == files
        assert second(1, 2) == 2


def test_one_takes_little_memory(owner: FakeOwner) -> None:
    gc.collect()
    futures: list[Future[Any]] = [Future(owner, task, "square") for task in range(100)]
    assert sum(map(sys.getsizeof, futures)) < 200 * len(futures)
    assert not any(future.__dict__ for future in futures)
