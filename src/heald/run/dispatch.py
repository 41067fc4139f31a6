"""Which attempt goes to which lane, how many at a time, and when some are taken back.

A lane runs its orders one after another. Short attempts are sent many at a time, as many as are expected to last a
few milliseconds; when a lane runs dry while another sits on more than that, or the one at the head turns out to be
long, the unstarted ones are taken back. So a long task never holds short ones behind it for long, whatever was
expected of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from heald.core.event import Usage
from heald.core.placement import Lease, Node, Placement
from heald.core.resources import SINGLE, Resources
from heald.run.protocol import Order
from heald.run.rota import Rota

_HORIZON = 0.005  # seconds of expected work that a lane of this machine is sent ahead
_SHORT = 0.25  # attempts expected to be longer than this are sent one by one; nobody waits longer behind one
_WORTH = 0.4  # of the horizon: expected work that is worth taking back
_DEEPEST = 1024  # orders on a lane: the claims of all must fit in a pipe
_UNKNOWN = float("inf")


class Lane(Protocol):
    """A place that runs the orders of one lease one after another."""

    name: str
    lease: Lease | None
    long: bool
    stopping: bool
    ahead: float
    deep: bool
    asked: bool  # to give back what it has not begun, and the answer is still to come

    @property
    def fifo(self) -> Sequence[Order]:
        """Its orders: the first is the one that runs."""

    def send(self, orders: list[Order]) -> None:
        """Queue orders there."""

    def take_back(self, keep: int = 0) -> list[Order]:
        """Unstarted orders, the last ones, taken back; `keep` of them stay. One far away says later which they are."""


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
        hold: Callable[[Any, Lease], None],
        open_lane: Callable[[Lease], Lane],
        *,
        horizon: float = _HORIZON,
    ) -> None:
        self.label = label
        self.placement = Placement()
        self.spare = 0
        self.lanes: dict[str, Lane] = {}  # that have a lease, by name
        self.idle: dict[str, list[Lane]] = {}  # by node
        self.resting: dict[str, Lane] = {}  # by name: they have nothing to do and hold their lease, while nobody waits
        self._horizon = horizon
        self._worth = horizon * _WORTH
        self._host = host
        self._hold = hold
        self._open_lane = open_lane
        self._places: dict[int, Lane] = {}  # by task
        self._means: dict[bytes, float] = {}
        self._homes: dict[str, str] = {}  # the node of every lane, by name
        self._hungry: Rota[Lane] = Rota()  # lanes that may have room for more
        self._deep: Rota[Lane] = Rota()  # lanes that may have orders to be taken back
        self._asked: set[str] = set()  # lanes that are to give orders back, and have not answered
        self._watched: set[str] = set()  # lanes to be looked at again
        self._left = False  # a lane gave back what it held
        for node in nodes:
            self.add_node(node)

    def add_node(self, node: Node) -> None:
        """Run attempts there from now on."""
        self.placement.add_node(node)
        self.spare += len(node.cpus)

    def remove_node(self, node: Node) -> None:
        """Begin nothing there any more."""
        self.placement.remove_node(node.name)
        self.spare -= len(node.cpus)
        self.idle.pop(node.name, None)

    def push(self, task: int, needs: Resources, priority: int, depth: int) -> None:
        """The task is ready."""
        self.placement.push(task, needs, priority, depth)

    def pump(self, now: float) -> None:
        """Send what can be sent."""
        if self.resting and (self.placement or self._deep):
            self._rouse(now)
        if self.placement:
            self._place(now)
        if self.spare > len(self._asked) and self._deep and self._rebalance(now):
            self._place(now)

    def _rouse(self, now: float) -> None:
        """One task goes to a lane that rests, which is quickest; of several, each is placed with all lanes in view."""
        one = len(self.placement) == 1
        while self.resting and (self.placement or self._deep):
            _, lane = self.resting.popitem()
            if one:
                self._fill(lane, now, [])
            else:
                self.leave(lane)

    def _place(self, now: float) -> None:
        placement = self.placement
        self._left = True
        while self._left and placement:
            self._left = False
            for task, lease in placement.place(now):
                self._begin(task, lease, now)
            for needs in placement.needs():
                self._feed(needs, now)

    def _feed(self, needs: Resources, now: float) -> None:
        """Send more to lanes that have room, as long as there is something for them."""
        hungry = self._hungry
        for _ in range(hungry.count(needs)):
            lane = hungry.next(needs) if self.placement.waits(needs) else None
            if lane is None:
                break
            if self._room(lane, len(lane.fifo)):
                self._fill(lane, now, [])

    def _begin(self, task: int, lease: Lease, now: float) -> None:
        node = lease.shares[0].node
        idle = self.idle.get(node)
        lane = idle.pop() if idle else self._open_lane(lease)
        lane.lease = lease
        lane.ahead = 0.0
        self.lanes[lane.name] = lane
        self._homes[lane.name] = node
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
            for order in orders:
                self._places[order.task] = lane
            lane.send(orders)
            self._hungry.add(lane)
            if len(lane.fifo) > 1:
                self._deep.add(lane)
                if lane.name not in self._watched:
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
        return lane.ahead < self._horizon or (count < 2 and lane.ahead <= _SHORT)

    def adopt(self, lane: Lane, lease: Lease) -> None:
        """A lane that is at work already: its orders are in its `fifo`."""
        lane.lease = lease
        lane.ahead = self._expected(lane)
        self.lanes[lane.name] = lane
        self._homes[lane.name] = lease.shares[0].node
        self.spare -= _cpus(lease)
        for order in lane.fifo:
            self._places[order.task] = lane
        if len(lane.fifo) > 1:
            self._deep.add(lane)
            self._watch(lane)

    def began(self, lane: Lane) -> None:
        """The order at the head of a lane has turned out to be long."""
        lane.long = True
        if len(lane.fifo) > 1:
            self._deep.add(lane)

    def ended(self, lane: Lane, order: Order, usage: Usage, now: float) -> None:
        """The order at the head of a lane is over."""
        self._places.pop(order.task, None)
        mean = self._means.get(order.work)
        lane.ahead = max(0.0, lane.ahead - (_UNKNOWN if mean is None else mean)) if lane.fifo else 0.0
        self._means[order.work] = usage.seconds if mean is None else mean + 0.2 * (usage.seconds - mean)
        if lane.ahead == _UNKNOWN or lane.ahead != lane.ahead:
            lane.ahead = self._expected(lane)
        if lane.fifo:
            self._hungry.add(lane)
        else:
            lane.stopping = False
            assert lane.lease is not None
            # Only one core is kept so: memory, devices and times that nobody uses would be counted as used.
            if self.placement or self._deep or lane.lease.needs != SINGLE:
                self._fill(lane, now, [])
            else:
                self._hungry.discard(lane)
                self.resting[lane.name] = lane

    def _expected(self, lane: Lane) -> float:
        return sum(self._means.get(order.work, _UNKNOWN) for order in lane.fifo)

    def leave(self, lane: Lane) -> None:
        """The lane has nothing to do: give back what it holds."""
        assert lane.lease is not None
        node = lane.lease.shares[0].node
        self._release(lane)
        if node in self.placement:
            self.idle.setdefault(node, []).append(lane)

    def gone(self, lane: Lane, orders: Iterable[Order]) -> None:
        """The lane is no more, nor are the `orders` that were there."""
        node = self._homes.pop(lane.name, "")
        self.resting.pop(lane.name, None)
        if lane.lease is not None:
            self._release(lane)
        elif lane in (idle := self.idle.get(node, [])):
            idle.remove(lane)
        self._asked.discard(lane.name)
        for order in orders:
            self._places.pop(order.task, None)

    def _release(self, lane: Lane) -> None:
        assert lane.lease is not None
        self.placement.release(lane.lease)
        self.spare += _cpus(lane.lease)
        self._hungry.discard(lane)
        self._deep.discard(lane)
        lane.lease = None
        del self.lanes[lane.name]
        self._left = True

    def _rebalance(self, now: float) -> bool:
        """Take back what others could run now, from as many lanes as there are cores for it; whether any came back."""
        taken = False
        deep, asked = self._deep, self._asked
        for needs in deep.needs():
            if not self.placement.fits(needs, now):
                continue
            for _ in range(min(deep.count(needs), self.spare - len(asked))):
                lane = deep.next(needs)
                while lane is not None and not self._overloaded(lane):
                    lane = deep.next(needs)
                if lane is None:
                    break
                taken = self.take_back(lane, 0 if lane.long else len(lane.fifo) // 2) or taken
        return taken

    def _overloaded(self, lane: Lane) -> bool:
        return len(lane.fifo) > 1 and (lane.long or lane.ahead > self._worth)

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
            self.began(lane)
            self.take_back(lane)
        else:
            self._watch(lane)

    def take_back(self, lane: Lane, keep: int = 0) -> bool:
        """Make unstarted orders of the lane ready again; False when there was none at once."""
        taken = lane.take_back(keep)
        if taken:
            self.gave_back(lane, taken)
        elif lane.asked:
            self._asked.add(lane.name)
        return bool(taken)

    def gave_back(self, lane: Lane, orders: list[Order]) -> None:
        """These orders have been taken back from the lane; one that had been asked may also have none."""
        self._asked.discard(lane.name)
        for order in orders:
            self._places.pop(order.task, None)
        if lane.fifo:
            lane.ahead = self._expected(lane)
            self._hungry.add(lane)
            if orders and self._overloaded(lane):
                self._deep.add(lane)
        elif orders:
            self.leave(lane)
        self._host.returned(orders)

    def find(self, task: int) -> tuple[Any, Order] | None:
        """Where an attempt of the task is."""
        lane = self._places.get(task)
        if lane is None:
            return None
        return next(((lane, order) for order in lane.fifo if order.task == task), None)


def _cpus(lease: Lease) -> int:
    return sum(len(share.cpus) for share in lease.shares)
