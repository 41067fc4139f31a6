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


class Node(msgspec.Struct, frozen=True, array_like=True):
    """A machine as it was granted: ids of its `cpus` (cores), names of its `gpus`, bytes of `memory` (0: not tracked).

    `until` is the end of the allocation, in the seconds that placement is told as `now`. The nodes of one attempt are
    all of one `group`: an MPI program cannot spread over two batch jobs.
    """

    name: str
    cpus: tuple[int, ...]
    gpus: tuple[str, ...] = ()
    memory: int = 0
    until: float = math.inf
    group: str = ""


class Share(msgspec.Struct, frozen=True, array_like=True):
    """What an attempt holds of one node, in the order of its ranks there.

    Rank r of n has the r-th n-th part of `cpus` and of `gpus`: (device, part of it), so a device that several
    ranks share stands there several times. `memory` is in bytes, for all its ranks together.
    """

    node: str
    cpus: tuple[int, ...]
    gpus: tuple[tuple[str, float], ...] = ()
    memory: int = 0
    ranks: int = 1


class Shape(msgspec.Struct, frozen=True, gc=False):
    """What is needed of one node for some `ranks`: cores, whole `devices`, or `part` of a device for each rank."""

    ranks: int
    cpus: int
    devices: int
    part: float
    memory: int

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
    return tuple(
        (Shape(ranks, needs.cpus * ranks, int(needs.gpus) * ranks, part, needs.memory), nodes)
        for ranks, nodes in ((few + 1, more), (few, needs.nodes - more))
        if nodes
    )


class Space:
    """Free cores, devices and memory of a node."""

    __slots__ = ("cores", "devices", "memory")

    def __init__(self, cores: Iterable[int], devices: dict[str, int], memory: float) -> None:
        self.cores = sorted(cores)
        self.devices = devices  # free units of each
        self.memory = memory  # infinite where it is not tracked

    def copy(self) -> Space:
        """The same, to try things on."""
        return Space(self.cores, dict(self.devices), self.memory)

    def fits(self, shape: Shape) -> bool:
        """There is enough for it."""
        if len(self.cores) < shape.cpus or self.memory < shape.memory:
            return False
        if shape.devices:
            return sum(free == WHOLE for free in self.devices.values()) >= shape.devices
        if shape.part:
            units = shape.units
            return sum(free // units for free in self.devices.values()) >= shape.ranks
        return True

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
        return Share(node, self._row(shape.cpus), self._parts(shape), shape.memory, shape.ranks)

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
        return devices and set(share.cpus) <= set(self.cores) and self.memory >= share.memory

    def take(self, share: Share) -> None:
        """Take a share that is free."""
        for core in share.cpus:
            self.cores.remove(core)
        for name, part in share.gpus:
            self.devices[name] -= _units(part)
        self.memory -= share.memory

    def give(self, share: Share) -> None:
        """Give back a share that was taken."""
        self.cores.extend(share.cpus)
        self.cores.sort()
        for name, part in share.gpus:
            self.devices[name] += _units(part)
        self.memory += share.memory


class Room:
    """A node with what is free there now, and the shares that leases hold of the rest."""

    __slots__ = ("free", "name", "node", "shares", "whole")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.name = node.name
        self.whole = Space(node.cpus, dict.fromkeys(node.gpus, WHOLE), node.memory or math.inf)
        self.free = self.whole.copy()
        self.shares: dict[int, Share] = {}  # by lease

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
