"""Which attempt goes to which lane, how many at a time, and when some are taken back.

A lane runs its orders one after another. Short attempts are sent many at a time, as many as are expected to last a
few few milliseconds; when a lane runs dry while another sits on more than that, or the one at the head turns out to be
long, the unstarted ones are taken back. So a long task never holds short ones behind it for long, whatever was
expected of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from heald.core.event import Usage
from heald.core.placement import Lease, Node, Placement
from heald.core.resources import Resources
from heald.run.protocol import Order

_HORIZON = 0.005  # seconds of expected work that a lane is sent ahead
_SHORT = 0.25  # attempts expected to be longer than this are sent one by one; nobody waits longer behind one
_WORTH = 0.002  # seconds of expected work that are worth taking back
_DEEPEST = 1024  # orders on a lane: the claims of all must fit in a pipe
_UNKNOWN = float("inf")


class Lane(Protocol):
    """A place that runs the orders of one lease one after another."""

    name: str
    lease: Lease | None
    fifo: deque[Order]
    long: bool
    stopping: bool
    ahead: float
    deep: bool

    def send(self, orders: list[Order]) -> None:
        """Queue orders there."""

    def take_back(self, keep: int = 0) -> list[Order]:
        """Unstarted orders, the last ones, taken back; `keep` of them stay."""


class Host(Protocol):
    """Whoever knows the tasks: the engine."""

    def order(self, task: int, lane: str, label: str) -> Order | None:
        """The order for the next attempt of a ready task, now placed; None when it is not wanted any more."""

    def returned(self, orders: Iterable[Order]) -> None:
        """These were placed and not run."""

    def limit(self, label: str, order: Order, walltime: float) -> None:
        """The attempt begins now, and may take so many seconds."""

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` when that time has passed, and `pump` then."""


