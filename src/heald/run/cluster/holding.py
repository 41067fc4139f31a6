"""The allocations that a living run holds: how each is, and having more or fewer of them.

This is what `run.change` does when another process of the user asks; it is called in the engine's thread.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from heald.core.allocation import Allocation, AllocationStatus
from heald.core.errors import UsageError
from heald.run.cluster.allocator import Allocator

if TYPE_CHECKING:
    from heald.run.cluster.pool import ClusterPool
    from heald.run.engine import Engine


def allocations(engine: Engine) -> list[AllocationStatus]:
    """All that the executors of the run have had, by executor, those that are over first."""
    return [_status(*found, one) for found in _suppliers(engine).values() for one in found[1].allocations]


def acquire(engine: Engine, blocks: int, label: str) -> list[AllocationStatus]:
    """Ask for so many more blocks for an executor, the only one when it is not named; how they are."""
    pool, supply = _supplier(engine, label)
    return [_status(pool, supply, block.allocation) for block in supply.acquire(blocks)]


def release(engine: Engine, allocation: str, label: str) -> list[AllocationStatus]:
    """Give an allocation back, of the only executor or of the one named; how it is."""
    pool, supply = _supplier(engine, label)
    if allocation not in supply.blocks:
        known = ", ".join(supply.blocks) or "none"
        raise UsageError(f"{pool.label} has no allocation {allocation!r}", hint=f"there are: {known}")
    supply.give_up(allocation)
    return [_status(pool, supply, supply.blocks[allocation].allocation)]


def _suppliers(engine: Engine) -> dict[str, tuple[ClusterPool, Allocator]]:
    """Executors whose nodes come from a scheduler, by label."""
    found = {label: (pool, getattr(pool, "supply", None)) for label, pool in engine.pools.items()}
    return {label: (pool, supply) for label, (pool, supply) in found.items() if isinstance(supply, Allocator)}


def _supplier(engine: Engine, label: str) -> tuple[ClusterPool, Allocator]:
    """The one of that label, the only one for an empty label. Raises UsageError when there is none, or several."""
    found = _suppliers(engine)
    if not found:
        raise UsageError("this run asks no scheduler for nodes", hint="use heald.ClusterExecutor, or heald run --site")
    if label not in found and (label or len(found) > 1):
        which = f"there is no executor {label!r}" if label else "several executors have allocations"
        raise UsageError(which, hint=f"name one of these with --executor: {', '.join(found)}")
    return found[label or next(iter(found))]


def _status(pool: ClusterPool, supply: Allocator, allocation: Allocation) -> AllocationStatus:
    block, remotes = supply.blocks.get(allocation.id), pool.remotes(allocation.id)
    nodes = {one.node.name: one.node for one in remotes}
    leases = (lane.lease for lane in pool.dispatch.lanes.values() if lane.lease is not None and lane.fifo)
    shares = [share for lease in leases for share in lease.shares if share.node in nodes]
    ends = allocation.ends
    if ends is None and (until := min((node.until for node in nodes.values()), default=math.inf)) < math.inf:
        ends = datetime.fromtimestamp(until, UTC)
    return AllocationStatus(
        **{**msgspec.structs.asdict(allocation), "ends": ends},
        executor=pool.label,
        agents=len(remotes),
        cores=sum(len(node.cpus) for node in nodes.values()),
        busy=sum(len(share.cpus) for share in shares),
        draining=block is not None and bool(block.ending),
    )
