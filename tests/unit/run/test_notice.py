from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from heald.core.placement import Lease
from heald.core.resources import SINGLE, Resources
from heald.core.task import Payload
from heald.run.notice import Notices
from heald.run.protocol import LATE, LEAVING, Order


class Crew:
    """Timers that ring when the test says so, and what was told."""

    def __init__(self, usual: float, left: float) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.told: list[tuple[int, bytes]] = []
        self.notices = Notices(usual, time.monotonic() + left, self.tell, lambda *timer: self.timers.append(timer))

    def tell(self, lane: Any, order: Order, why: bytes) -> None:
        self.told.append((order.task, why))

    def ring(self) -> None:
        timers, self.timers = self.timers, []
        for _, act in timers:
            act()

    def began(self, task: int, needs: Resources = SINGLE, *, ago: float = 0.0) -> Any:
        """A lane of that number, at the head of which a task has been running for so many seconds."""
        order = Order(task, 1, b"w", Payload(b""))
        lane = SimpleNamespace(number=task, lease=Lease(task, (), needs), fifo=deque([order]))
        self.notices.began(lane, time.time() - ago)  # type: ignore[arg-type]
        return lane


def test_who_asked_for_nothing_costs_nothing() -> None:
    for crew in (Crew(0.0, 10.0), Crew(5.0, math.inf)):
        crew.began(1)
        assert not crew.timers
        assert not crew.notices._due


def test_before_the_end_of_the_node() -> None:
    crew = Crew(5.0, 60.0)
    crew.began(1)
    crew.began(2)
    ((wait, _),) = crew.timers  # one for all
    assert 50 < wait <= 55
    crew.ring()  # too early
    assert not crew.told
    assert len(crew.timers) == 1
    late = Crew(5.0, 4.0)
    late.began(1)
    late.ring()
    assert late.told == [(1, LEAVING)]


def test_a_task_has_its_own_wish() -> None:
    crew = Crew(5.0, 60.0)
    crew.began(1)
    crew.began(2, Resources(notice=50.0))
    assert sorted(round(wait) for wait, _ in crew.timers) == [10, 55]


@pytest.mark.parametrize(("left", "why"), [(math.inf, LATE), (1.0, LEAVING)])
def test_before_the_end_of_its_walltime(left: float, why: bytes) -> None:
    crew = Crew(0.0, left)
    crew.began(1, Resources(walltime=60.0, notice=10.0), ago=55.0)
    crew.began(2, Resources(walltime=60.0), ago=59.0)  # has not asked
    crew.ring()
    assert crew.told == [(1, why)]


def test_the_usual_time_is_for_the_node_alone() -> None:
    crew = Crew(10.0, 1000.0)
    crew.began(1, Resources(walltime=60.0), ago=55.0)
    crew.ring()
    assert not crew.told


def test_one_that_is_over_is_told_nothing() -> None:
    crew = Crew(5.0, 4.0)
    crew.began(1).fifo.clear()
    crew.began(2)
    crew.ring()
    assert crew.told == [(2, LEAVING)]
    assert not crew.notices._due
    crew.ring()
    assert not crew.timers


def test_a_lane_without_a_lease_is_somebody_elses() -> None:
    lane = SimpleNamespace(number=1, lease=None, fifo=deque())
    Crew(5.0, 4.0).notices.began(lane, 0.0)  # type: ignore[arg-type]
