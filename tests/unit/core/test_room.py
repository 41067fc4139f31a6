"""What is free on one node; its use is tested with `placement`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.resources import Resources
from heald.core.room import WHOLE, Node, Room, Shape, shapes, spread


def test_ranks_are_spread_and_the_first_nodes_get_the_remainder() -> None:
    assert [(shape.ranks, shape.cpus, nodes) for shape, nodes in shapes(Resources(ranks=7, nodes=3, cpus=2))] == [
        (3, 6, 1),
        (2, 4, 2),
    ]


def test_memory_that_is_not_tracked_is_never_missing() -> None:
    room = Room(Node("a", cpus=(0,)))
    assert room.free.fits(Shape(ranks=1, cpus=1, devices=0, part=0.0, memory=10**15))


def test_missing_says_how_far_a_shape_is_from_fitting() -> None:
    room = Room(Node("a", cpus=(0, 1), gpus=("0",), memory=100))
    shape = Shape(ranks=1, cpus=3, devices=2, part=0.0, memory=150)
    assert room.free.missing(shape) == (1, WHOLE, 50)


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from([0.0, 0.25, 0.5, 1.0])), max_size=8))
def test_what_is_taken_and_given_back_is_whole_again(asked: list[tuple[int, float]]) -> None:
    room = Room(Node("a", cpus=tuple(range(8)), gpus=("x", "y"), memory=1000))
    held = []
    for cpus, part in asked:
        shape = Shape(1, cpus, int(part), part if part < 1 else 0.0, 100)
        if room.free.fits(shape):
            share = room.free.choose("a", shape)
            room.free.take(share)
            held.append(share)
            assert all(free >= 0 for free in room.free.devices.values())
            assert room.free.memory >= 0
    for share in held:
        room.free.give(share)
    assert room.free.cores == list(range(8))
    assert set(room.free.devices.values()) == {WHOLE}
    assert room.free.memory == 1000


@pytest.mark.parametrize(
    ("node", "hosts", "fits"),
    [
        (Node("n3", (0,)), ("n3", "n4"), True),
        (Node("n3", (0,)), ("n4",), False),
        (Node("a1.n3", (0,), host="n3"), ("n3",), True),
        (Node("a1.n3", (0,), host="n3"), ("a1",), False),
        (Node("a1.n3", (0,), host="n3.cluster.org"), ("n3",), True),
        (Node("a1.n3", (0,), host="n3.cluster.org"), ("n3.cluster.org",), True),
        (Node("n3", (0,)), (), True),
    ],
)
def test_a_shape_may_want_certain_hosts(node: Node, hosts: tuple[str, ...], fits: bool) -> None:
    ((shape, _),) = shapes(Resources(hosts=hosts))
    assert Room(node).free.fits(shape) is fits


def test_a_part_of_the_node_itself_is_taken_and_given_back() -> None:
    room = Room(Node("a", cpus=tuple(range(8))))
    ((third, _),), ((half, _),) = shapes(Resources(tasks_per_node=3)), shapes(Resources(tasks_per_node=2))
    shares = []
    for shape in (third, third):
        shares.append(room.free.choose("a", shape))
        room.free.take(shares[-1])
    assert room.free.fits(third)
    assert not room.free.fits(half)
    assert not room.free.has(room.free.choose("a", half))
    for share in shares:
        room.free.give(share)
    assert room.free.fits(half)
    assert room.free.itself == room.whole.itself


def test_an_attempt_gets_rooms_of_its_own_or_none() -> None:
    rooms = [Room(Node(name, cpus=(0, 1))) for name in "ab"]
    (shape, _), *_ = shapes(Resources())
    chosen = spread([(shape, 2, rooms)])
    assert chosen is not None
    assert {room.name for room, _ in chosen} == {"a", "b"}
    assert spread([(shape, 3, rooms)]) is None
