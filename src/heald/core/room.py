"""One node's room: which cores, devices and bytes are free, who holds the rest, and what fits.

Knows nothing of queues, order or time: `placement` decides.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from itertools import islice

import msgspec

from heald.core.resources import Resources

# A device is shared in integers, so that what is given back adds up to the whole again.
WHOLE = 10**6

Kind = tuple[float, ...]
"""(a time, bytes, free units of each device): of rooms of one kind none lasts longer or has more to give than that."""
_MINUTE, _GRAIN = 60.0, 2.0**28  # machines of one make differ by a little: kinds do not


class Node(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A machine as it was granted: ids of its `cpus` (cores), names of its `gpus`, bytes of `memory` (0: not tracked).

    `until` is the end of the allocation, in the seconds that placement is told as `now`. The nodes of one attempt are
    all of one `group`: an MPI program cannot spread over two batch jobs. `host`: the name of the machine, when that is
    not the node's.
    """

    name: str
    cpus: tuple[int, ...]
    gpus: tuple[str, ...] = ()
    memory: int = 0
    until: float = math.inf
    group: str = ""
    host: str = ""


class Share(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an attempt holds of one node, in the order of its ranks there.

    Rank r of n has the r-th n-th part of `cpus` and of `gpus`: (device, part of it), so a device that several
    ranks share stands there several times. `memory` is in bytes, for all its ranks together. `part`: units of 1/WHOLE
    of the node itself.
    """

    node: str
    cpus: tuple[int, ...]
    gpus: tuple[tuple[str, float], ...] = ()
    memory: int = 0
    ranks: int = 1
    part: int = 0


class Shape(msgspec.Struct, frozen=True, gc=False):
    """What is needed of one node for some `ranks`: cores, whole `devices`, or `part` of a device for each rank;
    that its host is one of `hosts`, and `of_node` units of 1/WHOLE of the node itself.
    """

    ranks: int
    cpus: int
    devices: int
    part: float
    memory: int
    hosts: tuple[str, ...] = ()
    of_node: int = 0

    @property
    def units(self) -> int:
        """A rank's part of a device in units of 1/WHOLE."""
        return _units(self.part)


def _units(part: float) -> int:
    # Rounded down: six sixths must fit in one device.
    return max(1, int(part * WHOLE + 1e-6)) if part else 0


def shapes(needs: Resources) -> tuple[tuple[Shape, int], ...]:
    """The shapes that `needs` has on its nodes, the largest first, and on how many nodes.

    >>> [(shape.ranks, nodes) for shape, nodes in shapes(Resources(ranks=5, nodes=3))]
    [(2, 2), (1, 1)]
    """
    few, more = divmod(needs.ranks, needs.nodes)
    part = needs.gpus if needs.gpus < 1 else 0.0
    of_node = WHOLE // needs.tasks_per_node if needs.tasks_per_node else 0
    return tuple(
        (Shape(ranks, needs.cpus * ranks, int(needs.gpus) * ranks, part, needs.memory, needs.hosts, of_node), nodes)
        for ranks, nodes in ((few + 1, more), (few, needs.nodes - more))
        if nodes
    )


class Space:
    """Free cores, devices and memory of a node, whose host is known by `names`, and how much of `itself` is free."""

    __slots__ = ("cores", "devices", "itself", "memory", "names")

    def __init__(
        self, cores: Iterable[int], devices: dict[str, int], memory: float, names: frozenset[str], itself: int = WHOLE
    ) -> None:
        self.cores = sorted(cores)
        self.devices = devices  # free units of each
        self.memory = memory  # infinite where it is not tracked
        self.names = names
        self.itself = itself  # units

    def copy(self) -> Space:
        """The same, to try things on."""
        return Space(self.cores, dict(self.devices), self.memory, self.names, self.itself)

    def fits(self, shape: Shape) -> bool:
        """There is enough for it."""
        enough = len(self.cores) >= shape.cpus and self.memory >= shape.memory and self.itself >= shape.of_node
        here = not shape.hosts or not self.names.isdisjoint(shape.hosts)
        return enough and here and _suffice(self.devices.values(), shape)

    def missing(self, shape: Shape) -> tuple[int, int, float]:
        """How far it is from fitting: cores, units of devices, bytes."""
        units = shape.devices * WHOLE or shape.ranks * shape.units
        return (
            max(0, shape.cpus - len(self.cores)),
            max(0, units - sum(self.devices.values())),
            max(0, shape.memory - self.memory),
        )

    def choose(self, node: str, shape: Shape) -> Share:
        """The share that a shape that fits would get: the lowest cores in a row, the fullest device with room."""
        return Share(node, self._row(shape.cpus), self._parts(shape), shape.memory, shape.ranks, shape.of_node)

    def _row(self, count: int) -> tuple[int, ...]:
        cores = self.cores
        for first in range(len(cores) - count + 1):
            if cores[first + count - 1] - cores[first] == count - 1:
                return tuple(cores[first : first + count])
        return tuple(cores[:count])

    def _parts(self, shape: Shape) -> tuple[tuple[str, float], ...]:
        if not shape.part:
            whole = (name for name, free in self.devices.items() if free == WHOLE)
            return tuple((name, 1.0) for name in islice(whole, shape.devices))
        units, devices, parts = shape.units, dict(self.devices), []
        for _ in range(shape.ranks):
            name = min((name for name, free in devices.items() if free >= units), key=devices.__getitem__)
            devices[name] -= units
            parts.append((name, shape.part))
        return tuple(parts)

    def has(self, share: Share) -> bool:
        """All of it is free."""
        parts = Counter[str]()
        for name, part in share.gpus:
            parts[name] += _units(part)
        devices = all(self.devices.get(name, 0) >= units for name, units in parts.items())
        enough = self.memory >= share.memory and self.itself >= share.part
        return devices and enough and set(share.cpus) <= set(self.cores)

    def take(self, share: Share) -> None:
        """Take a share that is free."""
        for core in share.cpus:
            self.cores.remove(core)
        for name, part in share.gpus:
            self.devices[name] -= _units(part)
        self.memory -= share.memory
        self.itself -= share.part

    def give(self, share: Share) -> None:
        """Give back a share that was taken."""
        self.cores.extend(share.cpus)
        self.cores.sort()
        for name, part in share.gpus:
            self.devices[name] += _units(part)
        self.memory += share.memory
        self.itself += share.part


class Room:
    """A node with what is free there now, and the shares that leases hold of the rest."""

    __slots__ = ("_last", "cores", "free", "kind", "name", "node", "shares", "whole")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.name = node.name
        host = node.host or node.name
        names = frozenset((host, host.partition(".")[0]))  # with its domain, and without
        self.whole = Space(node.cpus, dict.fromkeys(node.gpus, WHOLE), node.memory or math.inf, names)
        self.free = self.whole.copy()
        self.shares: dict[int, Share] = {}  # by lease
        self._last = _up(node.until, _MINUTE)
        self.sort()

    def sort(self) -> None:
        """Tell anew of which kind it is, and how many cores are free."""
        free = self.free
        self.cores = len(free.cores)
        self.kind: Kind = (self._last, _up(free.memory, _GRAIN), *sorted(free.devices.values()))

    def fits_after(self, lease: int, shape: Shape) -> bool:
        """It would fit here if the lease ended."""
        share = self.shares.get(lease)
        if share is None or len(self.free.cores) + len(share.cpus) < shape.cpus:
            return False
        after = self.free.copy()
        after.give(share)
        return after.fits(shape)


def spread(wanted: Iterable[tuple[Shape, int, Iterable[Room]]]) -> list[tuple[Room, Shape]] | None:
    """The rooms of one attempt, each with its shape there, or None when they do not suffice.

    Each shape of `shapes` comes with the number of its nodes and the rooms that could hold it, the best first. Larger
    shapes choose first: a room for them is one for the smaller as well, so this finds rooms whenever there are any.
    """
    chosen: dict[str, tuple[Room, Shape]] = {}
    for shape, count, able in wanted:
        rooms = list(islice((room for room in able if room.name not in chosen), count))
        if len(rooms) < count:
            return None
        for room in rooms:
            chosen[room.name] = (room, shape)
    return list(chosen.values())


def could(kind: Kind, shape: Shape, until: float) -> bool:
    """Whether rooms of a kind may have what a shape needs besides cores until that time; no is certain.

    >>> room = Room(Node("a", cpus=(0, 1), gpus=("0",)))
    >>> [could(room.kind, Shape(1, 1, devices, 0.0, 0), until=10.0) for devices in (1, 2)]
    [True, False]
    """
    last, memory, *devices = kind
    return last >= until and memory >= shape.memory and _suffice(devices, shape)


def _suffice(devices: Iterable[float], shape: Shape) -> bool:
    """Whether so many units of each device are enough."""
    if shape.devices:
        return sum(free == WHOLE for free in devices) >= shape.devices
    if shape.part:
        units = shape.units
        return sum(free // units for free in devices) >= shape.ranks
    return True


def _up(amount: float, grain: float) -> float:
    return amount if amount == math.inf else math.ceil(amount / grain) * grain
