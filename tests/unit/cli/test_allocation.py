from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import heald
from heald.cli.program import app
from heald.core.allocation import Allocation, AllocationState
from heald.run.cluster.ledger import Ledger


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def session() -> Iterator[heald.Session]:
    """A run whose nodes are this machine; the first is there when a task needs it."""
    executor = heald.ClusterExecutor("local", workers=1, blocks=(0, 0, 1))
    with heald.Session([executor], journal="run.heald", memo=None, progress=False) as opened:
        yield opened


def told(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["allocation", *arguments])
    assert result.exit_code == status, result.output
    return result


def test_of_a_run_that_goes_on(session: heald.Session) -> None:
    assert "has asked no scheduler for nodes" in told("ls").output
    session.submit(pow, 2, 10).result()
    titles, row = told("ls").output.splitlines()
    assert titles.split() == ["ID", "SITE", "JOB", "STATE", "NODES", "AGENTS", "BUSY"]
    assert row.split()[::3] == ["a1", "running", "0/1"]
    assert "asks for 1 more block of local: a2" in told("add", "1").output
    assert "a2 gets no more work; local gets its node back now" in told("release", "a2").output
    assert [one["id"] for one in json.loads(told("ls", "--json").output)] == ["a1", "a2"]
    error = told("release", "a7", status=1).stderr
    assert "cluster has no allocation 'a7'" in error
    assert "there are: a1" in error


def test_of_a_run_that_was_killed(session: heald.Session, tmp_path: Path) -> None:
    session.close()
    ledger = Ledger(tmp_path / "run.heald/agents/cluster")
    first = Allocation(id="a1", site="polaris", nodes=2, walltime=timedelta(hours=1), job="7.pbs")
    ledger.end(first, AllocationState.failed, "Job held by root")
    hosts = ("x1n1", "x1n2")
    ends = datetime.now(UTC) + timedelta(days=2, minutes=90)
    ledger.keep([Allocation(id="a2", site="polaris", nodes=2, walltime=timedelta(hours=1), hosts=hosts, ends=ends)])
    _, *rows = told("ls", "run.heald").output.splitlines()
    assert [row.split() for row in rows] == [
        ["a1", "polaris", "7.pbs", "failed", "2", "Job", "held", "by", "root"],
        ["a2", "polaris", "pending", "2", "0", "2d", "01h", "x1n[1-2]"],
    ]
    for words in (["add", "1"], ["release", "a2"]):
        assert "start its script again" in told(*words, status=2).stderr
