from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest

from heald.core.event import Failure, Usage
from heald.core.placement import Lease, Node, Share
from heald.core.resources import SINGLE
from heald.core.task import Payload, Work
from heald.data.arena import Arena
from heald.run.cluster.dialogue import Hello, Late, Standing, Stands
from heald.run.cluster.former import Former
from heald.run.cluster.lane import FarLane, Remote
from heald.run.dispatch import Dispatch
from heald.run.protocol import Order
from heald.wire.porter import Porter

HELLO = Hello("a1", "n3", 7, 6, "3.11.7", "1.0", "tcp://10.0.0.1:5", (0, 1), (), 0, time.time())
VALUE = Payload(b"value")


class FakeHost:
    """An engine that knows of tasks only whether they are wanted."""

    def __init__(self) -> None:
        self.unwanted: set[int] = set()
        self.resumed: list[tuple[int, int, str]] = []
        self.again: list[int] = []
        self.ends: list[tuple[int, Any]] = []
        self.stopped: list[int] = []

    def resume(self, task: int, attempt: int, lane: str, label: str) -> bytes | None:
        if task in self.unwanted:
            return None
        self.resumed.append((task, attempt, lane))
        return b"w"

    def place_again(self, tasks: Iterable[int]) -> None:
        self.again.extend(tasks)

    def ended(self, order: Order, outcome: Payload | Failure, usage: Usage) -> None:
        self.ends.append((order.task, outcome))

    def now(self) -> float:
        return 0.0

    def stop(self, lane: FarLane, order: Order, verdict: Failure) -> None:
        self.stopped.append(order.task)

    # a dispatch asks its host for these, which nobody needs here
    order = returned = limit = after = None


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def dispatch(host: FakeHost) -> Dispatch:
    made = Dispatch("cluster", [Node("a1.n3", (0, 1))], host, lambda *_: None, lambda lease: None)  # type: ignore[arg-type, return-value]
    made._watch = lambda lane: None  # type: ignore[method-assign]
    return made


@pytest.fixture
def former(host: FakeHost, dispatch: Dispatch) -> Former:
    made = Former("cluster", dispatch, host, host.stop)
    made.expect()
    return made


@pytest.fixture
def remote(porter: Porter) -> Remote:
    work = Work("f", "function", b""), b""
    return Remote(b"a1.n3.7", HELLO, Node("a1.n3", (0, 1)), Arena(), lambda digest: work, {}, porter)


def stands(*orders: tuple[int, int], ends: tuple[int, ...] = ()) -> Stands:
    lease = Lease(99, (Share("a1.n3", (1,)),), SINGLE)
    lanes = [Standing(4, "a1.n3-4", lease, list(orders))] if orders else []
    return Stands(lanes, [Late(task, 2, VALUE, Usage()) for task in ends])


def test_the_script_comes_first(former: Former, host: FakeHost, remote: Remote, dispatch: Dispatch) -> None:
    assert former.resume(7, 2, "a1.n3-4")
    assert former.resume(8, 2, "a1.n3-5")
    assert not host.resumed
    former.take_over(remote, stands((7, 2), ends=(8,)))
    assert sorted(host.resumed) == [(7, 2, "a1.n3-4"), (8, 2, "a1.n3")]
    assert host.ends == [(8, VALUE)]
    found = dispatch.find(7)
    assert found
    assert found[1].work == b"w"
    assert dispatch.spare == 1


def test_the_agent_comes_first(former: Former, host: FakeHost, remote: Remote) -> None:
    former.take_over(remote, stands((7, 2), ends=(8,)))
    assert not host.resumed
    assert former.keeps((7, 2), VALUE, Usage())
    assert former.resume(7, 2, "a1.n3-4")
    assert former.resume(8, 2, "a1.n3-5")
    assert host.ends == [(7, VALUE), (8, VALUE)]
    assert not former.resume(9, 1, "a1.n3-6")  # it has told all that it has


def test_an_attempt_of_another_number_is_not_it(former: Former, host: FakeHost, remote: Remote) -> None:
    assert former.resume(7, 3, "a1.n3-4")
    former.take_over(remote, stands((7, 2)))
    assert not host.resumed
    assert host.again == [7]


def test_one_that_the_agent_lacks_is_run_again(former: Former, host: FakeHost, remote: Remote) -> None:
    assert former.resume(7, 2, "a1.n3-4")
    assert former.resume(8, 2, "a1.n4-1")
    former.take_over(remote, stands())
    assert host.again == [7]
    former.give_up()
    assert host.again == [7, 8]
    assert not former.resume(9, 1, "a1.n5-1")


def test_one_that_nobody_wants_is_stopped(former: Former, host: FakeHost, remote: Remote) -> None:
    assert former.resume(7, 2, "a1.n3-4")
    host.unwanted.add(7)
    former.take_over(remote, stands((7, 2)))
    assert host.stopped == [7]


def test_without_a_former_head_nothing_is_waited_for(host: FakeHost, dispatch: Dispatch) -> None:
    assert not Former("cluster", dispatch, host, host.stop).resume(7, 1, "a1.n3-4")


def test_an_end_waits_for_its_values(former: Former, host: FakeHost, remote: Remote) -> None:
    from heald.core.ref import Ref

    large = Payload(b"", (Ref("far:1", 5),))
    assert former.resume(7, 2, "a1.n3-4")
    former.take_over(remote, Stands([], [Late(7, 2, large, Usage())]))
    assert remote.stalled
    assert not host.ends
    remote.inlet.came(1, remote.inlet._coming[1])
    former.late(remote)
    assert [task for task, _ in host.ends] == [7]
    assert not remote.stalled
