"""When attempts of a crew are told that their time ends: so many seconds before, as each has asked.

It knows times, and not how anybody is told; `current` is the side of the attempt.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from heald.run.protocol import LATE, LEAVING, Order

if TYPE_CHECKING:
    from heald.run.lane import Lane

_LEAST = 0.001  # seconds until a timer rings: so one that is late by rounding finds what it is for


class _Due(NamedTuple):
    time: float
    lane: Lane
    order: Order
    why: bytes


class Notices:
    """`ends`: when the node is taken away, by the monotonic clock; `usual`: seconds before that at which attempts are
    told that have asked for no time of their own, 0 for never. `tell` tells one, with the word for why; `after` calls
    something when that many seconds have passed.
    """

    def __init__(
        self,
        usual: float,
        ends: float,
        tell: Callable[[Lane, Order, bytes], None],
        after: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self._usual = usual
        self._ends = ends
        self._tell = tell
        self._after = after
        self._due: dict[int, _Due] = {}  # by lane
        self._alarm = math.inf

    def began(self, lane: Lane, begun: float) -> None:
        """The attempt at the head of a lane has been running since `begun`, in seconds since the epoch."""
        if lane.lease is None:
            return
        needs = lane.lease.needs
        notice = needs.notice or self._usual
        if not notice:
            return
        due = _Due(self._ends - notice, lane, lane.fifo[0], LEAVING)
        if needs.notice and needs.walltime:
            end = time.monotonic() + begun + needs.walltime - time.time()
            due = min(due, _Due(end - notice, lane, lane.fifo[0], LATE), key=lambda one: one.time)
        if due.time < math.inf:
            self._due[lane.number] = due
            self._wind()

    def _wind(self) -> None:
        """Have the alarm ring for the first."""
        first = min((one.time for one in self._due.values()), default=math.inf)
        if first < self._alarm:
            self._alarm = first
            self._after(max(_LEAST, first - time.monotonic()), self._ring)

    def _ring(self) -> None:
        self._alarm = math.inf
        for number, due in list(self._due.items()):
            if not due.lane.fifo or due.lane.fifo[0] is not due.order:
                del self._due[number]
            elif due.time <= time.monotonic():
                del self._due[number]
                self._tell(due.lane, due.order, due.why)
        self._wind()
