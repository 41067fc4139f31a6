"""Grid Engine over the hosts runs jobs, parallel ones too, keeps an account of them, and survives an outage."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.testbed.gridengine import GridEngine
from tests.testbed.host import HEAD
from tests.testbed.keeper import wait_for

pytestmark = pytest.mark.live


def test_a_parallel_job_has_whole_nodes(gridengine: GridEngine, tmp_path: Path) -> None:
    job = gridengine.submit("cat $PE_HOSTFILE; exit 3", "-pe", "whole", "8", "-cwd", "-N", "par", folder=tmp_path)
    wait_for(lambda: not gridengine.state(job), "the job's end")
    lines = [line.split()[:2] for line in (tmp_path / f"par.o{job}").read_text().splitlines()]
    assert [slots for _, slots in lines] == ["4", "4"]
    account = dict(line.split(None, 1) for line in gridengine.command("qacct", "-j", job).splitlines()[1:])
    assert account["exit_status"].strip() == "3"
    assert account["hostname"].strip() in dict(lines)


def test_a_deleted_job_leaves_nothing(gridengine: GridEngine, tmp_path: Path) -> None:
    job = gridengine.submit("sleep 60", folder=tmp_path)
    gridengine.await_state(job, "r")
    gridengine.command("qdel", job)
    wait_for(lambda: not gridengine.state(job), "the job's end")


def test_the_qmaster_comes_back(gridengine: GridEngine) -> None:
    gridengine.stop_master()
    failed = gridengine.hosts.run(HEAD, ["qstat"], status=1)
    assert "unable to send message to qmaster" in failed.stderr
    gridengine.start_master()
    assert not gridengine.command("qstat")
