from __future__ import annotations

import functools
import time

import pytest

from heald.core.errors import UsageError
from heald.core.event import Failure, Usage
from heald.core.placement import Node
from heald.core.ref import Ref
from heald.core.retry import WORKER_LOST
from heald.core.task import Payload, Work
from heald.data.arena import Arena
from heald.run.cluster.bulk import Inlet, Outlet
from heald.run.cluster.dialogue import Ended, Gone, Hello, Orders, TakeBack
from heald.run.cluster.lane import FarLane, Remote
from heald.run.protocol import Define, Order
from heald.wire.porter import Porter

WORK = Work("square", "function", b"f")
NOTHING = Payload(b"")
HELLO = Hello("a1", "n3", 7, 6, "3.11.7", "1.0", "tcp://10.0.0.1:5", (0,), (), 0, time.time())


def order(task: int, arguments: Payload = NOTHING) -> Order:
    return Order(task, 1, b"w", arguments)


@pytest.fixture
def remote(porter: Porter) -> Remote:
    node, arena = Node("a1.n3", (0,)), Arena(capacity=2**26)
    define = functools.cache(lambda digest: Define(digest, WORK, b"pickled"))
    return Remote(b"a1.n3.7", HELLO, node, arena, define, {}, porter)


@pytest.fixture
def lane(remote: Remote) -> FarLane:
    number = remote.number()
    remote.lanes[number] = FarLane(number, f"a1.n3-{number}", remote)
    return remote.lanes[number]


def test_a_work_is_defined_once_for_each_agent(remote: Remote, lane: FarLane) -> None:
    other = FarLane(remote.number(), "a1.n3-2", remote)
    lane.send([order(1)])
    other.send([order(2)])
    assert remote.out == [Define(b"w", WORK, b"pickled"), Orders(1, [order(1)]), Orders(2, [order(2)])]


def test_a_work_is_defined_again_when_modules_are_found_elsewhere(porter: Porter) -> None:
    works = {b"w": Define(b"w", WORK, b"pickled")}
    remote = Remote(b"a1.n3.7", HELLO, Node("a1.n3", (0,)), Arena(capacity=2**26), works.__getitem__, {}, porter)
    remote.orders(1, [order(1)])
    works[b"w"] = Define(b"w", WORK, b"pickled", ("/late",))
    remote.orders(1, [order(2)])
    assert remote.out == [Define(b"w", WORK, b"pickled"), Orders(1, [order(1)]), works[b"w"], Orders(1, [order(2)])]


def test_orders_are_taken_back_by_asking_once(remote: Remote, lane: FarLane) -> None:
    lane.send([order(1), order(2), order(3)])
    assert lane.take_back() == []
    assert lane.take_back() == []
    assert remote.out[2:] == [TakeBack(1, 0)]
    assert lane.returned([(2, 1), (3, 1)]) == [order(2), order(3)]
    assert list(lane.fifo) == [order(1)]
    lane.take_back(1)
    assert remote.out[3:] == [TakeBack(1, 1)]


def test_ends_come_in_order(lane: FarLane) -> None:
    lane.send([order(1), order(2)])
    assert lane.ended(Ended(1, 1, 1, NOTHING, Usage())) == (order(1), NOTHING, Usage())
    with pytest.raises(UsageError, match="ended task 5, not 2"):
        lane.ended(Ended(1, 5, 1, NOTHING, Usage()))


def test_times_are_those_of_the_clock_here(remote: Remote, lane: FarLane) -> None:
    remote.ahead = 7200.0
    lane.fifo.extend([order(1), order(2)])
    assert remote.here(9200.0) == 2000.0
    *_, usage = lane.ended(Ended(1, 1, 1, NOTHING, Usage(9200.0, 3.0, 2.0, 7)))
    assert usage == Usage(2000.0, 3.0, 2.0, 7)
    remote.ahead = -7200.0  # or so it seems
    now = time.time()
    assert remote.here(now) == now
    remote.ahead = -7200.0
    assert remote.here(now - 7200) == pytest.approx(now)
    end, _ = lane.died(Gone(1, 2, 1, Failure(WORKER_LOST, "killed"), Usage(memory=7)))
    assert end
    assert end[2] == Usage(memory=7)  # it did not say when


def test_a_dead_worker_has_a_culprit_and_others(lane: FarLane) -> None:
    lane.send([order(1), order(2), order(3)])
    failure = Failure(WORKER_LOST, "killed")
    assert lane.died(Gone(1, 2, 1, failure)) == ((order(2), failure, Usage()), [order(1), order(3)])
    lane.fifo.append(order(4))
    assert lane.died(Gone(1)) == (None, [order(4)])


def test_a_large_value_travels_once_and_comes_back_as_it_was(remote: Remote, lane: FarLane) -> None:
    arena = Arena(capacity=2**26)
    asked: list[tuple[int, memoryview, Ref]] = []
    inlet = Inlet(arena, lambda *one: asked.append(one), Outlet(arena, lambda: None).kept, keep=True)
    large = Payload(b"", (remote.outlet._arena.write(b"x" * 3_000_000),))
    lane.send([order(1, large), order(2, large)])
    sent = remote.out[1]
    assert isinstance(sent, Orders)
    for each in sent.orders:
        inlet.want(each.arguments)
    ((serial, window, place),) = asked
    window[:] = remote.outlet.find(serial) or b""
    inlet.came(serial, place)
    for each in sent.orders:
        (ref,) = inlet.opened(each.arguments).buffers
        assert bytes(arena.read(ref)) == b"x" * 3_000_000


def test_what_waits_for_values_is_seen(remote: Remote, lane: FarLane) -> None:
    assert not remote.stalled
    lane.told.append(Ended(1, 1, 1, NOTHING, Usage()))
    assert remote.stalled


def test_an_order_of_a_former_head_becomes_known(lane: FarLane) -> None:
    lane.fifo.extend([Order(1, 2, b"", NOTHING), Order(2, 1, b"", NOTHING)])
    lane.knows(Order(2, 1, b"w", NOTHING))
    assert [one.work for one in lane.fifo] == [b"", b"w"]


def test_idle_is_counted_from_the_last_end(remote: Remote, lane: FarLane) -> None:
    remote.idle_since = 100.0
    assert remote.idle_for(160.0) == 60.0
    lane.send([order(1)])
    assert remote.idle_for(160.0) == 0.0
