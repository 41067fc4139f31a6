from __future__ import annotations

import math

import pytest

from heald.core.errors import UsageError
from heald.core.inventory import Inventory
from heald.core.resources import Resources
from heald.core.room import Node, Shape, Share

CORE = Shape(1, 1, 0, 0.0, 0)


def inventory(*nodes: Node) -> Inventory:
    made = Inventory()
    for node in nodes:
        made.add(node)
    return made


def names(made: Inventory, shape: Shape = CORE, until: float = 0.0) -> list[str]:
    return [room.name for room in made.fitting(shape, until)]


def test_the_fullest_is_the_first() -> None:
    made = inventory(Node("a", (0, 1, 2)), Node("b", (0, 1, 2)), Node("c", (0,)))
    made.take(1, Share("b", (0,)))
    assert names(made) == ["c", "b", "a"]
    made.take(2, Share("c", (0,)))
    assert names(made) == ["b", "a"]
    freed = made.freed
    made.give(1, Share("b", (0,)))
    assert made.freed == freed + 1
    assert sorted(names(made)) == ["a", "b"]


@pytest.mark.parametrize(
    ("shape", "until", "fitting"),
    [
        (CORE, 0.0, ["plain", "gpu", "large", "short"]),
        (Shape(1, 1, 1, 0.0, 0), 0.0, ["gpu"]),
        (Shape(1, 1, 0, 0.5, 0), 0.0, ["gpu"]),
        (Shape(1, 1, 0, 0.0, 2 * 10**9), 0.0, ["plain", "gpu", "large"]),
        (CORE, 100.5, ["plain", "gpu", "large"]),
    ],
)
def test_devices_memory_and_time(shape: Shape, until: float, fitting: list[str]) -> None:
    made = inventory(
        Node("plain", (0,)),
        Node("gpu", (0,), ("0",)),
        Node("large", (0,), memory=3 * 10**9),
        Node("short", (0,), memory=10**9, until=100.0),
    )
    assert sorted(names(made, shape, until)) == sorted(fitting)


def test_those_that_lack_the_same_are_passed_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = inventory(*(Node(f"n{number}", (0, 1), ("0",), memory=10**12 + number) for number in range(1000)))
    for number in range(1000):
        made.take(number, Share(f"n{number}", (0,), (("0", 1.0),)))
    looked: list[object] = []
    monkeypatch.setattr("heald.core.room.Space.fits", lambda space, shape: looked.append(space))
    assert names(made, Shape(1, 1, 1, 0.0, 0)) == []
    assert not looked


def test_several_nodes_are_of_one_group() -> None:
    made = inventory(Node("a", (0,), group="1"), Node("b", (0,), group="2"), Node("c", (0,), group="2"))
    assert [[room.name for room in choice] for choice in made.together(Resources(nodes=2, ranks=2))] == [["b", "c"]]
    assert [len(choice) for choice in made.together(Resources())] == [3]
    choice = next(made.together(Resources(nodes=2, ranks=2)))
    assert [room.name for room in made.fitting(CORE, 0.0, choice)] == ["b", "c"]


def test_of_very_many_only_some_are_looked_at() -> None:
    made = inventory(*(Node(f"n{number}", (0, 1)) for number in range(500)))
    for number in range(0, 500, 2):
        made.take(number, Share(f"n{number}", (0, 1)))
    rooms = next(made.together(Resources()))
    some = made.soon(CORE, 1, math.inf, rooms)
    assert len(some) < 100
    assert all(room.cores == 2 for room in some)
    assert len(made.soon(CORE, 250, math.inf, rooms)) == 500


def test_a_node_that_went_away() -> None:
    made = inventory(Node("a", (0, 1)))
    made.take(1, Share("a", (0,)))
    made.remove("a")
    assert names(made) == []
    made.add(Node("a", (0,)))
    made.give(1, Share("a", (0,)))
    assert len(made.rooms["a"].free.cores) == 1
    with pytest.raises(UsageError, match="already"):
        made.add(Node("a", (0,)))
