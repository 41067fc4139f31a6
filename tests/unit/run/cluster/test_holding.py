"""What a run says of its nodes; asking it from outside is in tests/unit/flow/test_allocation.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from heald.core.allocation import Allocation
from heald.core.placement import Lease, Node, Share
from heald.core.resources import SINGLE
from heald.run.cluster import holding
from heald.run.cluster.allocator import Allocator, Block

ENDS = datetime(2026, 5, 4, 12, tzinfo=UTC)


class FakeAllocator(Allocator):
    """Blocks, and no scheduler."""

    def __init__(self, **blocks: Block) -> None:
        self.blocks = blocks

    @property
    def allocations(self) -> list[Allocation]:
        return [block.allocation for block in self.blocks.values()]


class FakePool:
    """Agents on two nodes of two cores; `leases` are what runs there."""

    def __init__(self, label: str, supply: object, *leases: Lease) -> None:
        self.label = label
        self.supply = supply
        self.dispatch = SimpleNamespace(lanes={one.id: SimpleNamespace(lease=one, fifo=[1]) for one in leases})

    def remotes(self, allocation: str) -> list[Any]:
        nodes = [Node(f"{allocation}.n{number}", (0, 1), until=ENDS.timestamp() + number) for number in (1, 2)]
        return [SimpleNamespace(node=node) for node in nodes] if allocation == "a1" else []


def block(name: str, **fields: Any) -> Block:
    return Block(Allocation(id=name, site="mine", nodes=2, walltime=timedelta(hours=1), job="7"), **fields)


def engine(*pools: object) -> Any:
    return SimpleNamespace(pools={"process": SimpleNamespace(), **{one.label: one for one in pools}})  # type: ignore[attr-defined]


def test_how_busy_it_is_and_how_long_it_stays() -> None:
    wide = Lease(1, (Share("a1.n1", (0,)), Share("a1.n2", (1,))), SINGLE)
    elsewhere = Lease(2, (Share("a2.n1", (0, 1)),), SINGLE)
    pool = FakePool(
        "cluster", FakeAllocator(a1=block("a1", served=True), a2=block("a2", ending="why")), wide, elsewhere
    )
    first, second = holding.allocations(engine(pool))
    assert (first.executor, first.agents, first.cores, first.busy, first.draining) == ("cluster", 2, 4, 2, False)
    assert first.ends == ENDS + timedelta(seconds=1)  # the scheduler has not said yet, but its agents know
    assert (second.agents, second.cores, second.busy, second.draining, second.ends) == (0, 0, 0, True, None)


def test_executors_whose_nodes_no_scheduler_gives_have_none() -> None:
    assert holding.allocations(engine(FakePool("dask", object()))) == []


@pytest.mark.parametrize("labels", [["one"], ["one", "other"]])
def test_each_executor_has_its_own(labels: list[str]) -> None:
    found = engine(*(FakePool(label, FakeAllocator(a1=block("a1"))) for label in labels))
    assert [(one.executor, one.id) for one in holding.allocations(found)] == [(label, "a1") for label in labels]
