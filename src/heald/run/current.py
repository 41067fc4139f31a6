"""The attempt that runs in this process, as its own code may ask for it, and how it is told that its time ends.

The driver side is `notice`. Each process that runs attempts says here which one is at work: `running`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import msgspec

from heald.core.event import Failure
from heald.core.retry import REQUEUED, USER
from heald.run.protocol import LEAVING

AGAIN = 75  # EX_TEMPFAIL of sysexits.h: "the user is invited to try again later"
_ENDED = (-signal.SIGUSR1, 128 + signal.SIGUSR1)  # as it is, and as a shell tells it of what it had started
_NONE = (0, 0)

_told: tuple[int, int] = _NONE
_why = b""


def _nothing() -> tuple[int, int]:
    return _NONE


running: Callable[[], tuple[int, int]] = _nothing  # the task and the attempt that is at work here


class CurrentAttempt:
    """An attempt, as its own code sees it: the id of its `task`, its `number` from 1, and whether its time is `ending`.

    >>> current_attempt().ending
    False
    """

    __slots__ = ("number", "task")

    def __init__(self, task: int, number: int) -> None:
        self.task = task
        self.number = number

    @property
    def ending(self) -> bool:
        """Whether it was told that its time ends: its walltime, or that of its nodes. See `notice` of a task."""
        return _told == (self.task, self.number) != _NONE


def current_attempt() -> CurrentAttempt:
    """The attempt that the caller runs in. Outside of a task's own process, one that is never told anything.

    >>> current_attempt().task
    0
    """
    return CurrentAttempt(*running())


def be(task: int, attempt: int) -> None:
    """This process runs nothing but that attempt, and gets SIGUSR1 when its time ends."""
    global running
    running = lambda: (task, attempt)  # noqa: E731
    signal.signal(signal.SIGUSR1, lambda number, frame: tell(task, attempt, LEAVING))


def tell(task: int, attempt: int, why: bytes) -> None:
    """Its time ends, for the reason of that word of the protocol."""
    global _told, _why
    _told, _why = (task, attempt), why


def told() -> bool:
    """Whether the running attempt was told that its time ends."""
    return _told != _NONE and _told == running()


def judged(failure: Failure, task: int, attempt: int) -> Failure:
    """A failure, which is none of the task's when it was told of its end and asks to be run again.

    >>> judged(Failure(USER, "the command exited with status 75", exit=75), 7, 1).kind
    'user'
    """
    if _told == (task, attempt):
        asks = failure.kind == REQUEUED or failure.exit == AGAIN
        if asks or (failure.exit in _ENDED and _why == LEAVING):
            return msgspec.structs.replace(failure, kind=REQUEUED)
    elif failure.kind == REQUEUED:
        hint = "only what was told of its end (the option notice=) is run again at no charge; else there is retries="
        return msgspec.structs.replace(failure, kind=USER, hint=hint)
    return failure
