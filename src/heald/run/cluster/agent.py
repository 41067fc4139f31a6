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

import msgspec

from heald.core.errors import ConfigurationError, HealdError
from heald.core.event import Failure, Usage
from heald.core.ref import Ref
from heald.core.retry import OUT_OF_MEMORY, REFUSED
from heald.core.task import Payload
from heald.core.version import __version__
from heald.data.arena import Arena, ArenaFull
from heald.run import affinity, crew, kernel
from heald.run.cluster import dialogue, settings
from heald.run.cluster.bulk import Inlet, Outlet, closed, is_large
from heald.run.cluster.dialogue import (
    Began,
    Broken,
    Drop,
    Ended,
    Full,
    Gone,
    Got,
    Held,
    Hello,
    Late,
    Open,
    Orders,
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
from heald.run.disk import full
from heald.run.lane import Lane
from heald.run.log import abroad
from heald.run.mpi import prefix
from heald.run.protocol import Define, Order
from heald.run.selector import Selector
from heald.run.timer import Timers
from heald.site.launcher import MpiLauncher, mpi_launcher
from heald.site.node import Machine
from heald.wire.address import Unreachable
from heald.wire.link import Link
from heald.wire.porter import Porter

_HEAD = b"head"  # what its porter calls the head
_BEATS = 5  # in the time after which the other end would be given up
_DEAF = 60.0  # seconds without a data stream that is needed
_LAUNCH = 3.0  # seconds in which ranks may still come to be after the end of what started them
_LOOK_AGAIN = 3  # silences after which the head may have moved
_PAST = 0.6  # of a silence after which the switch may be dead, and the head is asked itself


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
        self.works: dict[bytes, Define] = {}
        self.posts: dict[int, Post] = {}
        self.over = ""  # why this agent ends
        self._unable = ""  # why no worker can be started here
        self._by_lane: dict[int, Post] = {}
        self._timers = Timers()
        self._out: list[ToHead] = []
        self._unsafe: deque[tuple[int, Ended | Gone]] = deque()  # with the number of the message that told it
        name = f"{self.name}.{os.getpid()}".encode()
        self._link = Link(given.head, given.pair, name, self)
        self._porter = Porter(given.pair, given.head, name=name)
        self._outlet = Outlet(self.arena, self.selector.wake, keep=True)
        self._inlet = Inlet(self.arena, self._fetch, self._outlet.kept, keep=True)
        common = given.grace, given.bind, given.initializer, given.environment
        ours = crew.Settings(*common, f"{self.name}-", ends=self._end_at, notice=given.notice, vendor=machine.gpu)
        self._crew = Crew(ours, self)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def serve(self) -> str:
        """Work until it is over; why it is. Raises Unreachable and Refused."""
        signal.signal(signal.SIGTERM, lambda *_: self._end(dialogue.ENDED))
        link = self._link
        try:
            self._begin()
            self._connect()
            self.selector.on_readable(link, link.serve)
            self.selector.on_readable(self._porter, self._came)
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
            self._porter.close()
            link.close()

    def _connect(self) -> None:
        if self.given.switch:
            try:
                self._link.connect(self.given.switch, switch=True)
                return
            except Unreachable as raised:
                logging.getLogger("heald").warning("past the switch of this allocation: %s", raised)
        self._link.connect(self.given.endpoints)

    def _begin(self) -> None:
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self._crew.start()
        except OSError as raised:  # the head is to know, and not each agent that follows to die of it
            self._unable = f"workers cannot be started: {raised}"

    def _end(self, reason: str) -> None:
        self.over = self.over or reason
        self.selector.wake()

    def _beat(self) -> None:
        silence = self.given.silence
        self.after(min(silence / _BEATS, dialogue.PULSE), self._beat)
        self.arena.trim(now := time.monotonic())
        quiet = now - self._link.peer.time
        if quiet > self.given.lease:
            self._end(f"nothing was heard of the head for {quiet:.0f} s")
        elif time.monotonic() >= self._end_at:
            self._end(dialogue.OVER)
        elif quiet > (_PAST if self._link.switched else _LOOK_AGAIN) * silence:
            self._look_again()
        elif (failing := self._porter.failing(_HEAD))[0] > max(_DEAF, _LOOK_AGAIN * silence):
            self._end(f"the head is heard, but large values cannot travel: {failing[1]}")
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
        self._out += self._outlet.over()
        if self._out:
            out, self._out = self._out, []
            link.send(dialogue.encode(out))
            self._remember(out)

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
                time.time(),
            )
        )

    def welcomed(self, greeting: bytes) -> None:
        """A head that knows nothing yet of what is under way here; the former one, if there was any, is dead."""
        ends = list(filter(None, map(_late, (*(one for _, one in self._unsafe), *self._out))))
        self._unsafe.clear()
        self._out.clear()
        self._outlet.renew(end.outcome for end in ends if isinstance(end.outcome, Payload))
        self._inlet = Inlet(self.arena, self._fetch, self._outlet.kept, keep=True)
        doors = dialogue.doors(greeting)
        self._porter.attach(_HEAD, self._outlet.find, doors, instance=self._link.peer.channel.instance)
        if any(is_large(end.outcome) for end in ends):
            self._porter.reach(_HEAD)
        lanes = []
        for post in self.posts.values():
            post.held.clear()  # what these wait for will not come any more: they are run elsewhere
            if post.lane.lease is not None and post.lane.fifo:
                orders = [(order.task, order.attempt) for order in post.lane.fifo]
                lanes.append(Standing(post.number, post.lane.name, post.lane.lease, orders))
        self._out.append(Stands(lanes, ends, self._end_at - time.monotonic()))
        if self._unable:
            self.broken(self._unable)

    def _fetch(self, serial: int, window: memoryview, ref: Ref) -> None:
        self._porter.fetch(_HEAD, serial, window, ref)

    def _came(self) -> None:
        """Large values are here."""
        arrived = self._porter.arrived()
        for _, serial, ref in arrived:
            self._inlet.came(serial, ref)
        self._out.append(Got(tuple(serial for _, serial, _ in arrived)))
        for post in self.posts.values():
            self._let_go(post)

    def heard(self, body: memoryview) -> None:
        """A message of the head."""
        for message in dialogue.to_agent(body):
            self._do(message)

    def _do(self, message: ToAgent) -> None:
        if isinstance(message, Orders):
            if (post := self.posts.get(message.lane)) is not None:
                self._take(post, message.orders)
        elif isinstance(message, Define):
            # Without a path of its own this node sees none of the head's folders: it looks where its Python does.
            self.works[message.digest] = message if self.given.path else msgspec.structs.replace(message, path=())
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
        for order in orders:
            self._want(order)
        if post.refusal is not None:
            self._refuse(post, post.refusal)
        else:
            self._let_go(post)

    def _let_go(self, post: Post) -> None:
        """Give the worker what is complete."""
        ready: list[Order] = []
        while post.held and self._has(post.held[0]):
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

    def _want(self, order: Order) -> None:
        for payload in (order.arguments, *order.inputs):
            self._inlet.want(payload)

    def _has(self, order: Order) -> bool:
        return all(map(self._inlet.complete, (order.arguments, *order.inputs)))

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
                bind, vendor = self.given.bind, self.machine.gpu
                words = prefix(self._mpi, lease, message.hosts, self.run / "ranks", bind=bind, vendor=vendor)
            except HealdError as raised:
                post.refusal = Failure(REFUSED, raised.message, hint=raised.hint, final=True)
        self._crew.hold(post.lane, lease, words)

    @functools.cached_property
    def _mpi(self) -> MpiLauncher:
        return mpi_launcher(self.given.site)

    # -- what the crew needs, and tells ------------------------------------------------------------------------------

    def definition(self, digest: bytes) -> Define:
        """A work, and its pickled function."""
        return self.works[digest]

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` when that time has passed."""
        self._timers.add(seconds, act)

    def broken(self, reason: str) -> None:
        """Nothing can run here."""
        self._out.append(Broken("; ".join(filter(None, (reason, self._full())))))

    def began(self, lane: Lane, order: Order, time: float) -> None:
        """The attempt runs."""
        self._out.append(Began(self._by_lane[lane.number].number, order.task, order.attempt, time, lane.pid))

    def ended(self, lane: Lane, order: Order, outcome: Payload | Failure, usage: Usage) -> None:
        """The attempt is over."""
        post = self._by_lane[lane.number]
        if is_large(outcome):
            outcome = closed(outcome, self._outlet)
            self._porter.reach(_HEAD)
        elif isinstance(outcome, Failure):
            outcome = self._told(outcome)
            if reason := self._full():
                self._out.append(Full(reason))
        self._out.append(Ended(post.number, order.task, order.attempt, outcome, usage))
        if post.held and not lane.fifo:
            self._want(post.held[0])  # there may be room now that there was not before
            self._let_go(post)

    def _full(self) -> str:
        """Which of the disks that attempts write to is full, in words; empty when none is."""
        return full((self.logs, ".", os.environ.get("TMPDIR") or "/tmp"))

    def gone(self, lane: Lane, end: End | None, others: list[Order]) -> None:
        """A worker has died."""
        post = self._by_lane.pop(lane.number)
        del self.posts[post.number]
        if end is None:
            self._out.append(Gone(post.number))
        else:
            order, failure, usage = end
            self._out.append(Gone(post.number, order.task, order.attempt, self._told(failure), usage))

    def _told(self, failure: Failure) -> Failure:
        login = self.given.site.login
        return abroad(failure, login) if login else failure


def _late(message: ToHead) -> Late | None:
    """The end of an attempt that a message tells of, if it does."""
    if isinstance(message, Ended):
        return Late(message.task, message.attempt, message.outcome, message.usage)
    if isinstance(message, Gone) and message.failure is not None:
        return Late(message.task, message.attempt, message.failure, message.usage)
    return None
