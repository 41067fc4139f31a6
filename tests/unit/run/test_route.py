from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from heald.core.event import Failure
from heald.core.graph import Node
from heald.core.placement import Node as Machine
from heald.core.resources import Resources
from heald.core.retry import REFUSED, WORKER_LOST
from heald.core.task import JOIN, Payload, Task, Work
from heald.run.dispatch import Dispatch
from heald.run.protocol import Order
from heald.run.route import Routes


class FakeLane:
    deep = True
    long = stopping = False
    ahead = 0.0
    lease: Any = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.fifo: Any = []

    def send(self, orders: list[Order]) -> None:
        self.fifo.extend(orders)


class FakePool:
    """A pool whose tasks never end."""

    def __init__(self, label: str, cpus: int, gpus: int = 0) -> None:
        self.label = label
        machine = Machine(label, tuple(range(cpus)), tuple(map(str, range(gpus))))
        self.dispatch = Dispatch(label, [machine], self, lambda *_: None, lambda lease: FakeLane(f"{label}-1"))  # type: ignore[arg-type, return-value]

    def unfit(self, needs: Resources) -> str | None:
        return self.dispatch.placement.unfit(needs)

    def order(self, task: int, lane: str, label: str) -> Order:
        return Order(task, 1, b"w", Payload(b""))

    def returned(self, orders: Iterable[Order]) -> None:
        raise AssertionError(orders)

    def limit(self, label: str, order: Order, walltime: float) -> None:
        pass

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        pass


def node(task: int = 1, *, executor: str = "", kind: str = "function", **needs: Any) -> Node:
    return Node(
        Task(task, b"w", Payload(b"")), Work("one", kind, b"f", resources=Resources(**needs), executor=executor), None
    )


@pytest.fixture
def pools() -> dict[str, FakePool]:
    return {one.label: one for one in (FakePool("small", 2), FakePool("large", 8, 1), FakePool(JOIN, 512))}


@pytest.fixture
def routes(pools: dict[str, FakePool]) -> Routes:
    return Routes(pools)


def test_the_first_that_could_run_it(routes: Routes, pools: dict[str, FakePool]) -> None:
    assert routes.find(node()) is pools["small"]
    assert routes.find(node(cpus=4)) is pools["large"]
    assert routes.find(node(gpus=0.5)) is pools["large"]


def test_the_one_that_it_names(routes: Routes, pools: dict[str, FakePool]) -> None:
    assert routes.find(node(executor="large")) is pools["large"]
    assert routes.find(node(kind=JOIN)) is pools[JOIN]


def test_one_that_nobody_could_run_is_refused_with_all_reasons(routes: Routes) -> None:
    found = routes.find(node(cpus=64))
    assert isinstance(found, Failure)
    assert found.kind == REFUSED
    assert found.message == (
        "small: needs 64 cpus on a node; the largest node has 2; large: needs 64 cpus on a node; the largest node has 8"
    )
    assert routes.why_not(node(cpus=64), 0.0) == found.message
    assert routes.find(node(cpus=4, executor="small")).message.startswith("small: ")


def test_where_a_task_is(routes: Routes, pools: dict[str, FakePool]) -> None:
    first, second, waits = (node(task, cpus=2) for task in (1, 2, 3))
    small = pools["small"].dispatch
    small._means[b"w"] = 0.1  # so that one more is sent ahead
    for one in (first, second, waits):
        small.push(one.record.id, one.needs, 0, 0)
    small.pump(0.0)
    assert routes.worker(1) == routes.worker(2) == "small-1"
    assert routes.worker(3) is None
    assert routes.ahead(second) == [1]
    assert routes.ahead(waits) == []
    assert "0 of 1 node can hold its share now" in routes.why_not(waits, 0.0)


def test_one_that_wants_no_place_any_more(routes: Routes, pools: dict[str, FakePool]) -> None:
    waiting = node()
    pools["small"].dispatch.push(1, waiting.needs, 0, 0)
    routes.withdraw(waiting)
    routes.withdraw(node(cpus=64))
    assert len(pools["small"].dispatch.placement) == 0


def test_a_pool_that_is_closed_fails_what_would_go_there(routes: Routes, pools: dict[str, FakePool]) -> None:
    routes.find(node())
    routes.find(node(cpus=4))
    failure = routes.close("small", "workers cannot be started")
    assert failure.kind == WORKER_LOST
    assert failure.final
    assert "'small'" in failure.message
    assert routes.find(node()) is failure
    assert routes.find(node(cpus=4)) is pools["large"]
    assert routes.find(node(memory=1)) is failure  # one that nobody had asked for before
