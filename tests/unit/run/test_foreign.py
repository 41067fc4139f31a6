from __future__ import annotations

import concurrent.futures
import itertools
from collections.abc import Callable
from typing import Any

from heald.core.event import Cancelled, Failure, Finished
from heald.core.task import FOREIGN, Task, Work
from heald.run.foreign import adopted
from heald.run.future import Future
from heald.run.outcome import Live


class FakeHost:
    """Notes what it is told, and has acts done at once."""

    recorder = None

    def __init__(self) -> None:
        self.ids = itertools.count(7)
        self.works: dict[bytes, Work] = {}
        self.tasks: list[Task] = []
        self.events: list[Any] = []

    def define(self, digest: bytes, work: Work, function: Any, pickled: bytes) -> None:
        self.works[digest] = work

    def submit(self, task: Task, future: Future[Any], needed: Any) -> None:
        assert task.work in self.works
        self.tasks.append(task)

    def post(self, act: Callable[[], None]) -> None:
        act()

    def happened(self, event: Any) -> None:
        self.events.append(event)

    def now(self) -> float:
        return 5.0


def test_what_has_no_foreign_future_is_itself() -> None:
    host = FakeHost()
    own: Future[int] = Future(host, 1, "own")  # type: ignore[arg-type]
    value = [1, {"a": own}]
    assert adopted(value, host) is value
    assert not host.tasks


def test_each_foreign_future_becomes_one_task() -> None:
    host = FakeHost()
    one: concurrent.futures.Future[int] = concurrent.futures.Future()
    two: concurrent.futures.Future[int] = concurrent.futures.Future()
    first, [again, second] = adopted((one, [one, two]), host)
    assert first is again
    assert (first.task, second.task) == (7, 8)
    assert [task.id for task in host.tasks] == [7, 8]
    assert {work.kind for work in host.works.values()} == {FOREIGN}


def test_the_task_ends_as_the_future_does() -> None:
    host = FakeHost()
    good: concurrent.futures.Future[int] = concurrent.futures.Future()
    bad: concurrent.futures.Future[int] = concurrent.futures.Future()
    gone: concurrent.futures.Future[int] = concurrent.futures.Future()
    adopted([good, bad, gone], host)
    assert not host.events
    good.set_result(3)
    bad.set_exception(ValueError("mine"))
    gone.cancel()
    finished, failed, cancelled = host.events
    assert isinstance(finished, Finished)
    assert isinstance(finished.outcome, Live)
    assert (finished.task, finished.outcome.value, finished.recalled) == (7, 3, True)
    assert isinstance(failed.outcome, Failure)
    assert (failed.task, failed.outcome.message) == (8, "ValueError: mine")
    assert isinstance(cancelled, Cancelled)
    assert cancelled.task == 9


def test_a_future_that_is_over_already() -> None:
    host = FakeHost()
    over: concurrent.futures.Future[int] = concurrent.futures.Future()
    over.set_result(3)
    adopted(over, host)
    assert [event.task for event in host.events] == [7]


def test_what_is_nested_too_deeply_is_left_alone() -> None:
    value: Any = concurrent.futures.Future()
    for _ in range(100_000):
        value = [value]
    assert adopted(value, FakeHost()) is value
