"""Which ready task goes where: ready tasks and free resources in, leases out.

Tasks go in the order of their claims (see `ready`); cores, devices and memory are counted by node (see `room`); the
first task that does not fit gets a reservation, and others are backfilled around it (see `reservation`). Pure: what
time it is, is told by the caller, who asks `place` after anything changed (tasks pushed or discarded, leases
released, nodes added or removed) and `following` each time an attempt ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from heapq import heapify, heappop, heapreplace
from itertools import count, islice

import msgspec

from heald.core.errors import UsageError
from heald.core.inventory import Inventory
from heald.core.ready import Line
from heald.core.reservation import Reservation, reserve
from heald.core.resources import Resources
from heald.core.room import WHOLE, Node, Room, Shape, Share, shapes, spread

__all__ = ["Lease", "Node", "Placement", "Share"]

_GROUPS = 16  # groups of nodes in which a promise is sought


class Lease(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one attempt holds: a share of each of its nodes, all of them or none."""

    id: int
    shares: tuple[Share, ...]
    needs: Resources


class Placement:
    """Places ready tasks on nodes. What a call costs depends on what has changed, and not on how many nodes there are.

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
        self._inventory = Inventory()
        self._rooms = self._inventory.rooms
        self._ready: dict[Resources, Line] = {}  # none of them empty
        self._ends: dict[int, float] = {}  # when each lease that is held ends by its walltime
        self._absent: dict[str, dict[int, Share]] = {}  # by node and lease: shares of adopted leases, for when it comes
        self._ids = count(1)
        self._time = -math.inf  # of the last call of `place`
        self._promise: Reservation | None = None
        self._owed: tuple[list[Line], float] | None = None  # to the first of whom one is to be made, and since when

    # Nodes

    def add_node(self, node: Node) -> None:
        """Place on this node from now on. Raises UsageError when one of that name is there."""
        self._inventory.add(node)
        for lease, share in self._absent.pop(node.name, {}).items():
            if lease in self._ends:
                self._inventory.take(lease, share)
        self._promise = self._owed = None

    def remove_node(self, name: str) -> None:
        """Place nothing there any more. Leases with a share of it are still to be released."""
        self._inventory.remove(name)
        self._promise = self._owed = None

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
        for choice in self._inventory.together(needs):
            able = ((shape, many, [room for room in choice if room.whole.fits(shape)]) for shape, many in parts)
            if spread(able) is not None:
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
        fitting = sum(room.whole.fits(parts[-1][0]) for room in rooms) or "none"
        return f"{asked}; {fitting} of {_amount(len(rooms), 'node')} could hold its share"

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

    def waits(self, needs: Resources) -> bool:
        """Whether a ready task has exactly these needs."""
        return needs in self._ready

    def needs(self) -> list[Resources]:
        """The different needs of the ready tasks."""
        return list(self._ready)

    def wanted(self) -> int:
        """How many cores the ready tasks ask for, in all."""
        return sum(len(line) * line.needs.cpus * line.needs.ranks for line in self._ready.values())

    def __len__(self) -> int:
        return sum(map(len, self._ready.values()))

    def __bool__(self) -> bool:
        return bool(self._ready)

    # Decisions

    def place(self, now: float) -> list[tuple[int, Lease]]:
        """Give every ready task that can start now its lease, those with the best claims first."""
        placed: list[tuple[int, Lease]] = []
        kept: Reservation | None = None
        waiting: list[Line] = []  # those that do not fit; a promise is made when another could take something
        if now < self._time:  # the clock was set back: what would have been too late may be in time
            self._inventory.freed += 1
        self._time, freed = now, self._inventory.freed
        heads = [(line.head, line) for line in self._ready.values()]
        heapify(heads)
        while heads:
            line = heads[0][1]
            if waiting and kept is None and self._could_start(line, now):
                kept = self._first_promise(waiting, now, changed=bool(placed))
                waiting = waiting if kept else []
            lease = None if line.refused == freed else self._grant(line, now, kept)
            if lease is None:
                heappop(heads)
                waiting.append(line)
                if kept is None:
                    line.refused = freed
                continue
            if self._promise is not None and self._promise.line is line:
                self._promise = None  # kept what it promised
            placed.append((line.pop(), lease))
            if line:
                heapreplace(heads, (line.head, line))
            else:
                heappop(heads)
                self._close_if_empty(line)
        self._owe(waiting, now, kept, changed=bool(placed))
        return placed

    @property
    def reservation(self) -> Reservation | None:
        """The promise to the first that does not fit, if there is one. It is made when it is first looked at."""
        if self._owed is not None:
            lines, now = self._owed
            self._owed = None
            self._promise = self._first_promise(filter(None, lines), now, changed=False)
        return self._promise

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
        span, end = lease.needs.span, math.inf
        if lease.needs.walltime:
            end = now + span
        for share in lease.shares:
            room = self._rooms.get(share.node)
            if room is None or lease.id not in room.shares or now + span > room.node.until:
                return None
        if len(self._ready) > 1 and self._contested(lease, line, now):
            return None
        promise = self.reservation if len(self._ready) > 1 else self._promise
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
            self._inventory.give(lease.id, share)  # a node may have come back under its name: then it has nothing of it
        if self._promise is not None:
            self._promise.ended(lease.id)

    def explain(self, needs: Resources, now: float) -> str:
        """Why a ready task of these needs is not placed now, for users to read."""
        reason = self.unfit(needs)
        if reason is not None:
            return reason
        rooms, shape = self._rooms.values(), shapes(needs)[-1][0]
        timely = [room for room in rooms if now + needs.span <= room.node.until]
        if len(timely) < needs.nodes:
            enough = f"{len(timely)} of {_amount(len(rooms), 'node')} will be there for that long"
            return f"runs for up to {needs.span:g} s on {_amount(needs.nodes, 'node')}; {enough}"
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

        Shares of nodes that are not here yet are taken when they come.
        """
        lease = Lease(next(self._ids), shares, needs)
        self._ends[lease.id] = now + needs.walltime if needs.walltime else math.inf
        for share in shares:
            room = self._rooms.get(share.node)
            if room is None:
                self._absent.setdefault(share.node, {})[lease.id] = share
            elif room.free.has(share):
                self._inventory.take(lease.id, share)
        return lease

    # How

    def _grant(self, line: Line, now: float, kept: Reservation | None) -> Lease | None:
        needs = line.needs
        rooms = self._rooms_for(line.shapes, needs, now, kept)
        if rooms is None:
            return None
        end = now + needs.walltime if needs.walltime else math.inf
        number = next(self._ids)
        shares = tuple(room.free.choose(room.name, shape) for room, shape in rooms)
        for share in shares:
            self._inventory.take(number, share)
        self._ends[number] = end
        if kept is not None:
            kept.admit(number, shares, end)
        return Lease(number, shares, needs)

    def _rooms_for(
        self, parts: Iterable[tuple[Shape, int]], needs: Resources, now: float, kept: Reservation | None
    ) -> list[tuple[Room, Shape]] | None:
        until = now + needs.span
        end = until if needs.walltime else math.inf
        inventory = self._inventory
        for choice in [None] if needs.nodes == 1 else inventory.together(needs):
            fitting = (
                (shape, many, _sparing(inventory.fitting(shape, until, choice), shape, end, kept))
                for shape, many in parts
            )
            if (found := spread(fitting)) is not None:
                return found
        return None

    def _could_start(self, line: Line, now: float) -> bool:
        return line.refused != self._inventory.freed and self._rooms_for(line.shapes, line.needs, now, None) is not None

    def _owe(self, waiting: list[Line], now: float, kept: Reservation | None, *, changed: bool) -> None:
        """Keep the promise that was made, or make one when somebody needs to know it."""
        old = self._promise
        self._owed = (waiting, now) if waiting and kept is None else None
        if self._owed is None or old is None or old.line not in waiting:
            self._promise = kept
        elif changed:
            old.stale = True

    def _first_promise(self, lines: Iterable[Line], now: float, *, changed: bool) -> Reservation | None:
        promises = (self._reserve(line, now, changed=changed) for line in lines)
        return next(filter(None, promises), None)

    def _reserve(self, line: Line, now: float, *, changed: bool) -> Reservation | None:
        """The promise to a line that does not fit. It stays with its nodes, or the promised task could starve."""
        old = self._promise
        if old is None or old.line is not line or not old.stands(now):
            shape, many, until = line.shapes[0][0], line.needs.nodes, now + line.needs.span
            choices = islice(self._inventory.together(line.needs), _GROUPS)
            likely = (self._inventory.soon(shape, many, until, choice) for choice in choices)
            promises = [reserve(line, rooms, self._ends, now) for rooms in likely]
            return min(filter(None, promises), key=lambda promise: promise.start, default=None)
        return Reservation(line, old.claims, self._ends, now) if changed or old.stale else old

    def _contested(self, lease: Lease, line: Line, now: float) -> bool:
        """Somebody in another line has a better claim, and could use what the lease holds."""
        claim, only = line.head, len(line) == 1
        for other in self._ready.values():
            if other is line or other.head > claim:
                continue
            shape, until = other.shapes[-1][0], now + other.needs.span
            for share in lease.shares:
                room = self._rooms[share.node]
                if until <= room.node.until and room.fits_after(lease.id, shape):
                    return True
        # The promise ends with the last of its line, and only `place` makes the next.
        return only and self.reservation is not None and self.reservation.line is line

    def _close_if_empty(self, line: Line) -> None:
        if not line:
            del self._ready[line.needs]
            if self._promise is not None and self._promise.line is line:
                self._promise = None


def _sparing(rooms: Iterable[Room], shape: Shape, end: float, kept: Reservation | None) -> Iterable[Room]:
    """The rooms where the shape delays nothing that was promised."""
    return rooms if kept is None else (room for room in rooms if kept.spares(room, shape, end))


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
    where = _amount(needs.nodes, "node") + (f" of {', '.join(needs.hosts)}" if needs.hosts else "")
    limit = f", at most {_amount(needs.tasks_per_node, 'such task')} on each" if needs.tasks_per_node else ""
    return f"{', '.join(parts)} on {where}{limit}"
