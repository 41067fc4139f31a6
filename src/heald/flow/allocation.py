"""The allocations of a run, for whoever looks from outside: asked of the living run, else read from its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from heald.core.allocation import AllocationStatus
from heald.core.errors import UsageError
from heald.flow.driver import answered, driver_of
from heald.run.change import Acquire, Holdings, NodeRequest, Release
from heald.run.change import allocations as decoded
from heald.run.cluster.ledger import read

if TYPE_CHECKING:
    from heald.flow.run import Run


def allocations(run: Run) -> list[AllocationStatus]:
    """See `Run.allocations`."""
    driver = driver_of(run, "heald allocation ls {}")
    if driver is not None:
        return decoded(answered(run, driver, Holdings()))
    return [
        AllocationStatus(executor=folder.name, **msgspec.structs.asdict(one))
        for folder in sorted(run.path.glob("agents/*"))
        for one in read(folder)
    ]


def acquire(run: Run, blocks: int, executor: str) -> list[AllocationStatus]:
    """See `Run.acquire`."""
    if blocks < 1:
        raise UsageError(f"blocks={blocks}: must be at least 1")
    return _asked(run, f"heald allocation add {blocks} --run {{}}", Acquire(blocks, executor))


def release(run: Run, allocation: str, executor: str) -> AllocationStatus:
    """See `Run.release`."""
    (status,) = _asked(run, f"heald allocation release {allocation} --run {{}}", Release(allocation, executor))
    return status


def _asked(run: Run, command: str, request: NodeRequest) -> list[AllocationStatus]:
    driver = driver_of(run, command)
    if driver is None:
        raise UsageError(
            f"{run.path} does not run, so it has no use for nodes",
            hint="start its script again; batch jobs that it left end by themselves, or by the scheduler's own command",
        )
    return decoded(answered(run, driver, request))
