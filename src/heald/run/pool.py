"""The driver's own pool: the cores of this machine, with a crew of workers on them.

Runs in the engine's thread. `run.dispatch` decides what goes where, `run.crew` does it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from heald.core.errors import HealdError
from heald.core.event import Failure, Usage
from heald.core.placement import Lease, Node
from heald.core.resources import Resources
from heald.core.retry import CANCELLED, WALLTIME
from heald.core.task import Payload
from heald.run import dispatch
from heald.run.crew import Crew, Settings
from heald.run.dispatch import Dispatch
from heald.run.protocol import Define, Order

if TYPE_CHECKING:
    from heald.data.arena import Arena
    from heald.run.crew import End
    from heald.run.lane import Lane
    from heald.run.process import ProcessExecutor
    from heald.run.selector import Selector
    from heald.site.launcher import MpiLauncher


class Host(dispatch.Host, Protocol):
    """What a pool needs of the engine."""

    selector: Selector
    arena: Arena
    logs: Path
    run: Path

    def began(self, order: Order, time: float, pid: int) -> None:
        """The attempt runs."""

    def ended(self, order: Order, outcome: Payload | Failure, usage: Usage) -> None:
        """The attempt is over."""

    def definition(self, digest: bytes) -> Define:
        """A work, and its pickled function."""

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` when that time has passed."""

    def broken(self, label: str, reason: str) -> None:
        """Nothing can run here any more."""

    def now(self) -> float:
        """Seconds since the epoch."""


class Pool:
    """Workers on this machine's cores."""

    def __init__(self, executor: ProcessExecutor, host: Host) -> None:
        self.label = executor.label
        self.grace = executor.grace_seconds
        self.selector, self.arena, self.logs, self.run = host.selector, host.arena, host.logs, host.run
        self.definition, self.after = host.definition, host.after
        self._host = host
        self._bind = executor.bind
        self._vendor = _vendor() if executor.gpus else ""
        common = self.grace, executor.bind, executor.pickled_initializer(), executor.environment
        settings = Settings(*common, vendor=self._vendor)
        self.crew = Crew(settings, self)
        node = Node(os.uname().nodename, executor.cores, executor.gpus, executor.memory)
        self.dispatch = Dispatch(self.label, [node], host, self._hold, lambda lease: self.crew.open())

    def start(self) -> None:
        """Start the spawner."""
        self.crew.start()

    def _hold(self, lane: Lane, lease: Lease) -> None:
        words = ""
        if lease.needs.ranks > 1 and self._mpi is not None:
            from heald.run.mpi import prefix

            words = prefix(self._mpi, lease, (), self.run / "ranks", bind=self._bind, vendor=self._vendor)
        self.crew.hold(lane, lease, words)

    @functools.cached_property
    def _mpi(self) -> MpiLauncher | None:
        """Whose the mpiexec of this machine is; None when that is not known, and then starting it says more."""
        from heald.site.launcher import flavour

        try:
            return flavour()
        except HealdError:
            return None

    def pump(self, now: float) -> None:
        """Send what can be sent."""
        self.dispatch.pump(now)

    def unfit(self, needs: Resources) -> str | None:
        """Why it could never run here, or None when it could."""
        return self.dispatch.placement.unfit(needs)

    def resume(self, task: int, attempt: int, worker: str) -> bool:
        """Whether an attempt of a former process may run on here: never, for its workers ended with it."""
        return False

    def close(self) -> None:
        """End everything here, at once."""
        self.crew.close()

    # -- ends that the engine wants ----------------------------------------------------------------------------------

    def cancel(self, task: int, attempt: int) -> None:
        """End an attempt that nobody wants any more."""
        found = self.dispatch.find(task)
        if found is not None and found[1].attempt == attempt:
            self._stop(found[1], unwanted())

    def expire(self, order: Order, walltime: float) -> None:
        """The attempt has had its walltime: stop it when it still runs."""
        self._stop(order, overtime(walltime))

    def _stop(self, order: Order, verdict: Failure) -> None:
        found = self.dispatch.find(order.task)
        if found is None or found[1].attempt != order.attempt:
            return
        lane: Any = found[0]
        self.dispatch.take_back(lane)
        if order in lane.fifo:
            self.crew.stop(lane, order, verdict)

    # -- what the crew tells -----------------------------------------------------------------------------------------

    def began(self, lane: Lane, order: Order, time: float) -> None:
        """The attempt runs."""
        self.dispatch.began(lane)
        self._host.began(order, time, lane.pid)

    def ended(self, lane: Lane, order: Order, outcome: Payload | Failure, usage: Usage) -> None:
        """The attempt is over."""
        self._host.ended(order, outcome, usage)
        self.dispatch.ended(lane, order, usage, self._host.now())

    def gone(self, lane: Lane, end: End | None, others: list[Order]) -> None:
        """The worker has died."""
        self.dispatch.gone(lane, [*([end[0]] if end else ()), *others])
        if end is not None:
            self._host.ended(*end)
        self._host.returned(others)

    def broken(self, reason: str) -> None:
        """Nothing can run here any more."""
        self._host.broken(self.label, reason)


def unwanted() -> Failure:
    """What an attempt fails of that was cancelled."""
    return Failure(CANCELLED, "cancelled")


def overtime(walltime: float) -> Failure:
    """What an attempt fails of that had its walltime, in seconds."""
    hint = "give it more walltime, or let it grow: Retry(limit=1, grow=2)"
    return Failure(WALLTIME, f"it was stopped after its walltime of {walltime:g} s", hint=hint)


def _vendor() -> str:
    """Who made the devices of this machine."""
    from heald.site.node import machine

    return machine().gpu
