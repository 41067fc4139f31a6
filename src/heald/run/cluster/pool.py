"""The head's end of a cluster: agents that come and go, and what is under way on each.

Runs in the engine's thread. `run.dispatch` decides what goes where; agents tell how it went; `allocator` gets nodes.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from heald.core.event import Failure, Usage
from heald.core.placement import Lease, Node, Placement
from heald.core.resources import Resources
from heald.core.retry import WORKER_LOST
from heald.core.task import Payload
from heald.core.version import __version__
from heald.run import pool
from heald.run.cluster import dialogue, settings
from heald.run.cluster.allocator import Allocator
from heald.run.cluster.dialogue import (
    Began,
    Broken,
    Drop,
    Ended,
    Gone,
    Got,
    Held,
    Open,
    Part,
    Release,
    Retire,
    Returned,
    Stands,
    Stop,
    ToHead,
)
from heald.run.cluster.former import Former
from heald.run.cluster.lane import FarLane, Remote
from heald.run.dispatch import Dispatch
from heald.run.pool import overtime, unwanted
from heald.run.protocol import Order
from heald.wire import key
from heald.wire.channel import Frames
from heald.wire.hub import Hub

if TYPE_CHECKING:
    from heald.run.cluster.executor import ClusterExecutor

_HORIZON = 0.05  # seconds of expected work that a lane is sent ahead: many times the way there and back
_BEATS = 5  # in the time after which an agent is given up
_PATIENCE = 5  # silences that the agents of a former head get to find this one
_ROUNDS = 4  # of sending and hearing, before the engine looks at anything else
_LOSSES = 3  # agents that may be lost under one attempt after the other before it is the task's fault


class Host(pool.Host, Protocol):
    """What the pool of a cluster needs of the engine."""

    written: list[Callable[[], None]]

    def post(self, act: Callable[[], None]) -> None:
        """Have `act` called in the engine's thread."""

    def resume(self, task: int, attempt: int, lane: str, label: str) -> bytes | None:
        """An attempt of a former process goes on there: the digest of its work; None when it is not wanted any more."""

    def place_again(self, tasks: Iterable[int]) -> None:
        """These wait in vain for an attempt of a former process."""


class Supply(Protocol):
    """Where the nodes of a pool come from: the scheduler of a site, or a cluster that somebody else runs."""

    def start(self) -> bool:
        """Begin; whether agents of a former head may come."""

    def consider(self) -> None:
        """Something may have become ready."""

    def met(self, allocation: str) -> None:
        """An agent came."""

    def refused(self, allocation: str, reason: str) -> None:
        """An agent came that cannot be used."""

    def lost(self, allocation: str, reason: str) -> None:
        """An agent went away."""

    def close(self) -> None:
        """Give everything back."""


