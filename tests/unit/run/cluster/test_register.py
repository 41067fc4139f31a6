from __future__ import annotations

from collections.abc import Callable

import pytest

from heald.core.placement import Lease, Node, Share
from heald.core.resources import Resources
from heald.core.task import Work
from heald.data.arena import Arena
from heald.run.cluster.dialogue import Hello
from heald.run.cluster.lane import FarLane, Remote
from heald.run.cluster.register import Register
from heald.wire.porter import Porter

Come = Callable[[str, Hello], Remote]


def hello(allocation: str, host: str, place: int = 1) -> Hello:
    return Hello(allocation, host, 7, place, "3.11.7", "1.0", "tcp://10.0.0.1:5", (0,), (), 0, 0.0)


@pytest.fixture
def register() -> Register:
    return Register()


@pytest.fixture
def come(register: Register, porter: Porter) -> Come:
    def come(name: str, said: Hello) -> Remote:
        node, work = Node(register.free_name(said), said.cpus), (Work("f", "function", b""), b"")
        remote = Remote(name.encode(), said, node, Arena(), lambda digest: work, {}, porter)
        register.add(remote)
        return remote

    return come


def test_an_agent_is_found_by_all_that_is_known_of_it(register: Register, come: Come) -> None:
    a, b = come("a", hello("a1", "n1")), come("b", hello("a2", "n2"))
    assert register.get(b"a") is a
    assert register.nodes == {"a1.n1": a, "a2.n2": b}
    assert register.of("a2") == [b]
    assert register.before(hello("a2", "n2")) is b
    assert register.before(hello("a2", "n2", place=2)) is None
    assert list(register) == [a, b]
    assert register.remove(b"a") is a
    assert (register.get(b"a"), register.of("a1"), register.before(hello("a1", "n1"))) == (None, [], None)


def test_a_second_agent_of_a_host_has_a_node_of_another_name(register: Register, come: Come) -> None:
    come("a", hello("a1", "n1"))
    second = come("b", hello("a1", "n1", place=2))
    assert second.node.name == "a1.n1#2"


def test_lanes_that_use_a_node_of_another_agent(register: Register, come: Come) -> None:
    a = come("a", hello("a1", "n1"))
    come("b", hello("a1", "n2"))
    lanes = [FarLane(number, f"a1.n1-{number}", a) for number in range(3)]
    shares = Share("a1.n1", (0,)), Share("a1.n2", (0,))
    for number, lane in enumerate(lanes):
        lane.lease = Lease(number, shares if number else shares[:1], Resources())
        register.spread(lane)
    lanes[2].lease = None  # it has ended since
    register.remove(b"b")
    assert register.guests("a1.n2") == [lanes[1]]
    assert register.guests("a1.n2") == []
