"""Keeps heald from being a burden to a scheduler that thousands share, and its outages from being taken for answers.

However many ask, one question at a time goes to the scheduler, and answers are shared for a while. When it cannot be
reached, it is left in peace for longer and longer, and who asks in the meantime is told so at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from heald.core.errors import SchedulerUnreachable
from heald.core.quantity import duration
from heald.site.scheduler import Job, JobState, JobStatus, Nodes, Queue, Scheduler

_LONGEST = 300.0  # seconds between two tries to reach it


class Throttle:
    """A `Scheduler` that asks another: for the status of jobs at most every `interval` seconds.

    A job that was just submitted is queued until the next time. `clock` gives seconds.
    """

    def __init__(self, scheduler: Scheduler, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.scheduler = scheduler
        self.interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, JobStatus] = {}
        self._asked: set[str] = set()  # since the last answer
        self._answered = -interval
        self._pause = 0.0  # how long it is left in peace after the next failure
        self._again = 0.0
        self._why = ""

    def submit(self, job: Job) -> str:
        """See `Scheduler`."""
        with self._reaching():
            id = self.scheduler.submit(job)
            self._known[id] = JobStatus(JobState.queued)
            return id

    def status(self, ids: Iterable[str]) -> Mapping[str, JobStatus]:
        """See `Scheduler`. As it was at most `interval` seconds ago."""
        asked = set(ids)
        with self._lock:
            self._asked |= asked
            fresh = self._clock() - self._answered < self.interval
            if not (fresh and asked <= self._known.keys()):
                with self._trying():
                    self._known = dict(self.scheduler.status(sorted(self._asked)))
                self._answered, self._asked = self._clock(), set()
            return {id: self._known[id] for id in asked}

    def cancel(self, ids: Iterable[str]) -> None:
        """See `Scheduler`."""
        with self._reaching():
            self.scheduler.cancel(ids)
            self._answered = -self.interval  # whoever asks next wants to see it

    def nodes(self) -> Sequence[Nodes]:
        """See `Scheduler`."""
        with self._reaching():
            return self.scheduler.nodes()

    def queues(self) -> Sequence[Queue]:
        """See `Scheduler`."""
        with self._reaching():
            return self.scheduler.queues()

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        with self._lock, self._trying():
            yield

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """Around each question, under the lock."""
        wait = self._again - self._clock()
        if wait > 0:
            raise SchedulerUnreachable(self._why, hint=f"it is asked again in {duration(wait)}")
        try:
            yield
        except SchedulerUnreachable as error:
            self._pause = min(max(1.0, 2 * self._pause), _LONGEST)
            self._again, self._why = self._clock() + self._pause, error.message
            raise
        self._pause = 0.0