class ClusterPool:
    """Agents by name, and their lanes."""

    def __init__(self, executor: ClusterExecutor, host: Host) -> None:
        self.label = executor.label
        self.grace = executor.grace_seconds
        self.executor = executor
        self.folder = Path(host.run, "agents", executor.label)
        self.dispatch = Dispatch(self.label, [], host, self._hold, self._open, horizon=_HORIZON)
        self._host = host
        self._remotes: dict[bytes, Remote] = {}
        self._nodes: dict[str, Remote] = {}  # by the name of the node
        self._losses: Counter[int] = Counter()  # by task: agents lost while it ran
        self._former = Former(self.label, self.dispatch, host, self._stop)
        self._hub: Hub | None = None
        self._allocator: Supply | None = None

    def start(self) -> None:
        """Listen for agents, and ask for the first nodes."""
        host, executor = self._host, self.executor
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys = key.load(self.folder / "keys.json")
        interface, port = executor.interface or executor.site.interface, self._former_port()
        hub = self._hub = Hub(keys, self, silence=executor.silence, interface=interface, port=port)
        for channel in hub.files():
            host.selector.on_readable(channel, hub.serve)
        host.written.append(self._commit)
        given = settings.AgentSettings(
            allocation="",
            endpoints=tuple(hub.endpoints),
            head=keys.head.public,
            pair=keys.agent,
            run=str(host.run),
            directory=os.getcwd(),
            path=tuple(map(os.path.abspath, sys.path)),
            folder=str(self.folder),
            site=executor.site,
            silence=executor.silence,
            lease=executor.lease,
            workers=executor.workers or 0,
            gpus=executor.gpus,
            memory=executor.memory,
            grace=executor.grace_seconds,
            bind=executor.bind,
            initializer=executor.pickled_initializer(),
        )
        key.write(self.folder / "head.json", msgspec.json.encode(tuple(hub.endpoints)))
        self._allocator = self._supply(given)
        if self._allocator.start():
            self._former.expect()
            host.after(_PATIENCE * executor.silence, self._former.give_up)
        self._beat()

    def _supply(self, given: settings.AgentSettings) -> Supply:
        """Where nodes come from."""
        return Allocator(self.executor, given, self.folder, self)

    def _former_port(self) -> int:
        """The port of the head that was killed, at which agents look first."""
        try:
            endpoints = msgspec.json.decode((self.folder / "head.json").read_bytes(), type=tuple[str, ...])
            return int(endpoints[0].rpartition(":")[2])
        except (OSError, msgspec.MsgspecError, IndexError, ValueError):
            return 0

    # -- what the engine wants ---------------------------------------------------------------------------------------

    def pump(self, now: float) -> None:
        """Send what can be sent."""
        hub = self._hub
        for _ in range(_ROUNDS):
            self.dispatch.pump(now)
            self._send()
            if hub is None or not hub.serve():  # what a send saw, no wait tells of again
                break
        else:
            self._host.after(0.0, _nothing)  # there may be more: the next turn comes at once
        if self._allocator is not None:
            self._allocator.consider()

    def unfit(self, needs: Resources) -> str | None:
        """Why it could never run here, or None when it could."""
        return self.executor.unfit(needs)

    def resume(self, task: int, attempt: int, worker: str) -> bool:
        """Whether an attempt of a former head runs on here, or may."""
        return self._former.resume(task, attempt, worker)

    def cancel(self, task: int, attempt: int) -> None:
        """End an attempt that nobody wants any more."""
        found = self.dispatch.find(task)
        if found is not None and found[1].attempt == attempt:
            self._stop(*found, unwanted())

    def expire(self, order: Order, walltime: float) -> None:
        """The attempt has had its walltime: stop it when it still runs."""
        found = self.dispatch.find(order.task)
        if found is not None and found[1].attempt == order.attempt:
            self._stop(*found, overtime(walltime))

    def _stop(self, lane: FarLane, order: Order, verdict: Failure) -> None:
        self.dispatch.take_back(lane)
        lane.stopping = True
        lane.remote.out.append(Stop(lane.number, order.task, order.attempt, verdict))

    def close(self) -> None:
        """Give back every node. Agents that cannot be told so find out by themselves."""
        if self._hub is None:
            return
        for remote in self._remotes.values():
            self._hub.send(remote.name, [dialogue.encode([Retire("the run is over")])])
        for channel in self._hub.files():
            self._host.selector.forget(channel)
        if self._allocator is not None:
            self._allocator.close()
        self._hub.close()
        self._hub = None

    # -- what the dispatch wants -------------------------------------------------------------------------------------

    def _open(self, lease: Lease) -> FarLane:
        remote = self._nodes[lease.shares[0].node]
        number = remote.number()
        lane = remote.lanes[number] = FarLane(number, f"{remote.node.name}-{number}", remote)
        remote.out.append(Open(number, lane.name))
        return lane

    def _hold(self, lane: FarLane, lease: Lease) -> None:
        hosts = tuple(self._nodes[share.node].hello.host for share in lease.shares)
        lane.remote.out.append(Held(lane.number, lease, hosts))

    def _send(self) -> None:
        hub = self._hub
        if hub is None:
            return
        for remote in self._remotes.values():
            if (got := remote.inlet.got()) is not None:
                remote.out.append(got)
            raw: list[Any] = []
            for message, data in remote.outlet.messages():
                remote.out.append(message)
                if data is not None:
                    raw.append(data)
            if remote.out:
                out, remote.out = remote.out, []
                hub.send(remote.name, [dialogue.encode(out), *raw])

    def _beat(self) -> None:
        if self._hub is not None:
            self._host.after(self.executor.silence / _BEATS, self._beat)
            self._hub.beat(time.monotonic())

    def _commit(self) -> None:
        if self._hub is not None:
            self._hub.commit(lambda name: name not in self._remotes or not self._remotes[name].stalled)

    # -- what the hub tells ------------------------------------------------------------------------------------------

    def met(self, name: bytes, hello: bytes) -> str:
        """A new agent: take its node in."""
        try:
            said = dialogue.hello(hello)
        except msgspec.MsgspecError as raised:
            return f"its hello is not understood: {raised}"
        reason = _skew(said)
        if reason:
            if self._allocator is not None:
                self._allocator.refused(said.allocation, reason)
            return reason
        for other in [one for one in self._remotes.values() if _same_place(one.hello, said)]:
            assert self._hub is not None
            self._hub.give_up(other.name, "its agent died, and another took its place")
        until = self._host.now() + said.left
        node = Node(self._free_name(said), said.cpus, said.gpus, said.memory, until, said.allocation)
        remote = Remote(name, said, node, self._host.arena, self._host.definition)
        remote.idle_since = self._host.now()
        self._remotes[name] = self._nodes[node.name] = remote
        if self._allocator is not None:
            self._allocator.met(said.allocation)
        return ""

    def _free_name(self, said: dialogue.Hello) -> str:
        name = f"{said.allocation}.{said.host}"
        others = (f"{name}#{number}" for number in itertools.count(2))
        return name if name not in self._nodes else next(one for one in others if one not in self._nodes)

    def heard(self, name: bytes, frames: Frames) -> None:
        """A message of an agent."""
        remote = self._remotes.get(name)
        if remote is None:
            return
        body, *raw = frames
        parts = iter(raw)
        for message in dialogue.to_head(body):
            self._told(remote, message, parts)

    def _told(self, remote: Remote, message: ToHead, parts: Iterator[Any]) -> None:
        if isinstance(message, Ended | Returned | Gone | Began):
            lane = remote.lanes.get(message.lane)
            if lane is None:
                return
            lane.told.append(message)
            self._catch_up(lane)
        elif isinstance(message, Stands):
            self._begin_with(remote, message)
        elif isinstance(message, Part):
            remote.inlet.take(message, next(parts))
            self._former.late(remote)
            for lane in remote.lanes.copy().values():
                if lane.told:
                    self._catch_up(lane)
        elif isinstance(message, Got):
            remote.outlet.made_room(message.count)
        elif isinstance(message, Drop):
            remote.inlet.drop(message.serials)
        elif isinstance(message, Release):
            remote.outlet.released(message.serials)
        else:
            assert isinstance(message, Broken)
            logging.getLogger("heald").error("%s: %s", remote.node.name, message.reason)
            assert self._hub is not None
            self._hub.give_up(remote.name, message.reason)

    def _catch_up(self, lane: FarLane) -> None:
        """Take in what a lane told, as far as all values of it are here."""
        told = lane.told
        while told:
            report = told[0]
            if isinstance(report, Ended) and not _complete(lane, report):
                return
            told.popleft()
            if isinstance(report, Ended):
                self._ended(lane, report)
            elif isinstance(report, Began):
                if lane.fifo and lane.fifo[0].task == report.task:
                    lane.long = True
                    self._host.began(lane.fifo[0], report.time, report.pid)
            elif isinstance(report, Returned):
                orders = lane.returned(report.orders)
                if orders:
                    self.dispatch.gave_back(lane, orders)
                    if lane.remote.retiring:
                        self._retire_if_idle(lane.remote)
            else:
                self._died(lane, report)

    def _ended(self, lane: FarLane, report: Ended) -> None:
        order, outcome = lane.ended(report)
        self._losses.pop(order.task, None)
        if self._former.keeps((order.task, order.attempt), outcome, report.usage):
            pass
        elif (order.task, order.attempt) in lane.forfeit and isinstance(outcome, Failure):
            self._host.returned([order])
        else:
            self._host.ended(order, outcome, report.usage)
        lane.forfeit.discard((order.task, order.attempt))
        self.dispatch.ended(lane, order, report.usage, self._host.now())
        if lane.remote.retiring:
            self._retire_if_idle(lane.remote)

    def _begin_with(self, remote: Remote, said: Stands) -> None:
        """The first that an agent tells: what it has of a former head. From now on its node is used."""
        self.dispatch.add_node(remote.node)
        for other in self._remotes.values():
            for lane in other.lanes.values():
                if (lease := lane.lease) is not None:
                    for share in [one for one in lease.shares if one.node == remote.node.name]:
                        self.dispatch.placement.hold(lease, share)
        self._former.take_over(remote, said)

    def _died(self, lane: FarLane, report: Gone) -> None:
        end, others = lane.died(report)
        del lane.remote.lanes[lane.number]
        self.dispatch.gone(lane, [*([end[0]] if end else ()), *others])
        if end is not None:
            self._host.ended(*end)
        self._host.returned(others)

    def lost(self, name: bytes, reason: str) -> None:
        """An agent is gone, and all that it had is to be run elsewhere, at no charge to the tasks."""
        remote = self._remotes.pop(name)
        del self._nodes[remote.node.name]
        if not remote.retiring:
            self.dispatch.remove_node(remote.node)
        for lane in list(remote.lanes.values()):
            orders = list(lane.fifo)
            lane.fifo.clear()
            lane.told.clear()
            self.dispatch.gone(lane, orders)
            if orders:
                self._again(orders, remote, reason)
        for other in self._remotes.values():
            for lane in other.lanes.values():
                if lane.lease is not None and any(share.node == remote.node.name for share in lane.lease.shares):
                    self._forfeit(lane, f"{remote.node.name}, which it ran on too, was lost: {reason}")
        if self._allocator is not None:
            self._allocator.lost(remote.hello.allocation, reason)

    def _forfeit(self, lane: FarLane, reason: str) -> None:
        """A node of an attempt on several is gone: stop it, and run it again at no charge."""
        for order in lane.fifo:
            lane.forfeit.add((order.task, order.attempt))
            self._stop(lane, order, Failure(WORKER_LOST, reason))

    def _again(self, orders: list[Order], remote: Remote, reason: str) -> None:
        first, *others = orders
        self._losses[first.task] += 1
        if self._losses[first.task] < _LOSSES:
            others = orders
        else:
            text = f"{_LOSSES} nodes were lost while it ran; the last, {remote.node.name}: {reason}"
            hint = "does it use more memory than a node has? ask for memory, so that fewer run at once"
            self._host.ended(first, Failure(WORKER_LOST, text, hint=hint, final=True), Usage())
        self._host.returned(others)

    # -- what the allocator asks and tells ---------------------------------------------------------------------------

    @property
    def placement(self) -> Placement:
        """What waits, and where there is room."""
        return self.dispatch.placement

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` in the engine's thread when that time has passed."""
        self._host.after(seconds, act)

    def post(self, act: Callable[[], None]) -> None:
        """Have `act` called in the engine's thread; from any."""
        self._host.post(act)

    def broken(self, reason: str) -> None:
        """No nodes can be had."""
        self._host.broken(self.label, reason)

    def retire(self, allocation: str, reason: str) -> None:
        """Begin nothing more on the nodes of an allocation, and let its agents end when they have nothing to do."""
        for remote in self.remotes(allocation):
            if not remote.retiring:
                remote.retiring = reason
                self.dispatch.remove_node(remote.node)
                for lane in remote.lanes.values():
                    if lane.fifo:
                        self.dispatch.take_back(lane)
                self._retire_if_idle(remote)

    def _retire_if_idle(self, remote: Remote) -> None:
        if not any(lane.fifo for lane in remote.lanes.values()):
            remote.out.append(Retire(remote.retiring))

    def remotes(self, allocation: str) -> list[Remote]:
        """The agents of an allocation."""
        return [one for one in self._remotes.values() if one.hello.allocation == allocation]


def _nothing() -> None:
    pass


def _complete(lane: FarLane, report: Ended) -> bool:
    return not isinstance(report.outcome, Payload) or lane.remote.inlet.complete(report.outcome)


def _same_place(one: dialogue.Hello, other: dialogue.Hello) -> bool:
    """Whether one is where the other was: the next agent of a warden comes after the former one's death."""
    return (one.allocation, one.host, one.place) == (other.allocation, other.host, other.place)


def _skew(said: dialogue.Hello) -> str:
    """Why an agent cannot run what this process pickles, or nothing."""
    here = sys.version.split()[0]
    if said.python.split(".")[:2] != here.split(".")[:2]:
        return (
            f"Python {said.python} on {said.host} and {here} here: functions cannot travel between them; set `python` "
            "of the site to an interpreter of this version"
        )
    if said.heald != __version__:
        return f"heald {said.heald} on {said.host} and {__version__} here: install the same on both"
    return ""
