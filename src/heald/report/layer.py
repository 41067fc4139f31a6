"""Where to draw the nodes of a graph of dependencies, so that arrows go one way and cross little.

The classic steps for layered drawings (Sugiyama, Tagawa and Toda 1981), the plain way: a layer is the longest way from
a beginning; an arrow over several layers gets a place to pass in each of them; and in a layer each stands near the
middle of its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from heald.core.history import History

Arrow = tuple[int, int]
Layers = tuple[tuple[int, ...], ...]
Ways = dict[Arrow, tuple[int, ...]]

_SWEEPS = 8
_PASSES = 400  # places to pass: a graph that needs more is a thicket however it is drawn


class Box(msgspec.Struct, frozen=True):
    """A node: one task, or all tasks of one name. `tasks` are their ids."""

    label: str
    name: str
    tasks: tuple[int, ...]


class Plan(msgspec.Struct, frozen=True):
    """Boxes in layers, and arrows between them by their places in `boxes`, with how many dependencies each stands for.

    `ways`: for arrows over several layers, the places to pass; they have numbers beyond those of the boxes in `layers`.
    `omitted`: boxes left out since there are too many; `alone`: those that no arrow touches.
    """

    boxes: tuple[Box, ...]
    layers: Layers
    arrows: Mapping[Arrow, int]
    ways: Mapping[Arrow, tuple[int, ...]]
    grouped: bool
    omitted: int
    alone: int


def plan(history: History, most: int = 40) -> Plan:
    """The graph of a run's tasks, or of their names when there are more tasks than `most`."""
    records = history.records.values()
    grouped = len(records) > most
    members: dict[str, list[int]] = {}
    names: dict[str, str] = {}
    for one in records:
        name = history.work(one).name
        label = name if grouped else f"{name}#{one.task.id}"
        members.setdefault(label, []).append(one.task.id)
        names[label] = name
    labels = {task: label for label, tasks in members.items() for task in tasks}
    found: dict[tuple[str, str], int] = {}
    for one in records:
        for needed in one.task.inputs:
            pair = labels.get(needed, ""), labels[one.task.id]
            if pair[0] and pair[0] != pair[1]:
                found[pair] = found.get(pair, 0) + 1
    touched = {label for pair in found for label in pair}
    largest = sorted(touched, key=lambda label: -len(members[label]))[:most]
    kept = [label for label in members if label in largest]
    places = {label: place for place, label in enumerate(kept)}
    arrows = {
        (places[before], places[after]): count
        for (before, after), count in found.items()
        if before in places and after in places
    }
    layers, ways = _layers(len(kept), arrows)
    boxes = tuple(Box(label, names[label], tuple(members[label])) for label in kept)
    return Plan(boxes, layers, arrows, ways, grouped, len(touched) - len(kept), len(members) - len(touched))


def _layers(count: int, arrows: Mapping[Arrow, int]) -> tuple[Layers, Ways]:
    depth = _depths(count, arrows)
    used = sorted(set(depth))
    layers = [[at for at in range(count) if depth[at] == level] for level in used]
    ways = _ways(count, arrows, [used.index(level) for level in depth], layers)
    neighbours: dict[int, list[int]] = {}
    for before, after in arrows:
        stops = [before, *ways.get((before, after), ()), after]
        for one, other in pairwise(stops):
            neighbours.setdefault(one, []).append(other)
            neighbours.setdefault(other, []).append(one)
    for sweep in range(_SWEEPS):
        _sweep(layers if sweep % 2 == 0 else layers[::-1], neighbours)
    return tuple(map(tuple, layers)), ways


def _depths(count: int, arrows: Iterable[Arrow]) -> list[int]:
    """How far each is from a beginning, at most."""
    arrows = set(arrows)
    forward = [(before, after) for before, after in arrows if (after, before) not in arrows]
    depth = [0] * count
    for _ in range(count):  # names may wait for each other in a ring: after so many rounds it is as good as it gets
        changed = False
        for before, after in forward:
            if depth[after] <= depth[before] < count - 1:
                depth[after] = depth[before] + 1
                changed = True
        if not changed:
            break
    return depth


def _ways(count: int, arrows: Iterable[Arrow], level: Sequence[int], layers: Sequence[list[int]]) -> Ways:
    """Places to pass for the arrows that need some, added to the layers."""
    long = [arrow for arrow in arrows if level[arrow[1]] - level[arrow[0]] > 1]
    if sum(level[after] - level[before] - 1 for before, after in long) > _PASSES:
        return {}
    ways: Ways = {}
    number = count
    for before, after in long:
        between = range(level[before] + 1, level[after])
        ways[before, after] = tuple(range(number, number + len(between)))
        for place, layer in zip(ways[before, after], between, strict=True):
            layers[layer].append(place)
        number += len(between)
    return ways


def _sweep(layers: Sequence[list[int]], neighbours: Mapping[int, Sequence[int]]) -> None:
    """Sort each layer by where its neighbours in the layer before stand."""
    for fixed, moved in pairwise(layers):
        where = {at: (place + 0.5) / len(fixed) for place, at in enumerate(fixed)}
        middles: dict[int, float] = {}
        for place, at in enumerate(moved):
            places = [where[one] for one in neighbours.get(at, ()) if one in where]
            middles[at] = sum(places) / len(places) if places else (place + 0.5) / len(moved)
        moved.sort(key=middles.__getitem__)
