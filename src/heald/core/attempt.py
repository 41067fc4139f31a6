"""The attempts of a task, folded from the events of its run."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from heald.core.event import Event, Failure, Finished, Placed, Returned, Started, Usage


class Attempt(msgspec.Struct):
    """One try of a task: `number`, where it was placed, when (seconds since the epoch, 0 for what has not happened),
    what it used, and why it failed.

    Numbers may leave gaps: an attempt that was placed and taken back before it began has one too.
    """

    number: int
    executor: str
    worker: str
    placed: float
    started: float = 0.0
    ended: float = 0.0
    pid: int = 0
    usage: Usage | None = None
    failure: Failure | None = None


def attempts(events: Iterable[Event], task: int) -> list[Attempt]:
    """The attempts of a task that began, or may yet.

    >>> attempts([Placed(7, 1.0, 1, "process", "worker-2"), Started(7, 1.5, 1, 4711)], 7)[0].pid
    4711
    """
    found: dict[int, Attempt] = {}
    for event in events:
        if getattr(event, "task", None) != task or not isinstance(event, Placed | Started | Returned | Finished):
            continue  # in this order, since the other way round each of millions would be asked what it is
        if isinstance(event, Placed):
            found[event.attempt] = Attempt(event.attempt, event.executor, event.worker, event.time)
        elif (attempt := found.get(event.attempt)) is None:
            continue
        elif isinstance(event, Started):
            attempt.started, attempt.pid = event.time, event.pid
        elif isinstance(event, Returned):
            del found[event.attempt]
        else:
            attempt.ended, attempt.usage = event.time, event.usage
            attempt.started = event.usage.started or attempt.started
            attempt.failure = event.outcome if isinstance(event.outcome, Failure) else None
    return list(found.values())