class Dispatch:
    """The ready tasks of one executor, and its lanes."""

    def __init__(
        self,
        label: str,
        nodes: Iterable[Node],
        host: Host,
        hold: Callable[[Lane, Lease], None],
        open_lane: Callable[[], Lane],
    ) -> None:
        self.label = label
        self.placement = Placement()
        self.spare = 0
        for node in nodes:
            self.placement.add_node(node)
            self.spare += len(node.cpus)
        self.lanes: list[Lane] = []  # that have a lease
        self.idle: list[Lane] = []
        self._host = host
        self._hold = hold
        self._open_lane = open_lane
        self._means: dict[bytes, float] = {}
        self._watched: set[str] = set()  # lanes to be looked at again
        self._left = False  # a lane gave back what it held

    def push(self, task: int, needs: Resources, priority: int, depth: int) -> None:
        """The task is ready."""
        self.placement.push(task, needs, priority, depth)

    def pump(self, now: float) -> None:
        """Send what can be sent."""
        if len(self.placement):
            self._place(now)
        if self.spare > 0 and self.lanes and self._rebalance(now):
            self._place(now)

    def _place(self, now: float) -> None:
        placement = self.placement
        self._left = True
        while self._left and len(placement):
            self._left = False
            for task, lease in placement.place(now):
                self._begin(task, lease, now)
            for lane in list(self.lanes):
                if len(placement) and self._room(lane, len(lane.fifo)):
                    self._fill(lane, now, [])

    def _begin(self, task: int, lease: Lease, now: float) -> None:
        if self.idle:
            lane = self.idle.pop()
        else:
            lane = self._open_lane()
        lane.lease = lease
        lane.ahead = 0.0
        self.lanes.append(lane)
        self.spare -= _cpus(lease)
        self._hold(lane, lease)
        order = self._host.order(task, lane.name, self.label)
        self._fill(lane, now, [order] if order is not None else [])

    def _fill(self, lane: Lane, now: float, orders: list[Order]) -> None:
        assert lane.lease is not None
        for order in orders:
            lane.ahead += self._means.get(order.work, _UNKNOWN)
        while self._room(lane, len(lane.fifo) + len(orders)):
            task = self.placement.following(lane.lease, now)
            if task is None:
                break
            following = self._host.order(task, lane.name, self.label)
            if following is not None:
                lane.ahead += self._means.get(following.work, _UNKNOWN)
                orders.append(following)
        if orders:
            lane.send(orders)
            if len(lane.fifo) > 1 and lane.name not in self._watched:
                self._watch(lane)
            if walltime := lane.lease.needs.walltime:
                self._host.limit(self.label, orders[0], walltime)
        elif not lane.fifo:
            self.leave(lane)

    def _room(self, lane: Lane, count: int) -> bool:
        if count == 0:
            return not lane.stopping
        if not lane.deep or lane.long or lane.stopping or count >= _DEEPEST:
            return False
        assert lane.lease is not None
        if lane.lease.needs.walltime or lane.lease.needs.memory:
            return False  # their limits are counted from the moment they are sent
        return lane.ahead < _HORIZON or (count < 2 and lane.ahead <= _SHORT)

    def ended(self, lane: Lane, order_work: bytes, usage: Usage, now: float) -> None:
        """The order at the head of a lane is over."""
        mean = self._means.get(order_work)
        lane.ahead = max(0.0, lane.ahead - (_UNKNOWN if mean is None else mean)) if lane.fifo else 0.0
        self._means[order_work] = usage.seconds if mean is None else mean + 0.2 * (usage.seconds - mean)
        if lane.ahead == _UNKNOWN or lane.ahead != lane.ahead:
            lane.ahead = self._expected(lane)
        if not lane.fifo:
            lane.stopping = False
            self._fill(lane, now, [])

    def _expected(self, lane: Lane) -> float:
        return sum(self._means.get(order.work, _UNKNOWN) for order in lane.fifo)

    def leave(self, lane: Lane, *, alive: bool = True) -> None:
        """The lane has nothing to do, or is no more: give back what it holds."""
        if lane.lease is not None:
            self.placement.release(lane.lease)
            self.spare += _cpus(lane.lease)
            lane.lease = None
            self.lanes.remove(lane)
            self._left = True
            if alive:
                self.idle.append(lane)
        elif not alive and lane in self.idle:
            self.idle.remove(lane)

    def _rebalance(self, now: float) -> bool:
        """Take back what others could run now; whether there was any."""
        taken = False
        for lane in list(self.lanes):
            if len(lane.fifo) > 1 and (lane.long or lane.ahead > _WORTH):
                assert lane.lease is not None
                if self.placement.fits(lane.lease.needs, now):
                    taken = self.take_back(lane, 0 if lane.long else len(lane.fifo) // 2) or taken
        return taken

    def _watch(self, lane: Lane) -> None:
        """Look at a lane where some wait, after a while.

        The worker tells of a long attempt, but cannot when it runs C code that keeps Python's lock; and while others
        are never idle, nobody asks for those that wait.
        """
        head = lane.fifo[0]
        self._watched.add(lane.name)
        self._host.after(_SHORT, lambda: self._look(lane, head))

    def _look(self, lane: Lane, head: Order) -> None:
        self._watched.discard(lane.name)
        if len(lane.fifo) < 2:
            return
        if lane.fifo[0] is head:
            lane.long = True
            self.take_back(lane)
        else:
            self._watch(lane)

    def take_back(self, lane: Lane, keep: int = 0) -> bool:
        """Make unstarted orders of the lane ready again; False when there was none."""
        taken = lane.take_back(keep)
        if not taken:
            return False
        if lane.fifo:
            lane.ahead = self._expected(lane)
        else:
            self.leave(lane)
        self._host.returned(taken)
        return True

    def find(self, task: int) -> tuple[Lane, Order] | None:
        """Where an attempt of the task is."""
        for lane in self.lanes:
            for order in lane.fifo:
                if order.task == task:
                    return lane, order
        return None


def _cpus(lease: Lease) -> int:
    return sum(len(share.cpus) for share in lease.shares)
