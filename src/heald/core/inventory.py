"""All nodes' rooms, sorted so that what fits is found without looking at what does not, however many there are.

Knows nothing of queues and promises: `placement` decides.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from itertools import chain, islice

from heald.core.errors import UsageError
from heald.core.resources import Resources
from heald.core.room import Kind, Node, Room, Shape, Share, could

_LOOKED_AT = 64  # rooms that are likely to serve soon


class Inventory:
    """The rooms by name. `freed` counts how often there came to be more room.

    >>> inventory = Inventory()
    >>> for name, cpus in (("a", (0, 1)), ("b", (0,))):
    ...     inventory.add(Node(name, cpus))
    >>> [room.name for room in inventory.fitting(Shape(1, 1, 0, 0.0, 0), until=0.0)]
    ['b', 'a']
    """

    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}
        self.freed = 0
        # By how many cores are free, and by kind: full rooms, and all that lack the same, are passed over at once.
        # Rooms come and go at both ends all the time, and a dict that was long is slow to find its first.
        self._levels: list[dict[Kind, OrderedDict[str, Room]]] = [{}]
        self._groups: dict[str, dict[str, Room]] = {}

    def add(self, node: Node) -> None:
        """Have a node. Raises UsageError when one of that name is there."""
        if node.name in self.rooms:
            raise UsageError(f"there is a node {node.name} already")
        room = self.rooms[node.name] = Room(node)
        self._levels.extend({} for _ in range(len(self._levels), len(node.cpus) + 1))
        self._groups.setdefault(node.group, {})[node.name] = room
        self._file(room)
        self.freed += 1

    def remove(self, name: str) -> None:
        """Have a node no more."""
        room = self.rooms.pop(name)
        self._unfile(room)
        group = self._groups[room.node.group]
        del group[name]
        if not group:
            del self._groups[room.node.group]

    def take(self, lease: int, share: Share) -> None:
        """Let a lease have its share, which is free."""
        room = self.rooms[share.node]
        self._unfile(room)
        room.free.take(share)
        room.shares[lease] = share
        self._file(room)

    def give(self, lease: int, share: Share) -> None:
        """Take back a share from a lease, if the node is still the one that it had it of."""
        room = self.rooms.get(share.node)
        if room is not None and room.shares.pop(lease, None) is not None:
            self._unfile(room)
            room.free.give(share)
            self._file(room)
            self.freed += 1

    def together(self, needs: Resources) -> Iterator[Collection[Room]]:
        """The rooms that may serve one attempt together: all, or for several nodes those of one group."""
        if needs.nodes == 1 or len(self._groups) < 2:
            yield self.rooms.values()
        else:
            yield from (group.values() for group in self._groups.values() if len(group) >= needs.nodes)

    def fitting(self, shape: Shape, until: float, among: Collection[Room] | None = None) -> Iterator[Room]:
        """Rooms where a shape fits now and until then, the fullest first: whole nodes stay for those that need them."""
        apart = among is not None and len(among) < len(self.rooms)
        for alike in [sorted(among or (), key=_cores)] if apart else self._likely_kinds(shape, until):
            for room in alike:
                if until <= room.node.until and room.free.fits(shape):
                    yield room

    def _likely_kinds(self, shape: Shape, until: float) -> Iterator[Collection[Room]]:
        for level in islice(self._levels, shape.cpus, None):
            for kind, alike in level.items():
                if could(kind, shape, until):
                    yield alike.values()

    def soon(self, shape: Shape, nodes: int, until: float, among: Collection[Room]) -> Collection[Room]:
        """Of the rooms that may serve together, where a shape may fit first: of very many only some.

        Those with the most free cores, and of these the ones where nothing has begun for the longest time.
        """
        enough = _LOOKED_AT + 2 * nodes
        if len(among) <= enough:
            return among
        if len(among) < len(self.rooms):
            order = iter(sorted(among, key=_cores, reverse=True))
        else:
            order = chain.from_iterable(alike.values() for level in reversed(self._levels) for alike in level.values())
        able = (room for room in order if until <= room.node.until and room.whole.fits(shape))
        return list(islice(able, enough))

    def _file(self, room: Room) -> None:
        room.sort()
        level = self._levels[room.cores]
        alike = level.get(room.kind)
        if alike is None:
            alike = level[room.kind] = OrderedDict()
        alike[room.name] = room

    def _unfile(self, room: Room) -> None:
        level = self._levels[room.cores]
        alike = level[room.kind]
        del alike[room.name]
        if not alike:
            del level[room.kind]


def _cores(room: Room) -> int:
    return room.cores
