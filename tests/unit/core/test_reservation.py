"""Promises to tasks that do not fit yet; their effect is tested with `placement`."""

from __future__ import annotations

import math

from heald.core.ready import Line
from heald.core.reservation import reserve
from heald.core.resources import Resources
from heald.core.room import Node, Room, Shape


def busy(name: str, lease: int, cpus: int = 2, until: float = math.inf) -> Room:
    """A room of two cores, `cpus` of them held by `lease`."""
    room = Room(Node(name, cpus=(0, 1), until=until))
    share = room.free.choose(name, Shape(1, cpus, 0, 0.0, 0))
    room.free.take(share)
    room.shares[lease] = share
    return room


def line(needs: Resources) -> Line:
    made = Line(needs)
    made.push(1)
    return made


def test_the_start_is_when_enough_has_ended() -> None:
    promise = reserve(line(Resources(cpus=2)), [busy("a", 1), busy("b", 2)], {1: 50.0, 2: 20.0}, now=0.0)
    assert promise is not None
    assert (promise.start, promise.nodes) == (20.0, ["b"])


def test_nobody_knows_the_start_when_no_walltime_is_stated() -> None:
    promise = reserve(
        line(Resources(cpus=2)), [busy("a", 1), busy("b", 2, cpus=1)], {1: math.inf, 2: math.inf}, now=0.0
    )
    assert promise is not None
    assert promise.start == math.inf
    assert promise.nodes == ["b"], "where least is missing"


def test_no_promise_that_would_end_too_late() -> None:
    room = busy("a", 1, until=100.0)
    assert reserve(line(Resources(cpus=2, walltime=60.0)), [room], {1: 50.0}, now=0.0) is None


def test_what_ends_in_time_may_go_ahead_and_what_does_not_may_not() -> None:
    room = busy("a", 1, cpus=1)
    promise = reserve(line(Resources(cpus=2)), [room], {1: 50.0}, now=0.0)
    assert promise is not None
    small = Shape(1, 1, 0, 0.0, 0)
    assert promise.spares(room, small, end=50.0)
    assert not promise.spares(room, small, end=51.0)


def test_an_end_that_the_promise_hangs_on_makes_it_stale() -> None:
    promise = reserve(line(Resources(cpus=2)), [busy("a", 1)], {1: 50.0}, now=0.0)
    assert promise is not None
    assert not promise.stale
    promise.ended(1)
    assert promise.stale
