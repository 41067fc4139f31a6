"""The head's end of a cluster: agents that come and go, and what is under way on each.

Runs in the engine's thread. `run.dispatch` decides what goes where; agents tell how it went; `allocator` gets nodes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from heald.core.event import Failure, Usage
from heald.core.placement import Lease, Node, Placement
from heald.core.resources import Resources
from heald.core.retry import WORKER_LOST
from heald.run import pool
from heald.run.cluster import depot as depots
from heald.run.cluster import dialogue, settings
from heald.run.cluster.allocator import Allocator
from heald.run.cluster.bulk import is_large
from heald.run.cluster.dialogue import (
    Began,
    Broken,
    Drop,
    Ended,
    Full,
    Gone,
    Got,
    Held,
    Open,
    Release,
    Retire,
    Returned,
    Stands,
    Stop,
    ToHead,
)
from heald.run.cluster.former import Former
from heald.run.cluster.lane import FarLane, Remote
from heald.run.cluster.loss import Losses
from heald.run.cluster.register import Register
from heald.run.cluster.straggler import Stragglers
from heald.run.disk import full
from heald.run.dispatch import Dispatch
from heald.run.pool import overtime, unwanted
from heald.run.protocol import Order
from heald.site.adapter import connect
from heald.wire import address, key
from heald.wire.hub import Hub
from heald.wire.porter import Porter

if TYPE_CHECKING:
    from heald.run.cluster.depot import Depot
    from heald.run.cluster.executor import ClusterExecutor

# Seconds of expected work that a lane is sent ahead: many times the way there and back, in a machine and to it.
_HORIZON, _FAR_HORIZON = 0.05, 1.0
_LEEWAY = 0.2  # seconds before the end of a node in which nothing is begun: a turn of the head takes a while
_BEATS = 5  # in the time after which an agent is given up
_PATIENCE = 5  # silences that the agents of a former head get to find this one
_DUDS = 2  # nodes in a row where no worker could live: there is no use in more
_FULL = 8  # nodes in a row that were of no use, when it is that a disk is full: they may share it


class Host(pool.Host, Protocol):
    """What the pool of a cluster needs of the engine."""

    turned: list[Callable[[bool], None]]
    recorder: object | None

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
        horizon = _FAR_HORIZON if executor.site.login else _HORIZON
        self.dispatch = Dispatch(self.label, [], host, self._hold, self._open, horizon=horizon)
        self._host = host
        self._agents = Register()
        self._unsent: dict[bytes, None] = {}  # agents for which there is something; no set, whose `pop` can be slow
        self._losses = Losses(executor.notice_seconds, host.definition)
        self._duds = 0  # nodes in a row where no worker could live
        self._former = Former(self.label, self.dispatch, host, self._stop)
        self._stragglers = Stragglers(self._agents.nodes)
        self._hub: Hub | None = None
        self._porter: Porter | None = None
        self._allocator: Supply | None = None
        self.depot: Depot | None = None

    def start(self) -> None:
        """Listen for agents, and ask for the first nodes."""
        host, executor = self._host, self.executor
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys = key.load(self.folder / "keys.json")
        depot = self.depot = depots.depot(executor, self.folder, host.run, keys, kept=host.recorder is not None)
        hub = self._hub = Hub(keys, self, silence=executor.silence, interface=depot.interface, port=depot.port)
        for channel in hub.files():
            host.selector.on_readable(channel, hub.serve)
        places = address.candidates(depot.interface)
        porter = self._porter = Porter(keys.head, keys.agent.public, instance=hub.instance, places=places)
        host.selector.on_readable(porter, self._came)
        endpoints, doors = sockets = depot.open([hub.endpoints, porter.endpoints])
        hub.greeting = dialogue.encode(doors)
        host.turned.append(self._exchange)
        depots.remember(self.folder, sockets)
        given = depots.told(executor, keys, depot, endpoints)
        self._allocator = self._supply(given)
        if self._allocator.start():
            self._former.expect()
            host.after(_PATIENCE * executor.silence, self._former.give_up)
        self._beat()

    def _supply(self, given: settings.AgentSettings) -> Supply:
        """Where nodes come from."""
        assert self.depot is not None
        scheduler = connect(self.executor.site, ask=self.depot.ask)
        return Allocator(self.executor, given, self.folder, self, scheduler, self.depot)

    # -- what the engine wants ---------------------------------------------------------------------------------------

    def pump(self, now: float) -> None:
        """Decide what is to be sent: `_exchange` does it, when the journal has it."""
        self.dispatch.pump(now)
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
        lane.remote.tell(Stop(lane.number, order.task, order.attempt, verdict))

    def close(self) -> None:
        """Give back every node. Agents that cannot be told so find out by themselves."""
        if self._hub is None:
            return
        self._hub.dismiss("the run is over")
        for channel in self._hub.files():
            self._host.selector.forget(channel)
        if self._porter is not None:
            self._host.selector.forget(self._porter)
            self._porter.close()
        if self._allocator is not None:
            self._allocator.close()
        self._hub.close()
        self._hub = None
        if self.depot is not None:
            self.depot.close()

    # -- what the dispatch wants -------------------------------------------------------------------------------------

    def _open(self, lease: Lease) -> FarLane:
        remote = self._agents.nodes[lease.shares[0].node]
        number = remote.number()
        lane = remote.lanes[number] = FarLane(number, f"{remote.node.name}-{number}", remote)
        remote.tell(Open(number, lane.name))
        return lane

    def _hold(self, lane: FarLane, lease: Lease) -> None:
        if lane.held is not None and (lease.shares, lease.needs) == (lane.held.shares, lane.held.needs):
            return  # as its agent was told last
        lane.held = lease
        hosts = tuple(self._agents.nodes[share.node].hello.host for share in lease.shares)
        lane.remote.tell(Held(lane.number, lease, hosts))
        self._agents.spread(lane)

    def _send(self) -> None:
        hub = self._hub
        if hub is None:
            return
        while self._unsent:
            name, _ = self._unsent.popitem()
            remote = self._agents.get(name)
            for message in remote.messages() if remote is not None else ():
                hub.send(name, message)

    def _beat(self) -> None:
        if self._hub is not None:
            part = self._hub.beat(time.monotonic())
            self._host.after(part * min(self.executor.silence / _BEATS, dialogue.PULSE), self._beat)

    def _exchange(self, recorded: bool) -> None:
        """After a turn: tell agents what is on record now, so that the next head knows of all that they were told."""
        if self._hub is None:
            return
        if recorded:
            self._hub.commit(lambda name: (remote := self._agents.get(name)) is None or not remote.stalled)
        self._send()
        if self._hub.serve():  # what a send saw, no wait tells of again
            self._host.after(0.0, _nothing)  # the next turn comes at once

    # -- what the hub tells ------------------------------------------------------------------------------------------

    def met(self, name: bytes, hello: bytes) -> str:
        """A new agent: take its node in."""
        try:
            said = dialogue.hello(hello)
        except msgspec.MsgspecError as raised:
            return f"its hello is not understood: {raised}"
        reason = dialogue.skew(said)
        if reason:
            if self._allocator is not None:
                self._allocator.refused(said.allocation, reason)
            return reason
        if (other := self._agents.before(said)) is not None:
            assert self._hub is not None
            self._hub.give_up(other.name, "its agent died, and another took its place")
        called = self._agents.free_name(said)
        node = Node(called, said.cpus, said.gpus, said.memory, group=said.allocation, host=said.host)
        assert self._porter is not None
        remote = Remote(name, said, node, self._host.arena, self._host.definition, self._unsent, self._porter)
        remote.met = remote.idle_since = self._host.now()
        self._agents.add(remote)
        self._stragglers.met(remote)
        if self._allocator is not None:
            self._allocator.met(said.allocation)
        return ""

    def heard(self, name: bytes, body: memoryview) -> None:
        """A message of an agent."""
        remote = self._agents.get(name)
        if remote is None:
            return
        for message in dialogue.to_head(body):
            self._told(remote, message)

    def _told(self, remote: Remote, message: ToHead) -> None:
        if isinstance(message, Ended | Returned | Gone | Began):
            lane = remote.lanes.get(message.lane)
            if lane is None:
                return
            if isinstance(message, Ended) and is_large(message.outcome):
                remote.inlet.want(message.outcome)
            lane.told.append(message)
            self._catch_up(lane)
        elif isinstance(message, Stands):
            self._begin_with(remote, message)
        elif isinstance(message, Got):
            remote.outlet.released(message.serials)
        elif isinstance(message, Drop):
            remote.inlet.drop(message.serials)
        elif isinstance(message, Release):
            remote.outlet.released(message.serials)
        elif isinstance(message, Full):
            if not remote.full and not full((self._host.run, ".")):
                self._full(remote, message.reason)
        else:
            assert isinstance(message, Broken)
            self._useless(remote, message.reason)

    def _came(self) -> None:
        """Large values are here."""
        assert self._porter is not None
        for name, serial, ref in self._porter.arrived():
            remote = self._agents.get(name)
            if remote is not None and remote.inlet.came(serial, ref):
                self._former.late(remote)
                for lane in remote.lanes.copy().values():
                    self._catch_up(lane)

    def _useless(self, remote: Remote, reason: str) -> None:
        """Workers cannot live on a node: there is no use in more nodes when they did on none, or on none lately."""
        logging.getLogger("heald").error("%s: %s", remote.node.name, reason)
        assert self._hub is not None
        self._hub.give_up(remote.name, reason)
        self._duds += 1
        if self._allocator is not None and self._duds >= _DUDS:
            self._allocator.refused(remote.hello.allocation, reason)

    def _full(self, remote: Remote, reason: str) -> None:
        """A disk of a node is full, which is no other's: begin nothing more there."""
        remote.full = reason
        self._duds += 1
        if self._duds >= _FULL:
            self._useless(remote, reason)
        else:
            logging.getLogger("heald").error("%s: %s; nothing more is begun there", remote.node.name, reason)
            self._retire(remote, reason)

    def _catch_up(self, lane: FarLane) -> None:
        """Take in what a lane told, as far as all values of it are here."""
        told = lane.told
        while told:
            report = told[0]
            if isinstance(report, Ended) and not _complete(lane, report):
                return
            del told[0]
            if isinstance(report, Ended):
                self._ended(lane, report)
            elif isinstance(report, Began):
                if lane.fifo and lane.fifo[0].task == report.task:
                    self.dispatch.began(lane)
                    self._host.began(lane.fifo[0], lane.remote.here(report.time), report.pid)
            elif isinstance(report, Returned):
                self.dispatch.gave_back(lane, lane.returned(report.orders))
                if lane.remote.retiring:
                    self._retire_if_idle(lane.remote)
            else:
                self._died(lane, report)

    def _ended(self, lane: FarLane, report: Ended) -> None:
        order, outcome, usage = lane.ended(report)
        self._duds *= bool(lane.remote.full)
        if isinstance(outcome, Failure):
            self._stragglers.end(lane, order.task, order.attempt)
        if self._former.keeps((order.task, order.attempt), outcome, usage):
            pass
        elif isinstance(outcome, Failure) and self._spares(lane, order, outcome):
            self._host.returned([order])
        else:
            self._losses.forget(order.task)
            self._host.ended(order, outcome, usage)
        lane.forfeit.discard((order.task, order.attempt))
        self.dispatch.ended(lane, order, usage, self._host.now())
        if lane.remote.retiring:
            self._retire_if_idle(lane.remote)

    def _spares(self, lane: FarLane, order: Order, failure: Failure) -> bool:
        """Whether an attempt failed for what became of its nodes."""
        if (order.task, order.attempt) in lane.forfeit:
            return True
        return bool(lane.remote.full) and self._losses.by_disk(order.task, failure)

    def _begin_with(self, remote: Remote, said: Stands) -> None:
        """The first that an agent tells: what it has of a former head. From now on its node is used."""
        until = remote.met + said.left - self.executor.notice_seconds - _LEEWAY
        remote.node = msgspec.structs.replace(remote.node, until=until)
        remote.stands = True
        if not remote.retiring:
            self.dispatch.add_node(remote.node)
        self._former.take_over(remote, said)
        for lane in remote.lanes.values():
            self._agents.spread(lane)
        if remote.retiring:
            self._retire_if_idle(remote)

    def _died(self, lane: FarLane, report: Gone) -> None:
        end, others = lane.died(report)
        if end is not None:
            self._stragglers.end(lane, end[0].task, end[0].attempt)
        del lane.remote.lanes[lane.number]
        self.dispatch.gone(lane, [*([end[0]] if end else ()), *others])
        if end is not None and (end[0].task, end[0].attempt) in lane.forfeit:
            others = [end[0], *others]
        elif end is not None:
            self._host.ended(*end)
        self._host.returned(others)

    def lost(self, name: bytes, reason: str) -> None:
        """An agent is gone, and all that it had is to be run elsewhere, at no charge to the tasks."""
        remote = self._agents.remove(name)
        remote.leave()
        if remote.stands and not remote.retiring:
            self.dispatch.remove_node(remote.node)
        for lane in list(remote.lanes.values()):
            orders = list(lane.fifo)
            if orders:
                self._stragglers.end(lane, orders[0].task, orders[0].attempt)
            lane.fifo.clear()
            lane.told.clear()
            self.dispatch.gone(lane, orders)
            if orders:
                self._again(orders, remote, reason)
        for lane in self._agents.guests(remote.node.name):
            self._forfeit(lane, f"{remote.node.name}, which it ran on too, was lost: {reason}")
        if self._allocator is not None:
            self._allocator.lost(remote.hello.allocation, reason)

    def _forfeit(self, lane: FarLane, reason: str) -> None:
        """A node of an attempt on several is gone: stop it, and run it again at no charge."""
        for order in lane.fifo:
            lane.forfeit.add((order.task, order.attempt))
            self._stop(lane, order, Failure(WORKER_LOST, reason))

    def _again(self, orders: list[Order], remote: Remote, reason: str) -> None:
        failure = self._losses.by_node(orders[0], remote.node.name, reason)
        if failure is not None:
            self._host.ended(orders.pop(0), failure, Usage())
        self._host.returned(orders)

    # -- what the allocator asks and tells ---------------------------------------------------------------------------

    @property
    def supply(self) -> Supply | None:
        """Where its nodes come from, once it has begun."""
        return self._allocator

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
            self._retire(remote, reason)

    def _retire(self, remote: Remote, reason: str) -> None:
        if not remote.retiring:
            remote.retiring = reason
            if remote.stands:
                self.dispatch.remove_node(remote.node)
            for lane in remote.lanes.values():
                if lane.fifo:
                    self.dispatch.take_back(lane)
            self._retire_if_idle(remote)

    def _retire_if_idle(self, remote: Remote) -> None:
        if remote.stands and not any(lane.fifo for lane in remote.lanes.values()):
            remote.tell(Retire(remote.retiring))

    def remotes(self, allocation: str) -> list[Remote]:
        """The agents of an allocation."""
        return self._agents.of(allocation)


def _nothing() -> None:
    pass


def _complete(lane: FarLane, report: Ended) -> bool:
    return not is_large(report.outcome) or lane.remote.inlet.complete(report.outcome)
