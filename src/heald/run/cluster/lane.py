"""A worker on another machine, as the head sees it: what was sent there and is not over."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from heald.core.errors import UsageError
from heald.core.event import Failure, Usage
from heald.core.placement import Lease, Node
from heald.core.ref import Ref
from heald.core.retry import OUT_OF_MEMORY
from heald.core.task import Payload
from heald.data.arena import ArenaFull
from heald.run.cluster.bulk import Inlet, Outlet, closed, is_large
from heald.run.cluster.dialogue import Began, Ended, Gone, Hello, Late, Orders, Returned, TakeBack, ToAgent, encode
from heald.run.protocol import Define, Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from heald.data.arena import Arena
    from heald.wire.porter import Porter


_AGREE = 10.0  # seconds by which clocks may differ: a hello may have been as long on its way


class Remote:
    """One agent: what it said of itself, what it has been told, and what is to be sent to it.

    It puts its name among the `unsent`, in any thread, when there is something.
    """

    # There may be ten thousand, each in turn, and what a task costs is what it has to fetch from memory.
    __slots__ = (
        "_arena", "_define", "_defined", "_inlet", "_numbers", "_outlet", "_porter", "_unsent",
        "ahead", "full", "hello", "idle_since", "lanes", "late", "met", "name", "node", "out", "retiring", "stands",
    )  # fmt: skip

    def __init__(
        self,
        name: bytes,
        hello: Hello,
        node: Node,
        arena: Arena,
        define: Callable[[bytes], Define],
        unsent: dict[bytes, None],
        porter: Porter,
    ) -> None:
        self.name = name
        self.hello = hello
        self.node = node
        self.lanes: dict[int, FarLane] = {}
        self.out: list[ToAgent] = []
        self._arena = arena
        self.late: list[Late] = []  # ends of attempts of a former head, of which values are still to come
        self.stands = False  # whether it has told what was under way there: before that its node is not used
        self.retiring = ""  # why it gets nothing more, if it does
        self.full = ""  # which of its disks is, in words
        self.met = 0.0  # when it was taken in
        self.idle_since = 0.0  # when it had nothing to do last
        self._define = define
        self._unsent = unsent
        self._porter = porter
        self._defined: dict[bytes, Define] = {}
        self._numbers = 0
        self._outlet: Outlet | None = None  # most agents never have a large value
        self._inlet: Inlet | None = None
        self.ahead = ahead(hello.clock, time.time())

    def here(self, moment: float) -> float:
        """A time of day that it tells, now passed, as the clock of this machine has it."""
        if self.ahead < 0:  # or its hello was very late, when ten thousand came at once
            self.ahead = max(self.ahead, ahead(moment, time.time()))
        return moment - self.ahead

    def usage(self, told: Usage) -> Usage:
        """What an attempt used, with its time as the clock of this machine has it."""
        return msgspec.structs.replace(told, started=self.here(told.started)) if self.ahead and told.started else told

    def idle_for(self, now: float) -> float:
        """How long it has had nothing to do, in seconds."""
        return 0.0 if any(lane.fifo for lane in self.lanes.values()) else now - self.idle_since

    def number(self) -> int:
        """The number of a new lane."""
        self._numbers += 1
        return self._numbers

    def taken(self, number: int) -> None:
        """Numbers up to this one are in use there."""
        self._numbers = max(self._numbers, number)

    def tell(self, message: ToAgent) -> None:
        """Have it sent, before the engine waits for anything."""
        self.out.append(message)
        self._unsent[self.name] = None

    @property
    def outlet(self) -> Outlet:
        """Large values for it."""
        if self._outlet is None:
            self._outlet = Outlet(self._arena, partial(self._unsent.setdefault, self.name))
            self._porter.attach(self.name, self._outlet.find)
        return self._outlet

    @property
    def inlet(self) -> Inlet:
        """Large values that come from there."""
        if self._inlet is None:
            assert self.outlet is not None  # it is attached
            self._inlet = Inlet(self._arena, partial(self._porter.fetch, self.name), _nothing)
        return self._inlet

    def messages(self) -> Iterator[bytes]:
        """All that is to be sent now."""
        if self._outlet is not None:
            self.out += self._outlet.over()
        if self.out:
            out, self.out = self.out, []
            yield encode(out)

    def leave(self) -> None:
        """It is gone."""
        if self._outlet is not None:
            self._porter.detach(self.name)

    def orders(self, lane: int, orders: list[Order]) -> None:
        """Send orders to a lane, and before them what they need."""
        for digest in {order.work for order in orders}:
            if self._defined.get(digest) is not (define := self._define(digest)):
                self._defined[digest] = define
                self.tell(define)
        self.tell(Orders(lane, [self._travelling(order) for order in orders]))

    def _travelling(self, order: Order) -> Order:
        if not order.arguments.buffers and not order.inputs:
            return order
        inputs = tuple(closed(one, self.outlet) for one in order.inputs)
        return msgspec.structs.replace(order, arguments=closed(order.arguments, self.outlet), inputs=inputs)

    def outcome(self, told: Payload | Failure) -> Payload | Failure:
        """An outcome with its values as they are here."""
        try:
            if is_large(told):
                return self.inlet.opened(told, self.outlet.came)
            return told
        except ArenaFull as raised:
            hint = "return less, or write it to a file"
            return Failure(OUT_OF_MEMORY, f"its value does not fit into this process: {raised}", hint=hint)

    @property
    def stalled(self) -> bool:
        """Whether something that it told waits for large values."""
        return bool(self.late) or any(lane.told for lane in self.lanes.values())


def ahead(clock: float, now: float) -> float:
    """Seconds by which another machine's clock is ahead; 0 when its word may just have been long on its way.

    >>> ahead(7_200.0, 3_600.0), ahead(3_598.0, 3_600.0)
    (3600.0, 0.0)
    """
    return clock - now if abs(clock - now) > _AGREE else 0.0


def _nothing(serial: int) -> Ref:
    raise KeyError(serial)


class FarLane:
    """One worker there. See `run.dispatch.Lane`."""

    __slots__ = (
        "ahead", "asked", "fifo", "forfeit", "held", "lease", "long", "name", "number", "remote", "stopping", "told",
    )  # fmt: skip
    deep = True

    def __init__(self, number: int, name: str, remote: Remote) -> None:
        self.number = number
        self.name = name
        self.remote = remote
        self.lease: Lease | None = None
        self.held: Lease | None = None  # the last one that its agent was told of
        self.fifo: list[Order] = []  # mostly of one or two: a deque would take ten times the memory
        self.long = False
        self.stopping = False
        self.ahead = 0.0
        self.told: list[Began | Ended | Returned | Gone] = []  # of which large values are still to come
        self.forfeit: set[tuple[int, int]] = set()  # attempts to be run elsewhere once they have ended
        self.asked = False

    def send(self, orders: list[Order]) -> None:
        """Queue orders there."""
        self.fifo.extend(orders)
        self.remote.orders(self.number, orders)

    def take_back(self, keep: int = 0) -> list[Order]:
        """Ask for what was not begun; the answer comes by `returned`."""
        if not self.asked:
            self.asked = True
            self.remote.tell(TakeBack(self.number, keep))
        return []

    def returned(self, orders: list[tuple[int, int]]) -> list[Order]:
        """The orders that came back: the last ones, for they are begun in order."""
        self.asked = False
        return [self.fifo.pop() for _ in orders][::-1]

    def knows(self, order: Order) -> None:
        """An order that came with the lane from a former head, in full."""
        named = [(one.task, one.attempt) for one in self.fifo]
        self.fifo[named.index((order.task, order.attempt))] = order

    def ended(self, report: Ended) -> tuple[Order, Payload | Failure, Usage]:
        """The order that is over, its outcome with the values as they are here, and what it used."""
        if not self.fifo:
            raise UsageError(f"{self.name} ended task {report.task}, and has none")
        order = self.fifo.pop(0)
        if not self.fifo:
            self.remote.idle_since = time.time()
        self.long = False
        if (order.task, order.attempt) != (report.task, report.attempt):
            raise UsageError(f"{self.name} ended task {report.task}, not {order.task}")
        return order, self.remote.outcome(report.outcome), self.remote.usage(report.usage)

    def died(self, report: Gone) -> tuple[tuple[Order, Failure, Usage] | None, list[Order]]:
        """The attempt under which the worker died, if any, and those to be run elsewhere."""
        orders = list(self.fifo)
        self.fifo.clear()
        named = (report.task, report.attempt)
        culprit = next((order for order in orders if (order.task, order.attempt) == named), None)
        if culprit is None or report.failure is None:
            return None, orders
        return (culprit, report.failure, self.remote.usage(report.usage)), [
            order for order in orders if order is not culprit
        ]
