"""What other threads leave for the one that owns the graph, and how they wait for it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from heald.core.errors import HealdError, UsageError
from heald.run.selector import Selector
from heald.run.tally import Tally

if TYPE_CHECKING:
    from heald.core.event import Failure
    from heald.core.task import Task
    from heald.run.future import Future

T = TypeVar("T")


class Inbox:
    """Tasks and acts for the engine's thread, which is woken by them. `limit`: tasks that may be open at a time."""

    _thread: threading.Thread

    def __init__(self, limit: int) -> None:
        self.selector = Selector()
        self.tally = Tally()
        self._limit = limit
        self._inbox: deque[Any] = deque()
        self._changed = threading.Condition()
        self._waiters = 0
        self._dead: Failure | None = None  # why nothing is run any more
        self._pid = os.getpid()

    def submit(self, task: Task, future: Future[Any], needed: Sequence[Future[Any]]) -> None:
        """Take a task in; `needed` are the futures of its inputs. Waits while too many tasks are not over."""
        if self.tally.open + len(self._inbox) >= self._limit:
            self._wait_for_room()
        self._inbox.append((task, future, needed))
        if self.selector.asleep:
            self.selector.wake()
        if self._dead is not None:
            self._refuse()

    def post(self, act: Callable[[], None]) -> None:
        """Have `act` called in the engine's thread."""
        self._inbox.append(act)
        self.selector.wake()

    def ask(self, question: Callable[[], T], timeout: float = 10.0) -> T:
        """The answer of a question about the graph, asked in the engine's thread."""
        if self.inside:
            return question()
        answer: list[T] = []
        ready = threading.Event()

        def reply() -> None:
            answer.append(question())
            ready.set()

        self.post(reply)
        if not ready.wait(timeout):
            raise HealdError("the engine does not answer", hint="is it stopped, or a callback of a future busy?")
        return answer[0]

    @property
    def inside(self) -> bool:
        """Whether the caller is in the engine's thread."""
        return threading.current_thread() is self._thread

    def check_wait(self) -> None:
        """Raise when waiting for a future in this thread would never end."""
        if self._pid != os.getpid():
            raise UsageError("the tasks of this future run in the process that this one was forked from")
        if self.inside:
            raise UsageError(
                "waiting for a future inside a callback would never end",
                hint="give the future to another task, or wait for it in a thread of your own",
            )

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until no task is open; False when `timeout` seconds were not enough."""
        return self._wait_until(lambda: not self._inbox and not self.tally.open, timeout)

    def _wait_for_room(self) -> None:
        if self.inside or threading.current_thread().name.startswith("heald-join"):
            return  # these are what makes room
        self._wait_until(lambda: self.tally.open + len(self._inbox) < self._limit, None)

    def _wait_until(self, met: Callable[[], bool], timeout: float | None) -> bool:
        with self._changed:
            self._waiters += 1
            try:
                return self._changed.wait_for(lambda: met() or self._dead is not None, timeout)
            finally:
                self._waiters -= 1

    def _refuse(self) -> None:
        """Settle all that is open: nothing will be run any more."""
        raise NotImplementedError
