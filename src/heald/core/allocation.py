"""Nodes granted until a time: what heald asked of a site, and what became of it.

A record only, as `core` knows no site: `site/` asks the schedulers, `run/` decides how many allocations there are.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum, auto

import msgspec


class AllocationState(StrEnum):
    """Where an allocation is in its life.

    >>> [state.name for state in AllocationState if not state.final]
    ['pending', 'running']
    """

    pending = auto()  # asked for; the scheduler has not started it, or has taken it back into its queue
    running = auto()
    ended = auto()  # by itself, or at the end of its walltime
    failed = auto()  # the scheduler refused it, lost it or lost its nodes, or what ran there failed
    cancelled = auto()  # given back before its end

    @property
    def final(self) -> bool:
        """Nothing can happen to it any more."""
        return self not in (AllocationState.pending, AllocationState.running)


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """Some nodes of a site for some time.

    `id` is heald's own; `job` is what the scheduler calls it, None until it has accepted it. `reason` is in the
    scheduler's words: why it waits, why it failed. `hosts` are known once it runs. Times are aware, in UTC; `ends` is
    when the scheduler will take the nodes back, or has.

    >>> allocation = Allocation(id="a1", site="polaris", nodes=4, walltime=timedelta(hours=1))
    >>> allocation.state.final
    False
    """

    id: str
    site: str
    nodes: int
    walltime: timedelta
    job: str | None = None
    state: AllocationState = AllocationState.pending
    reason: str = ""
    hosts: tuple[str, ...] = ()
    requested: datetime | None = None
    started: datetime | None = None
    ends: datetime | None = None


class AllocationStatus(Allocation, frozen=True, kw_only=True):
    """An allocation as it is now, for people. `executor`: the label of the one that holds it. `agents` of it are
    connected; `cores` are theirs, of which `busy` are in use. `draining`: it gets no more work, and is given back when
    what runs there has ended.

    >>> hour, noon = timedelta(hours=1), datetime.fromisoformat("2026-05-04T12:00Z")
    >>> status = AllocationStatus(id="a1", site="polaris", nodes=1, walltime=hour, executor="cluster", ends=noon + hour)
    >>> status.left(noon).total_seconds()
    3600.0
    """

    executor: str
    agents: int = 0
    cores: int = 0
    busy: int = 0
    draining: bool = False

    def left(self, now: datetime) -> timedelta | None:
        """How long its nodes stay; None when that is not known."""
        return None if self.ends is None else max(timedelta(0), self.ends - now)
