"""Which ready task goes where: ready tasks and free resources in, leases out.

Tasks go in the order of their claims (see `ready`); cores, devices and memory are counted by node (see `room`); the
first task that does not fit gets a reservation, and others are backfilled around it (see `reservation`). Pure: what
time it is, is told by the caller, who asks `place` after anything changed (tasks pushed or discarded, leases
released, nodes added or removed) and `following` each time an attempt ends.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from itertools import count

import msgspec

from heald.core.errors import UsageError
from heald.core.ready import Line
from heald.core.reservation import Reservation, reserve
from heald.core.resources import Resources
from heald.core.room import WHOLE, Node, Room, Shape, Share, shapes, spread

__all__ = ["Lease", "Node", "Placement", "Share"]


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """What one attempt holds: a share of each of its nodes, all of them or none."""

    id: int
    shares: tuple[Share, ...]
    needs: Resources


class Placement:
    """Places ready tasks on nodes. `reservation` is the promise to the first that does not fit, if there is one.

    >>> placement = Placement()
    >>> placement.add_node(Node("a", cpus=(0, 1)))
    >>> for task in (1, 2, 3):
    ...     placement.push(task, Resources())
    >>> placed = placement.place(now=0.0)
    >>> [(task, lease.shares[0].cpus) for task, lease in placed]
    [(1, (0,)), (2, (1,))]
    >>> placement.following(placed[0][1], now=1.0)
    3
    """

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}
        # The rooms by how many cores are free: the fullest that fits is found without looking at full ones.
        self._levels: list[dict[str, Room]] = [{}]
        self._groups: dict[str, dict[str, Room]] = {}
        self._ready: dict[Resources, Line] = {}  # none of them empty
        self._ends: dict[int, float] = {}  # when each lease that is held ends by its walltime
        self._ids = count(1)
        self.reservation: Reservation | None = None

    # Nodes

    def add_node(self, node: Node) -> None:
        """Place on this node from now on. Raises UsageError when one of that name is there."""
        if node.name in self._rooms:
            raise UsageError(f"there is a node {node.name} already")
        self._rooms[node.name] = room = Room(node)
        self._levels.extend({} for _ in range(len(self._levels), len(node.cpus) + 1))
        self._levels[len(node.cpus)][node.name] = room
        self._groups.setdefault(node.group, {})[node.name] = room
        self.reservation = None

    def remove_node(self, name: str) -> None:
        """Place nothing there any more. Leases with a share of it are still to be released."""
        room = self._rooms.pop(name)
        del self._levels[len(room.free.cores)][name]
        group = self._groups[room.node.group]
        del group[name]
        if not group:
            del self._groups[room.node.group]
        self.reservation = None

    def __contains__(self, node: str) -> bool:
        return node in self._rooms

    def unfit(self, needs: Resources) -> str | None:
        """Why the nodes that are here could never run it, as a sentence, or None when they could.

        >>> Placement().unfit(Resources())
        'needs 1 cpu on 1 node; there is no node'
        """
        asked = f"needs {_words(needs)}"
        rooms, parts = self._rooms.values(), shapes(needs)
        if not rooms:
            return f"{asked}; there is no node"
        able = [(shape, many, [room for room in rooms if room.whole.fits(shape)]) for shape, many in parts]
        for within in self._choices(needs):
            if spread((shape, many, filter(within, fitting)) for shape, many, fitting in able) is not None:
                return None
        shape = parts[0][0]
        devices = shape.devices or (-(-shape.ranks // (WHOLE // shape.units)) if shape.part else 0)
        for asks, most, unit in (
            (shape.cpus, max(len(room.node.cpus) for room in rooms), "cpu"),
            (devices, max(len(room.node.gpus) for room in rooms), "gpu"),
            (shape.memory, max(room.whole.memory for room in rooms), "byte"),
        ):
            if asks > most:
                return f"needs {_amount(asks, unit)} on a node; the largest node has {_amount(most, unit, short=True)}"
        could = len(able[-1][2]) or "none"
        return f"{asked}; {could} of {_amount(len(rooms), 'node')} could hold its share"

    # Tasks

    def push(self, task: int, needs: Resources, priority: int = 0, depth: int = 0) -> None:
        """Let a task wait for its place. Higher priority goes first, then greater depth, then the lower id."""
        line = self._ready.get(needs)
        if line is None:
            line = self._ready[needs] = Line(needs)
        line.push(task, priority, depth)

    def discard(self, task: int, needs: Resources, priority: int = 0, depth: int = 0) -> bool:
        """Forget a ready task, named as it was pushed; False when it is not (or no longer) waiting."""
        line = self._ready.get(needs)
        if line is None or not line.discard(task, priority, depth):
            return False
        self._close_if_empty(line)
        return True

    def queued(self, needs: Resources) -> int:
        """How many ready tasks have exactly these needs."""
        return len(self._ready.get(needs, ()))

    def wanted(self) -> int:
        """How many cores the ready tasks ask for, in all."""
        return sum(len(line) * line.needs.cpus * line.needs.ranks for line in self._ready.values())

    def __len__(self) -> int:
        return sum(map(len, self._ready.values()))

    # Decisions

    def place(self, now: float) -> list[tuple[int, Lease]]:
        """Give every ready task that can start now its lease, those with the best claims first."""
        placed: list[tuple[int, Lease]] = []
        kept: Reservation | None = None
        heads = [(line.head, line) for line in self._ready.values()]
        heapify(heads)
        while heads:
            line = heads[0][1]
            lease = self._grant(line, now, kept)
            if lease is None:
                heappop(heads)
                kept = kept or self._reserve(line, now, changed=bool(placed))
                continue
            if self.reservation is not None and self.reservation.line is line:
                self.reservation = None  # kept what it promised
            placed.append((line.pop(), lease))
            if line:
                heapreplace(heads, (line.head, line))
            else:
                heappop(heads)
                self._close_if_empty(line)
        self.reservation = kept
        return placed

    def fits(self, needs: Resources, now: float) -> bool:
        """Whether one more attempt of these needs could start now."""
        return self._rooms_for(shapes(needs), needs, now, self.reservation) is not None

    def following(self, lease: Lease, now: float) -> int | None:
        """The ready task that takes over a lease whose attempt has ended, as it is; None when it must be released.

        It needs the same, and nobody with a better claim could use what the lease holds.
        """
        line = self._ready.get(lease.needs)
        if line is None:
            return None
        walltime, end = lease.needs.walltime, math.inf
        if walltime:
            end = now + walltime
        for share in lease.shares:
            room = self._rooms.get(share.node)
            if room is None or lease.id not in room.shares or now + walltime > room.node.until:
                return None
        if len(self._ready) > 1 and self._contested(lease, line, now):
            return None
        promise = self.reservation
        if promise is not None:
            if promise.line is line:
                promise.stale = True
            elif not promise.admit(lease.id, lease.shares, end):
                return None
        self._ends[lease.id] = end
        task = line.pop()
        self._close_if_empty(line)
        return task

    def release(self, lease: Lease) -> None:
        """Take a lease back. Raises UsageError when it is not held; what it had of nodes that are gone is gone."""
        if self._ends.pop(lease.id, None) is None:
            raise UsageError(f"lease {lease.id} is not held")
        for share in lease.shares:
            room = self._rooms.get(share.node)
            # A node may have come back under its name: this lease has nothing of the new one.
            if room is not None and room.shares.pop(lease.id, None) is not None:
                before = len(room.free.cores)
                room.free.give(share)
                self._moved(room, before)
        if self.reservation is not None:
            self.reservation.ended(lease.id)

    def explain(self, needs: Resources, now: float) -> str:
        """Why a ready task of these needs is not placed now, for users to read."""
        reason = self.unfit(needs)
        if reason is not None:
            return reason
        rooms, shape = self._rooms.values(), shapes(needs)[-1][0]
        timely = [room for room in rooms if now + needs.walltime <= room.node.until]
        if len(timely) < needs.nodes:
            enough = f"{len(timely)} of {_amount(len(rooms), 'node')} will be there for that long"
            return f"runs for up to {needs.walltime:g} s on {_amount(needs.nodes, 'node')}; {enough}"
        able = sum(room.free.fits(shape) for room in timely)
        free = sum(len(room.free.cores) for room in rooms)
        total = sum(len(room.node.cpus) for room in rooms)
        told = (
            f"needs {_words(needs)}; {able} of {_amount(len(rooms), 'node')} can hold its share now"
            f" ({free} of {_amount(total, 'cpu')} free)"
        )
        promise = self.reservation
        if promise is None:
            return told
        whom = "it" if promise.line.needs == needs else f"a task ahead that needs {_words(promise.line.needs)}"
        when = "when they are free"
        if promise.start < math.inf:
            when = f"in {max(0.0, promise.start - now):g} s at the latest"
        return f"{told}; {', '.join(promise.nodes)} kept for {whom}, to start {when}"

    def adopt(self, shares: tuple[Share, ...], needs: Resources, now: float) -> Lease:
        """A lease of what an attempt holds already, which another placement gave it; it may run for its whole walltime.

        Shares of nodes that are not here yet are to be given to `hold` when they are.
        """
        lease = Lease(next(self._ids), shares, needs)
        self._ends[lease.id] = now + needs.walltime if needs.walltime else math.inf
        for share in shares:
            self.hold(lease, share)
        return lease

    def hold(self, lease: Lease, share: Share) -> None:
        """Take a share of an adopted lease, if its node is here and has it free."""
        room = self._rooms.get(share.node)
        if room is not None and lease.id not in room.shares and room.free.has(share):
            before = len(room.free.cores)
            room.free.take(share)
            room.shares[lease.id] = share
            self._moved(room, before)

    # How

    def _grant(self, line: Line, now: float, kept: Reservation | None) -> Lease | None:
        needs = line.needs
        rooms = self._rooms_for(line.shapes, needs, now, kept)
        if rooms is None:
            return None
        end = now + needs.walltime if needs.walltime else math.inf
        number = next(self._ids)
        shares = tuple(room.free.choose(room.name, shape) for room, shape in rooms)
        for (room, _), share in zip(rooms, shares, strict=True):
            before = len(room.free.cores)
            room.free.take(share)
            room.shares[number] = share
            self._moved(room, before)
        self._ends[number] = end
        if kept is not None:
            kept.admit(number, shares, end)
        return Lease(number, shares, needs)

    def _rooms_for(
        self, parts: Iterable[tuple[Shape, int]], needs: Resources, now: float, kept: Reservation | None
    ) -> list[tuple[Room, Shape]] | None:
        until = now + needs.walltime
        end = until if needs.walltime else math.inf
        if needs.nodes == 1:
            return spread((shape, many, self._fitting(shape, until, end, kept)) for shape, many in parts)
        for within in self._choices(needs):
            fitting = ((shape, many, filter(within, self._fitting(shape, until, end, kept))) for shape, many in parts)
            if (found := spread(fitting)) is not None:
                return found
        return None

    def _choices(self, needs: Resources) -> Iterator[Callable[[Room], bool]]:
        """Which rooms may serve together: any, or for several nodes those of one group."""
        if needs.nodes == 1 or len(self._groups) < 2:
            yield _any
        else:
            yield from (functools.partial(_in, group) for group in self._groups)

    def _fitting(self, shape: Shape, until: float, end: float, kept: Reservation | None) -> Iterator[Room]:
        """Rooms where a shape fits now, the fullest first, so that whole nodes stay free for those that need them."""
        for cores in range(shape.cpus, len(self._levels)):
            for room in self._levels[cores].values():
                if until > room.node.until or not room.free.fits(shape):
                    continue
                if kept is None or kept.spares(room, shape, end):
                    yield room

    def _moved(self, room: Room, before: int) -> None:
        del self._levels[before][room.name]
        self._levels[len(room.free.cores)][room.name] = room

    def _reserve(self, line: Line, now: float, *, changed: bool) -> Reservation | None:
        """The promise to a line that does not fit. It stays with its nodes, or the promised task could starve."""
        old = self.reservation
        if old is None or old.line is not line or not old.stands(now):
            rooms = self._rooms.values()
            choices = [list(filter(within, rooms)) for within in self._choices(line.needs)]
            promises = [reserve(line, choice, self._ends, now) for choice in choices]
            return min(filter(None, promises), key=lambda promise: promise.start, default=None)
        return Reservation(line, old.claims, self._ends, now) if changed or old.stale else old

    def _contested(self, lease: Lease, line: Line, now: float) -> bool:
        """Somebody in another line has a better claim, and could use what the lease holds."""
        claim, only = line.head, len(line) == 1
        for other in self._ready.values():
            if other is line or other.head > claim:
                continue
            shape, until = other.shapes[-1][0], now + other.needs.walltime
            for share in lease.shares:
                room = self._rooms[share.node]
                if until <= room.node.until and room.fits_after(lease.id, shape):
                    return True
        # The promise ends with the last of its line, and only `place` makes the next.
        return only and self.reservation is not None and self.reservation.line is line

    def _close_if_empty(self, line: Line) -> None:
        if not line:
            del self._ready[line.needs]
            if self.reservation is not None and self.reservation.line is line:
                self.reservation = None


def _any(room: Room) -> bool:
    return True


def _in(group: str, room: Room) -> bool:
    return room.node.group == group


def _amount(number: float, unit: str, *, short: bool = False) -> str:
    if unit == "byte":
        return f"{number / 1e9:g} GB" + ("" if short else " of memory")
    return f"{number:g}" if short else f"{number:g} {unit}{'' if number == 1 else 's'}"


def _words(needs: Resources) -> str:
    parts = [_amount(needs.cpus * needs.ranks, "cpu")]
    if needs.gpus:
        parts.append(_amount(needs.gpus * needs.ranks, "gpu"))
    if needs.memory:
        parts.append(_amount(needs.memory, "byte"))
    return f"{', '.join(parts)} on {_amount(needs.nodes, 'node')}"
