"""What is kept for the task with the best claim, so that smaller ones behind it cannot starve it.

This is EASY backfilling (D. Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995, LNCS 949; A. Mu'alem and
D. Feitelson, IEEE Trans. Parallel Distrib. Syst. 12(6), 2001, 529-543): the first task that does not fit is promised
the earliest start that the walltimes of the running ones allow, and others go ahead of it only where they end
before, or take what it will leave over. Two things are added. A place here is a vector of cores, devices and memory
of named nodes, so the promise names its nodes. And tasks need not state a walltime: then nobody knows the start,
nothing is taken to end before it, and whatever becomes free on the promised nodes stays free for the promised task.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

from heald.core.ready import Line
from heald.core.room import Room, Shape, Share, spread

Claims = list[tuple[Room, Shape]]
_Rank = dict[Room, tuple[float, tuple[int, int, float]]]  # when a shape will fit, and what is missing now


class Reservation:
    """A promise to the head of `line`: its rooms, and `start`, infinite when nobody knows.

    `ends` tells when each running lease ends, infinite when it states no walltime.
    """

    __slots__ = ("_awaited", "_crossing", "_later", "claims", "line", "stale", "start")

    def __init__(self, line: Line, claims: Claims, ends: Mapping[int, float], now: float) -> None:
        self.line = line
        self.claims = claims
        self.start = max(_earliest(room, shape, ends, now) for room, shape in claims)
        self.stale = False  # it may be possible to promise better
        # What will be free in each room at the start, and the shape that must then fit.
        self._later = {room.name: (room.free.copy(), shape) for room, shape in claims}
        self._crossing: set[int] = set()  # leases in these rooms that will still run then
        self._awaited: set[int] = set()  # those that end last before it
        for room, _ in claims:
            for lease, share in room.shares.items():
                end = max(ends[lease], now)
                if end > self.start:
                    self._crossing.add(lease)
                    continue
                self._later[room.name][0].give(share)
                if end == self.start:
                    self._awaited.add(lease)

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes that it keeps."""
        return list(self._later)

    def stands(self, now: float) -> bool:
        """The task could still end in time if it started now."""
        return all(now + self.line.needs.span <= room.node.until for room, _ in self.claims)

    def spares(self, room: Room, shape: Shape, end: float) -> bool:
        """A shape that fits in the room now, until `end`, delays nothing."""
        if room.name not in self._later or self._before(end):
            return True
        later, claimed = self._later[room.name]
        if len(later.cores) - shape.cpus < claimed.cpus:
            return False
        share = room.free.choose(room.name, shape)
        later.take(share)
        spared = later.fits(claimed)
        later.give(share)
        return spared

    def admit(self, lease: int, shares: Iterable[Share], end: float) -> bool:
        """Let a lease have its shares until `end`, if that delays nothing."""
        if lease in self._crossing or self._before(end):
            return True
        taken: list[Share] = []
        for share in shares:
            if share.node not in self._later:
                continue
            later, claimed = self._later[share.node]
            later.take(share)
            taken.append(share)
            if not later.fits(claimed):
                for each in taken:
                    self._later[each.node][0].give(each)
                return False
        if taken:
            self._crossing.add(lease)
            self._awaited.discard(lease)
        return True

    def ended(self, lease: int) -> None:
        """A lease was released: when it is one that the promise hangs on, promise anew."""
        if lease in self._crossing:
            self.stale = True
        elif lease in self._awaited:
            self._awaited.remove(lease)
            self.stale = self.stale or not self._awaited

    def _before(self, end: float) -> bool:
        return end <= self.start and self.start < math.inf


def reserve(line: Line, rooms: Collection[Room], ends: Mapping[int, float], now: float) -> Reservation | None:
    """The earliest promise that can be made to the head of a line, or None when it would not end in time.

    Of the rooms that allow that start, those that are full the longest: the others serve for backfilling. When
    nobody knows the start, those where least is missing.
    """
    span = line.needs.span
    ranks = {
        shape: {
            room: (_earliest(room, shape, ends, now), room.free.missing(shape))
            for room in rooms
            if now + span <= room.node.until and room.whole.fits(shape)
        }
        for shape, _ in line.shapes
    }
    while claims := spread((shape, many, _soonest(ranks[shape])) for shape, many in line.shapes):
        start = max(ranks[shape][room][0] for room, shape in claims)
        if start < math.inf:
            # A node of a gang may have to wait for the others until it is too late for it: then without that node.
            for shape, rank in ranks.items():
                ranks[shape] = {room: of for room, of in rank.items() if start + span <= room.node.until}
            claims = spread((shape, many, _last(ranks[shape], start)) for shape, many in line.shapes)
        if claims is not None:
            return Reservation(line, claims, ends, now)
    return None


def _soonest(rank: _Rank) -> list[Room]:
    return sorted(rank, key=rank.__getitem__)


def _last(rank: _Rank, start: float) -> list[Room]:
    """Rooms that will do at the start, those first that do no sooner."""
    return sorted((room for room in rank if rank[room][0] <= start), key=rank.__getitem__, reverse=True)


def _earliest(room: Room, shape: Shape, ends: Mapping[int, float], now: float) -> float:
    """When the shape will fit in the room. A lease past its walltime is about to be stopped."""
    space = room.free.copy()
    if space.fits(shape):
        return now
    for end, lease in sorted((ends[lease], lease) for lease in room.shares):
        space.give(room.shares[lease])
        if space.fits(shape):
            return max(end, now)
    return math.inf
