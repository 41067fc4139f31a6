"""How many agents there are in the cluster of a landlord, from what is to be done and what is there.

What it decides, it decides in the engine's thread; a thread of its own speaks with the landlord, who may take his time.
It takes the place that `cluster.allocator` has where nodes come from a scheduler.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from heald.core.errors import HealdError
from heald.core.placement import Node, Placement
from heald.core.resources import Resources
from heald.run.cluster.settings import AgentSettings
from heald.run.guest.landlord import ClusterLost, Landlord, Look, Place

_LOOK = 0.5  # seconds between looks at the cluster
_FAILURES = 3  # agents in a row that ended before they came: there is no use in more
_FAREWELL = 15.0  # seconds for all agents to end


class Owner(Protocol):
    """The pool for which agents are begun."""

    label: str

    @property
    def placement(self) -> Placement:
        """What waits, and where there is room."""

    def post(self, act: Callable[[], None]) -> None:
        """Have `act` called in the engine's thread; from any."""

    def broken(self, reason: str) -> None:
        """No agents can be had."""

    def remotes(self, allocation: str) -> list[Any]:
        """The agents of that name that are there."""

    def retire(self, allocation: str, reason: str) -> None:
        """Let an agent end when it has nothing to do."""

    def give_up(self, allocation: str, reason: str) -> None:
        """An agent is not there any more: run what it had elsewhere."""


class Agent(msgspec.Struct):
    """One that was begun. `served`: it has come. `ending`: it is being given back."""

    place: Place
    served: bool = False
    ending: bool = False


class Lodging:
    """The agents of one executor. `given` is what they are told, but for what each has; `idle` is in seconds."""

    def __init__(self, landlord: Landlord, look: Look, given: AgentSettings, idle: float, owner: Owner) -> None:
        self.agents: dict[str, Agent] = {}
        self._landlord = landlord
        self._look = look
        self._given = given
        self._idle = idle
        self._owner = owner
        self._names = (f"{owner.label}-{number}" for number in itertools.count(1))
        self._failures: list[str] = []
        self._lost = ""  # why the landlord is asked no more
        self._requests: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=f"heald-{owner.label}-landlord", daemon=True)

    def start(self) -> bool:
        """Begin to look; no agents of a former head are expected."""
        self._thread.start()
        return False

    def unfit(self, needs: Resources) -> str | None:
        """Why no place of the cluster, as it is now, could ever run it; None while it has none."""
        if not self._look.whole:
            return None
        placement = Placement()
        for place in self._look.whole:
            gpus = tuple(map(str, range(place.gpus)))
            placement.add_node(Node(place.name, tuple(range(place.cores)), gpus, place.memory))
        return placement.unfit(needs)

    # -- decisions, in the engine's thread ---------------------------------------------------------------------------

    def consider(self) -> None:
        """Something may have become ready: do not wait for the next look when there is no agent yet."""
        if not self.agents and len(self._owner.placement):
            self._begin()

    def _begin(self) -> None:
        coming = [agent.place for agent in self.agents.values() if not agent.served]
        taken = {place.name for place in coming}
        wanted = self._owner.placement.wanted() - sum(place.cores for place in coming)
        for place in sorted(self._look.free, key=lambda one: one.cores, reverse=True):
            if wanted > 0 and place.name not in taken and not self._lost:
                wanted -= place.cores
                self._start(place)

    def _start(self, place: Place) -> None:
        name = next(self._names)
        self.agents[name] = Agent(place)
        given = msgspec.structs.replace(self._given, allocation=name, workers=place.cores, memory=place.memory)
        told = msgspec.json.encode(given)
        self._do(lambda: self._landlord.begin(name, place, told))

    def _looked(self, look: Look) -> None:
        self._look = look
        for name, reason in look.over.items():
            agent = self.agents.get(name)
            if agent is None:
                continue
            if agent.served:
                self._owner.give_up(name, reason)
            self.agents.pop(name, None)
            if not agent.served and not agent.ending:
                self._failed(reason)
        self._give_back()
        self._begin()

    def _give_back(self) -> None:
        """Give back what has had nothing to do for long."""
        if not self._idle or len(self._owner.placement):
            return
        now = time.time()
        for name, agent in self.agents.items():
            idle = all(one.idle_for(now) > self._idle for one in self._owner.remotes(name))
            if idle and agent.served and not agent.ending:
                agent.ending = True
                self._owner.retire(name, "it had nothing to do")

    # -- what became of them -----------------------------------------------------------------------------------------

    def met(self, allocation: str) -> None:
        """An agent came."""
        self.agents[allocation].served = True
        self._failures.clear()

    def refused(self, allocation: str, reason: str) -> None:
        """An agent came that cannot be used."""
        if self.agents.pop(allocation, None) is not None:
            self._failed(reason, at_once=True)

    def lost(self, allocation: str, reason: str) -> None:
        """An agent is not there any more; what may be left of it is ended."""
        if self.agents.pop(allocation, None) is not None:
            self._do(lambda: self._landlord.end([allocation]))
            self._break_if_lost()

    def _failed(self, reason: str, *, at_once: bool = False) -> None:
        self._failures.append(reason)
        if at_once or len(self._failures) >= _FAILURES:
            self._owner.broken(f"no agent can be started in {self._landlord.name}: {reason}")

    def _gone(self, reason: str) -> None:
        """The cluster does not answer. Agents that still work go on; when none is left, nothing can be run."""
        if not self._lost:
            self._lost = reason
            for name in [name for name, agent in self.agents.items() if not agent.served]:
                del self.agents[name]
            if self.agents:
                logging.getLogger("heald").error("%s; what runs there goes on as long as it can", reason)
            self._break_if_lost()

    def _break_if_lost(self) -> None:
        if self._lost and not self.agents:
            self._owner.broken(self._lost)

    # -- the landlord's thread ---------------------------------------------------------------------------------------

    def _do(self, act: Callable[[], None]) -> None:
        if not self._lost:
            self._requests.put(act)

    def _serve(self) -> None:
        try:
            while (act := self._next()) is not None:
                act()
        except ClusterLost as raised:
            self._say_gone(str(raised.message))
        except Exception as raised:  # of a client library of somebody else's
            self._say_gone(f"{self._landlord.name} cannot be used: {type(raised).__name__}: {raised}")

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._requests.get(timeout=_LOOK)
        except queue.Empty:
            return self._ask

    def _ask(self) -> None:
        look = self._landlord.look()
        self._owner.post(lambda: self._looked(look))

    def _say_gone(self, reason: str) -> None:
        self._owner.post(lambda: self._gone(reason))

    def close(self) -> None:
        """Give everything back, and wait until it is."""
        agents = list(self.agents)
        if not self._lost:
            self._requests.put(lambda: self._landlord.end(agents))
        self._requests.put(None)
        self._thread.join(_FAREWELL)
        try:
            self._landlord.close()
        except HealdError as raised:
            logging.getLogger("heald").warning("%s: agents there end by themselves", raised.message)
