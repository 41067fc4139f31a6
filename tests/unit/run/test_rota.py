from __future__ import annotations

from heald.core.placement import Lease
from heald.core.resources import Resources
from heald.run.rota import Rota

ONE, TWO = Resources(), Resources(cpus=2)


class FakeLane:
    def __init__(self, name: str, needs: Resources = ONE) -> None:
        self.name = name
        self.lease: Lease | None = Lease(1, (), needs)


def rota(*lanes: FakeLane) -> Rota[FakeLane]:
    made: Rota[FakeLane] = Rota()
    for lane in lanes:
        made.add(lane)
    return made


def test_the_first_is_the_next_and_each_has_one_turn() -> None:
    a, b = FakeLane("a"), FakeLane("b")
    made = rota(a, b, a)
    assert made.count(ONE) == 2
    assert [made.next(ONE), made.next(ONE), made.next(ONE)] == [a, b, None]
    assert not made


def test_lanes_are_sorted_by_what_they_hold() -> None:
    small, large = FakeLane("small"), FakeLane("large", TWO)
    made = rota(small, large)
    assert made.needs() == [ONE, TWO]
    assert made.next(TWO) is large
    assert (made.needs(), made.count(TWO)) == ([ONE], 0)


def test_a_turn_can_be_taken_away_and_given_again() -> None:
    a, b = FakeLane("a"), FakeLane("b")
    made = rota(a, b)
    made.discard(a)
    made.discard(a)
    made.add(a)
    assert [made.next(ONE), made.next(ONE)] == [b, a]
