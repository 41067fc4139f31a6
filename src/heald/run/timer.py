"""What is to be done later, by the thread that waits for it."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable


class Timers:
    """Acts and their times, the next first.

    >>> timers, rung = Timers(), []
    >>> timers.add(0.0, lambda: rung.append("now"))
    >>> timers.add(60.0, lambda: rung.append("later"))
    >>> timers.ring(), rung
    (None, ['now'])
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._tickets = itertools.count()  # acts of one moment go in the order in which they were added

    def add(self, seconds: float, act: Callable[[], None]) -> None:
        """Have `act` called when that time has passed."""
        heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._tickets), act))

    @property
    def wait(self) -> float | None:
        """Seconds until the next one, or None when there is none."""
        return max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else None

    def ring(self) -> None:
        """Do what is due."""
        while self._heap and self._heap[0][0] <= time.monotonic():
            heapq.heappop(self._heap)[2]()
