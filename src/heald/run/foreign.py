"""Futures of other executors, in arguments or in what a join returned: each becomes a task here that ends as it does.

Such a task is never placed: nothing runs for it.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from heald.core.event import Cancelled, Finished
from heald.core.task import FOREIGN, Payload, Task, Work
from heald.run.future import Future
from heald.run.outcome import Live, failure
from heald.run.thread import replaced

_WORK = Work("future", FOREIGN, b"foreign")
_DIGEST = _WORK.digest()


class Host(Protocol):
    """What this needs of the engine."""

    ids: Iterator[int]
    recorder: Any

    def define(self, digest: bytes, work: Work, function: Callable[..., Any], pickled: bytes) -> None:
        """Make a work known before the first task of it."""

    def submit(self, task: Task, future: Future[Any], needed: Any) -> None:
        """Take a task in."""

    def post(self, act: Callable[[], None]) -> None:
        """Have `act` called in the engine's thread."""

    def happened(self, event: Any) -> None:
        """Something happened to a task."""

    def now(self) -> float:
        """Seconds since the epoch."""


def adopted(value: Any, host: Any) -> Any:
    """`value` with the futures of other executors, in whatever containers, replaced by futures of tasks of `host`."""
    known: dict[Any, Future[Any]] = {}

    def adopt(future: Any) -> Future[Any]:
        if isinstance(future, Future):
            return future
        if future not in known:
            known[future] = _adopt(future, host)
        return known[future]

    try:
        return replaced(value, adopt)
    except RecursionError:  # nested too deeply to be looked into, or to travel
        return value


def _adopt(foreign: concurrent.futures.Future[Any], host: Any) -> Future[Any]:
    host.define(_DIGEST, _WORK, _adopt, b"")
    if host.recorder is not None:
        host.recorder.define(_DIGEST, _WORK)
    task = next(host.ids)
    future: Future[Any] = Future(host, task, _WORK.name)
    host.submit(Task(task, _DIGEST, Payload(b"")), future, ())
    foreign.add_done_callback(lambda over: _follow(over, task, host))
    return future


def _follow(over: concurrent.futures.Future[Any], task: int, host: Host) -> None:
    if over.cancelled():
        host.post(lambda: host.happened(Cancelled(task, host.now(), "cancelled in the executor that it came from")))
        return
    raised = over.exception()
    outcome = Live(over.result()) if raised is None else failure(raised)
    host.post(lambda: host.happened(Finished(task, host.now(), 0, outcome, recalled=True)))  # type: ignore[arg-type]
