"""Allocations of a run whose nodes are this machine, as another process of the user sees and changes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import heald
from heald.core.allocation import AllocationState, AllocationStatus
from heald.core.errors import HealdError, UsageError
from heald.flow.run import Run


@pytest.fixture
def session(tmp_path: Path) -> Iterator[heald.Session]:
    executors = [
        heald.ClusterExecutor("local", workers=1, blocks=(1, 0, 1)),
        heald.ClusterExecutor("local", workers=1, blocks=(0, 0, 1), label="more"),
    ]
    with heald.Session(executors, journal=tmp_path / "run.heald", memo=None, progress=False) as opened:
        yield opened


def shown(statuses: list[AllocationStatus]) -> list[tuple[str, str, str]]:
    return [(one.executor, one.id, one.state.name) for one in statuses]


def test_a_run_that_goes_on(session: heald.Session, tmp_path: Path, wait_until: Callable[..., None]) -> None:
    run = Run(tmp_path / "run.heald")
    session.submit(pow, 2, 10).result()
    (one,) = run.allocations()
    assert (one.id, one.executor, one.site, one.state) == ("a1", "cluster", "local", AllocationState.running)
    assert (one.agents, one.cores, one.busy, one.draining) == (1, 1, 0, False)
    assert one.job

    assert shown(run.acquire(2, "more")) == [("more", "a1", "pending"), ("more", "a2", "pending")]
    with pytest.raises(HealdError, match="several executors have allocations"):
        run.release("a2")
    with pytest.raises(HealdError, match="more has no allocation 'a3'"):
        run.release("a3", "more")
    with pytest.raises(HealdError, match="there is no executor 'less'"):
        run.acquire(1, "less")
    assert run.release("a2", "more").draining
    wait_until(lambda: ("more", "a2", "cancelled") in shown(run.allocations()), timeout=20)
    assert next(one for one in run.allocations() if one.state is AllocationState.cancelled).reason


def test_one_that_has_ended(session: heald.Session, tmp_path: Path) -> None:
    run = Run(tmp_path / "run.heald")
    session.submit(pow, 2, 10).result()
    session.close()
    assert shown(run.allocations()) == [("cluster", "a1", "cancelled")]
    for act in (run.acquire, lambda: run.release("a1")):
        with pytest.raises(UsageError, match="does not run"):
            act()


def test_one_that_asks_no_scheduler(tmp_path: Path) -> None:
    run = Run(tmp_path / "run.heald")
    with heald.Session([heald.ThreadExecutor(1)], journal=run.path, memo=None, progress=False):
        assert run.allocations() == []
        with pytest.raises(HealdError, match="asks no scheduler"):
            run.acquire()
        with pytest.raises(UsageError, match="must be at least 1"):
            run.acquire(0)
    assert run.allocations() == []
