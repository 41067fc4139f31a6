"""When a failed attempt is tried again, after how long, and with what.

Pure: the engine asks `decide` with the failure, and gets the pause and the resources of the next attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from heald.core.resources import Resources, seconds

if TYPE_CHECKING:
    from datetime import timedelta

    Duration = timedelta | float | str  # as people write it; a task keeps its Retry in seconds
else:
    Duration = float

# Classes of failure, as they stand in `Failure.kind`.
USER = "user"  # the task raised, or its command ended with a status other than 0
WORKER_LOST = "worker-lost"
OUT_OF_MEMORY = "out-of-memory"
WALLTIME = "walltime"
STAGING = "staging"
RESULT = "result"  # the value cannot travel
DEPENDENCY = "dependency"
CANCELLED = "cancelled"
REFUSED = "refused"  # no place could ever run it
REQUEUED = "requeued"  # it was told that its time ends, and asks to be run again
KINDS = (USER, WORKER_LOST, OUT_OF_MEMORY, WALLTIME, STAGING, RESULT, DEPENDENCY, CANCELLED, REFUSED, REQUEUED)
# Trying again changes nothing for these.
_FINAL = frozenset((RESULT, DEPENDENCY, CANCELLED, REFUSED))


class Retry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How failed attempts are tried again.

    `limit`: attempts after the first. `on`: classes of failure that count against it. `delay`: the pause
    before the first retry, `backoff`: the factor from one pause to the next, `longest`: no pause is longer. `grow`:
    factor on memory after out-of-memory and on walltime after walltime. `lost`: attempts that a lost worker may cost
    before the task is held to be what kills workers; these are not charged to `limit`. Pauses are seconds, a timedelta
    or text ("5s", "1m").

    >>> Retry(limit=3, delay="1s").pause(3)
    4.0
    """

    limit: int = 0
    on: tuple[str, ...] = (USER, OUT_OF_MEMORY, WALLTIME, STAGING)
    delay: Duration = 0.0
    backoff: float = 2.0
    longest: Duration = 300.0
    grow: float = 1.0
    lost: int = 2

    def pause(self, tried: int) -> float:
        """Seconds to wait after failed attempt number `tried` (from 1)."""
        delay, longest = seconds(self.delay), seconds(self.longest)
        try:
            return min(longest, delay * self.backoff ** (tried - 1)) if delay else 0.0
        except OverflowError:
            return longest


ONCE = Retry()


def decide(retry: Retry, kind: str, charged: int, lost: int, needs: Resources) -> tuple[float, Resources] | None:
    """The pause in seconds and the resources of the next attempt, or None when there is none.

    `charged` counts the attempts so far that failed by the task's own doing, `lost` those whose worker was lost,
    both including the one that failed now by `kind`.

    >>> decide(Retry(limit=1, grow=2), OUT_OF_MEMORY, 1, 0, Resources(memory=100))[1].memory
    200
    >>> decide(Retry(limit=1), USER, 2, 0, Resources()) is None
    True
    """
    if kind in _FINAL:
        return None
    if kind == REQUEUED:
        return 0.0, needs
    if kind == WORKER_LOST:
        return (retry.pause(lost), needs) if lost <= retry.lost else None
    if kind not in retry.on or charged > retry.limit:
        return None
    if kind == OUT_OF_MEMORY and needs.memory:
        needs = msgspec.structs.replace(needs, memory=int(needs.memory * retry.grow))
    elif kind == WALLTIME and needs.walltime:
        needs = msgspec.structs.replace(needs, walltime=needs.walltime * retry.grow)
    return retry.pause(charged), needs
