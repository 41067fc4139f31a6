"""Histories of runs that never were, told in one line a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from heald.core.event import (
    Cancelled,
    Closed,
    Defined,
    Event,
    Failure,
    Finished,
    Opened,
    Placed,
    Started,
    Submitted,
    Usage,
)
from heald.core.history import History
from heald.core.resources import Resources
from heald.core.retry import USER
from heald.core.task import FUNCTION, Payload, Task, Work

START = 1_000_000_000.0  # when every run here began

FAILS = Failure(
    USER, "ValueError: too <b>bold</b>", traceback="Traceback: line 7\nValueError: too <b>bold</b>", final=True
)


class Story:
    """What happens in a run, told task by task; times are seconds since it began."""

    def __init__(self) -> None:
        self.history = History()
        self._works: dict[tuple[str, int, str], bytes] = {}
        self._ids = iter(range(1, 1_000_000))
        self.tell(Opened(START, 4711, "box", "1000", "3.11.0", "0.1.0", ("fit.py", "--fast"), "/home/me"))

    def tell(self, *events: Event) -> Story:
        self.history.extend(events)
        return self

    def task(
        self,
        name: str,
        start: float | None = None,
        end: float | None = None,
        worker: int = 1,
        needs: Sequence[int] = (),
        cpus: int = 1,
        failure: Failure | None = None,
        kind: str = FUNCTION,
        usage: bool = True,
    ) -> int:
        """A task that was submitted, began if `start` says when, ended if `end` does; its id."""
        task = next(self._ids)
        digest = self._works.get((name, cpus, kind))
        if digest is None:
            work = Work(name, kind, b"function", resources=Resources(cpus=cpus))
            digest = self._works[name, cpus, kind] = work.digest()
            self.tell(Defined(digest, work))
        self.tell(Submitted(task, START, Task(task, digest, Payload(b""), tuple(needs))))
        if start is not None:
            self.tell(Placed(task, START + start, 1, "process", f"worker-{worker}"))
            self.tell(Started(task, START + start, 1, 100 + worker))
        if start is not None and end is not None:
            used = Usage(START + start, end - start) if usage else Usage()
            self.tell(Finished(task, START + end, 1, failure or Payload(b""), used))
        return task

    def cancel(self, task: int, time: float) -> None:
        self.tell(Cancelled(task, START + time, "enough"))

    def close(self, time: float) -> History:
        self.tell(Closed(START + time))
        return self.history

    def open_again(self, time: float) -> None:
        self.tell(Opened(START + time, 4712, "box", "1000", "3.11.0", "0.1.0", ("fit.py",), "/home/me"))


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def crowd() -> Callable[[int], History]:
    """A run of many short tasks on four workers, every hundredth of which fails."""

    def tell(count: int) -> History:
        story = Story()
        for number in range(count):
            begin = number // 4 * 0.01
            failure = FAILS if number % 100 == 99 else None
            story.task("analyse" if number % 2 else "simulate", begin, begin + 0.01, number % 4 + 1, failure=failure)
        return story.close(count * 0.0025)

    return tell
