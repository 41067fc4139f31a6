from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from heald.core.allocation import Allocation, AllocationState


def test_it_travels_as_it_is() -> None:
    allocation = Allocation(
        id="a1",
        site="polaris",
        nodes=2,
        walltime=timedelta(hours=1),
        job="12.n0",
        state=AllocationState.running,
        hosts=("n1", "n2"),
        started=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(allocation), type=Allocation) == allocation


def test_what_is_over() -> None:
    assert [state.name for state in AllocationState if state.final] == ["ended", "failed", "cancelled"]
