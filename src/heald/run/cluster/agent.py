"""The agent of one node: owns its cores, devices and memory, and carries out there what the head of the run says.

It has one thread. Its crew (`run.crew`) starts, stops and replaces workers; the link to the head (`wire.link`) is kept
up whatever the network does; all that it decides itself is when to give up: when the head refuses it, when nothing was
heard of any head for the time of its lease, or when the scheduler takes the node away. It knows neither graph nor
journal, and imports no command line.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from heald.core.errors import ConfigurationError, HealdError
from heald.core.event import Failure, Usage
from heald.core.retry import OUT_OF_MEMORY, REFUSED
from heald.core.task import Payload, Work
from heald.core.version import __version__
from heald.data.arena import Arena, ArenaFull
from heald.run import affinity, crew, kernel
from heald.run.cluster import dialogue, settings
from heald.run.cluster.bulk import Inlet, Outlet, closed
from heald.run.cluster.dialogue import (
    Began,
    Broken,
    Drop,
    Ended,
    Gone,
    Got,
    Held,
    Hello,
    Late,
    Open,
    Orders,
    Part,
    Release,
    Retire,
    Returned,
    Standing,
    Stands,
    Stop,
    Sweep,
    TakeBack,
    ToAgent,
    ToHead,
)
from heald.run.crew import Crew, End
from heald.run.lane import Lane
from heald.run.mpi import prefix
from heald.run.protocol import Define, Order
from heald.run.selector import Selector
from heald.run.timer import Timers
from heald.site.launcher import MpiLauncher, mpi_launcher
from heald.site.node import Machine
from heald.wire.address import Unreachable
from heald.wire.channel import Frames
from heald.wire.link import Link

_BEATS = 5  # in the time after which the other end would be given up
_LAUNCH = 3.0  # seconds in which ranks may still come to be after the end of what started them
_LOOK_AGAIN = 3  # silences after which the head may have moved


class Post:
    """A lane of the head, as it is here: the worker, and orders whose large values are not all here yet."""

    def __init__(self, number: int, lane: Lane) -> None:
        self.number = number
        self.lane = lane
        self.held: deque[Order] = deque()
        self.refusal: Failure | None = None  # why nothing can be run here with the lease that it has


class Agent:
    """Serves one head until that is over. `machine` is what it may use of its node, for `left` seconds."""

    def __init__(self, given: settings.AgentSettings, machine: Machine, left: float) -> None:
        self.given = given
        self.machine = machine
        self._end_at = time.monotonic() + left
        self.name = f"{given.allocation}.{machine.name}"
        self.run = Path(given.run)
        self.logs = Path(given.run, "logs")
        self.selector = Selector()
        self.arena = Arena()
        self.works: dict[bytes, tuple[Work, bytes]] = {}
        self.posts: dict[int, Post] = {}
        self.over = ""  # why this agent ends
        self._by_lane: dict[int, Post] = {}
        self._timers = Timers()
        self._out: list[ToHead] = []
        self._unsafe: deque[tuple[int, Ended | Gone]] = deque()  # with the number of the message that told it
        self._outlet = Outlet(self.arena, self.selector.wake, keep=True)
        self._inlet = Inlet(self.arena, self._outlet.kept, keep=True)
        self._link = Link(given.head, given.pair, f"{self.name}.{os.getpid()}".encode(), self)
        common = given.grace, given.bind, given.initializer, given.environment
        ours = crew.Settings(*common, f"{self.name}-", ends=self._end_at, notice=given.notice)
        self._crew = Crew(ours, self)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def serve(self) -> str:
        """Work until it is over; why it is. Raises Unreachable and Refused."""
        signal.signal(signal.SIGTERM, lambda *_: self._end("it was told to end (SIGTERM)"))
        self.logs.mkdir(parents=True, exist_ok=True)
        link = self._link
        self._crew.start()
        try:
            link.connect(self.given.endpoints)
            self.selector.on_readable(link, link.serve)
            self._beat()
            while not self.over:
                self._exchange()
                self.selector.asleep = True
                self.selector.wait(self._timers.wait)
                self._timers.ring()
            self._send()
            link.leave(self.over)
            return self.over
        finally:
            self._crew.close()
            link.close()

    def _end(self, reason: str) -> None:
        self.over = self.over or reason
        self.selector.wake()

    def _beat(self) -> None:
        silence = self.given.silence
        self.after(silence / _BEATS, self._beat)
        quiet = time.monotonic() - self._link.peer.time
        if quiet > self.given.lease:
            self._end(f"nothing was heard of the head for {quiet:.0f} s")
        elif time.monotonic() >= self._end_at:
            self._end(dialogue.OVER)
        elif quiet > _LOOK_AGAIN * silence:
            self._look_again()
        self._link.beat()

    def _look_again(self) -> None:
        """The head may have been started again, elsewhere: its settings say so."""
        try:
            self.given = settings.read(Path(self.given.folder) / f"{self.given.allocation}.json")
            self._link.connect(self.given.endpoints, timeout=1.0)
        except (ConfigurationError, Unreachable) as raised:
            logging.getLogger("heald").info("still no head: %s", raised)

    def _exchange(self) -> None:
        """Send what there is and hear what has come, until there is neither: what a send saw, no wait tells again."""
        self._send()
        while self._link.serve():
            self._send()

    def _send(self) -> None:
        link = self._link
        if not link.welcome:
            return
        if (got := self._inlet.got()) is not None:
            self._out.append(got)
        self._out += self._outlet.over()
        if self._out:
            out, self._out = self._out, []
            link.send([dialogue.encode(out)])
            self._remember(out)
        for part, data in self._outlet.parts():
            link.send([dialogue.encode([part]), data])

    def _remember(self, out: list[ToHead]) -> None:
        """Keep ends until the head has them on record: it may die before, and the next one wants to know."""
        channel = self._link.peer.channel
        for one in out:
            if isinstance(one, Ended | Gone):
                self._unsafe.append((channel.sent, one))
            elif isinstance(one, Stands):
                ends = (Ended(0, end.task, end.attempt, end.outcome, end.usage) for end in one.ends)
                self._unsafe.extend((channel.sent, end) for end in ends)
        while self._unsafe and self._unsafe[0][0] <= channel.first:
            self._unsafe.popleft()

    # -- what the link needs -----------------------------------------------------------------------------------------

    def hello(self) -> bytes:
        """What this agent is and has."""
        machine, given = self.machine, self.given
        return dialogue.encode(
            Hello(
                given.allocation,
                machine.name,
                os.getpid(),
                os.getppid(),
                sys.version.split()[0],
                __version__,
                self._link.endpoint,
                machine.cpus,
                machine.gpus,
                machine.memory,
                self._end_at - time.monotonic(),
            )
        )

    def welcomed(self) -> None:
        """A head that knows nothing yet of what is under way here; the former one, if there was any, is dead."""
        ends = list(filter(None, map(_late, (*(one for _, one in self._unsafe), *self._out))))
        self._unsafe.clear()
        self._out.clear()
        self._outlet.renew(end.outcome for end in ends if isinstance(end.outcome, Payload))
        self._inlet = Inlet(self.arena, self._outlet.kept, keep=True)
        lanes = []
        for post in self.posts.values():
            post.held.clear()  # what these wait for will not come any more: they are run elsewhere
            if post.lane.lease is not None and post.lane.fifo:
                orders = [(order.task, order.attempt) for order in post.lane.fifo]
                lanes.append(Standing(post.number, post.lane.name, post.lane.lease, orders))
        self._out.append(Stands(lanes, ends))

    def heard(self, frames: Frames) -> None:
        """A message of the head."""
        body, *raw = frames
        parts = iter(raw)
        for message in dialogue.to_agent(body):
            self._do(message, bytes(next(parts, b"")) if isinstance(message, Part) else b"")

    def _do(self, message: ToAgent, data: bytes) -> None:
        if isinstance(message, Orders):
            if (post := self.posts.get(message.lane)) is not None:
                self._take(post, message.orders)
        elif isinstance(message, Define):
            self.works[message.digest] = message.work, message.function
        elif isinstance(message, Open):
            post = Post(message.lane, self._crew.open(message.name))
            self.posts[message.lane] = self._by_lane[post.lane.number] = post
        elif isinstance(message, Held):
            self._hold(message)
        elif isinstance(message, TakeBack):
            if (post := self.posts.get(message.lane)) is not None:
                self._give_back(post, message.keep)
        elif isinstance(message, Stop):
            self._stop(message)
        elif isinstance(message, Part):
            if self._inlet.take(message, data):
                for post in self.posts.values():
                    self._let_go(post)
        elif isinstance(message, Got):
            self._outlet.made_room(message.count)
        elif isinstance(message, Drop):
            self._inlet.drop(message.serials)
        elif isinstance(message, Release):
            self._outlet.released(message.serials)
        elif isinstance(message, Sweep):
            self._sweep(message)
            self.after(_LAUNCH, lambda: self._sweep(message))
        elif isinstance(message, Retire):
            self._end(message.reason)

    # -- orders ------------------------------------------------------------------------------------------------------

    def _take(self, post: Post, orders: list[Order]) -> None:
        post.held.extend(orders)
        if post.refusal is not None:
            self._refuse(post, post.refusal)
        else:
            self._let_go(post)

    def _let_go(self, post: Post) -> None:
        """Give the worker what is complete."""
        ready: list[Order] = []
        while post.held and all(map(self._inlet.complete, (post.held[0].arguments, *post.held[0].inputs))):
            order = post.held[0]
            try:
                ready.append(self._opened(order))
            except ArenaFull as raised:
                if ready or post.lane.fifo:
                    break  # they end one after another
                failure = Failure(OUT_OF_MEMORY, f"{self.name}: {raised}", hint="pass less, or files")
                self._out.append(Ended(post.number, order.task, order.attempt, failure, Usage()))
            post.held.popleft()
        if ready:
            post.lane.send(ready)

    def _opened(self, order: Order) -> Order:
        if not order.arguments.buffers and not order.inputs:
            return order
        inputs = tuple(map(self._inlet.opened, order.inputs))
        return Order(order.task, order.attempt, order.work, self._inlet.opened(order.arguments), inputs)

    def _refuse(self, post: Post, failure: Failure) -> None:
        """What the lane has not given its worker cannot be run here."""
        for order in post.held:
            self._out.append(Ended(post.number, order.task, order.attempt, failure, Usage()))
        post.held.clear()

    def _give_back(self, post: Post, keep: int) -> None:
        back = [*post.lane.take_back(keep), *post.held]
        post.held.clear()
        self._out.append(Returned(post.number, [(order.task, order.attempt) for order in back]))

    def _stop(self, message: Stop) -> None:
        post = self.posts.get(message.lane)
        if post is None:
            return
        named = (message.task, message.attempt)
        order = next((one for one in post.lane.fifo if (one.task, one.attempt) == named), None)
        if order is not None:
            self._crew.stop(post.lane, order, message.verdict)

    def _sweep(self, message: Sweep) -> None:
        for pid in kernel.carrying(affinity.names(self.given.run, message.task, message.attempt)):
            kernel.kill(pid, signal.SIGKILL)

    def _hold(self, message: Held) -> None:
        post = self.posts.get(message.lane)
        if post is None:
            return
        lease = post.lane.lease = message.lease
        post.refusal, words = None, ""
        if lease.needs.ranks > 1:
            try:
                words = prefix(self._mpi, lease, message.hosts, self.run / "ranks", bind=self.given.bind)
            except HealdError as raised:
                post.refusal = Failure(REFUSED, raised.message, hint=raised.hint, final=True)
        self._crew.hold(post.lane, lease, words)

    @functools.cached_property
    def _mpi(self) -> MpiLauncher:
        return mpi_launcher(self.given.site)

    # -- what the crew needs, and tells ------------------------------------------------------------------------------

    def definition(self, digest: bytes) -> tuple[Work, bytes]:
        """A work, and its pickled function."""
        return self.works[digest]

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` when that time has passed."""
        self._timers.add(seconds, act)

    def broken(self, reason: str) -> None:
        """Nothing can run here."""
        self._out.append(Broken(reason))

    def began(self, lane: Lane, order: Order, time: float) -> None:
        """The attempt runs."""
        self._out.append(Began(self._by_lane[lane.number].number, order.task, order.attempt, time, lane.pid))

    def ended(self, lane: Lane, order: Order, outcome: Payload | Failure, usage: Usage) -> None:
        """The attempt is over."""
        post = self._by_lane[lane.number]
        if isinstance(outcome, Payload):
            outcome = closed(outcome, self._outlet)
        self._out.append(Ended(post.number, order.task, order.attempt, outcome, usage))
        if post.held and not lane.fifo:
            self._let_go(post)

    def gone(self, lane: Lane, end: End | None, others: list[Order]) -> None:
        """A worker has died."""
        post = self._by_lane.pop(lane.number)
        del self.posts[post.number]
        if end is None:
            self._out.append(Gone(post.number))
        else:
            order, failure, usage = end
            self._out.append(Gone(post.number, order.task, order.attempt, failure, usage))


def _late(message: ToHead) -> Late | None:
    """The end of an attempt that a message tells of, if it does."""
    if isinstance(message, Ended):
        return Late(message.task, message.attempt, message.outcome, message.usage)
    if isinstance(message, Gone) and message.failure is not None:
        return Late(message.task, message.attempt, message.failure, message.usage)
    return None
