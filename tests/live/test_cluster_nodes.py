"""What nodes run out of: time, memory, disk; and a clock that is wrong. On a real Slurm, as in `test_cluster`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.live.study import Study
from tests.testbed.host import LOCAL

import heald
from heald.core.event import Finished, Placed, Started
from heald.run.cluster import ledger


def work(what: str, **options: object) -> str:
    """The text of tasks that do this too, once they have noted that they began; `times` is how often."""
    return f"""
def work(number, seconds):
    times = note("began", number)
    {what}
    time.sleep(seconds)
    note("done", number)
    return number


work = heald.task(work, {", ".join(f"{name}={value}" for name, value in options.items())})
"""


STUCK = work("times > 1 or time.sleep(100)")  # when it is run for the first time
GREEDY = "times > {times} or number != 3 or bytearray(400 << 20)"  # task 3 takes more memory than a job has


def job(study: Study) -> str:
    """The id of the one job that runs."""
    (found,) = study.slurm.command("squeue", "--noheader", "--format=%i", "--states=RUNNING").split()
    return found


class TestTime:
    def test_slurm_ends_a_job_at_its_limit(self, study: Study) -> None:
        study.start(tasks=4, work=STUCK)
        study.begun(4)
        # A limit is a minute at least, and Slurm looks for jobs over it every 30 s.
        now = time.strftime("%Y-%m-%dT%H:%M:%S")
        study.slurm.command("scontrol", "update", f"JobId={job(study)}", f"EndTime={now}")
        study.end()
        assert len(study.lines("began")) == 8
        assert "DUE TO TIME LIMIT" in study.output()
        (first, _) = ledger.read(study.folder / "run.heald/agents/cluster")
        assert (first.state.name, first.reason) == ("ended", "TimeLimit")

    def test_no_job_may_follow_one_that_was_ended(self, study: Study) -> None:
        study.start(tasks=4, work=STUCK)
        study.begun(4)
        study.slurm.command("scontrol", "update", "PartitionName=batch", "State=DRAIN")
        study.slurm.command("scancel", job(study))
        stderr = study.fail()
        assert "testbed gives no nodes: the scheduler refuses the job" in stderr
        assert "Required partition not available" in stderr


class TestMemory:
    @pytest.fixture(autouse=True)
    def small(self, study: Study) -> None:
        """A job has 300 MB of each node, and the kernel sees to it."""
        study.describe(directives=["--mem=300"])

    def test_the_kernel_kills_a_worker(self, study: Study) -> None:
        study.start(work=work(GREEDY.format(times=1), retries=1))
        study.end()
        assert [line[0] for line in study.lines("began")].count("3") == 2
        assert not study.repeated()

    def test_the_kernel_kills_one_after_the_other(self, study: Study) -> None:
        study.start(work=work(GREEDY.format(times=9), retries=1))
        stderr = study.fail()
        assert "heald.core.errors.OutOfMemory: work#4, attempt 2: the system ran out of memory and killed it" in stderr

    def test_more_is_asked_for(self, study: Study) -> None:
        more = "heald.Retry(limit=1, grow=3)"
        study.start(memory="2GB", work=work(GREEDY.format(times=9), memory="'1GB'", retries=more))
        stderr = study.fail()
        assert "needs 3000000000 bytes of memory on a node" in stderr
        assert "its last attempt failed: the system ran out of memory and killed it" in stderr

    def test_the_kernel_kills_an_agent(self, study: Study) -> None:
        wait = "while number == 3 and not os.path.exists('go'): time.sleep(0.01)"
        study.start(work=work(f"{wait}\n    {GREEDY.format(times=1)}"))
        study.begun(4)
        (host,) = [line[1] for line in study.lines("began") if line[0] == "3"]
        # Not what starts them on the first node: that has their command too, further behind.
        _warden, agent, *_ = (one for one in study.agents(host) if "cluster.warden import" in one.cmdline()[2])
        Path(f"/proc/{agent.pid}/oom_score_adj").write_text("1000")
        (study.folder / "go").touch()
        study.end()
        assert not psutil.pid_exists(agent.pid)
        assert "the agent was killed by SIGKILL" in study.output()


class TestDisk:
    """Tasks that cannot write on a node are run on the others, and it does not eat all that there are."""

    def test_their_own_disk_is_full(self, study: Study) -> None:
        study.describe(setup=[f"export TMPDIR={LOCAL}"])
        study.hosts.fill("n2", LOCAL)
        study.start(work=work("open(f'{os.environ[\"TMPDIR\"]}/{number}', 'w').write('x' * 100_000)"))
        assert f"a1.n2: the disk of {LOCAL} is full (0 B left); nothing more is begun there" in study.end()
        assert [line[1] for line in study.lines("began")].count("n2") == 1

    def test_what_they_print_has_no_room(self, study: Study) -> None:
        study.start(work=work("print('x' * 100_000)"))
        study.under_way(4)
        study.hosts.fill("n2", study.folder / "run.heald/logs")
        assert "run.heald/logs is full (0 B left); nothing more is begun there" in study.end()
        assert not study.repeated()

    def test_no_worker_can_be_started(self, study: Study) -> None:
        logs = study.folder / "run.heald/logs"
        logs.mkdir(parents=True)
        study.hosts.fill("n2", logs, files=True)
        study.start()
        stderr = study.end()
        assert stderr.count("a1.n2: workers cannot be started") == 1
        assert f"the disk of {logs} can hold no more files" in stderr
        assert {line[1] for line in study.lines("done")} == {"n1", "n3", "n4"}

    def test_no_node_has_room(self, study: Study) -> None:
        logs = study.folder / "run.heald/logs"
        logs.mkdir(parents=True)
        for host in study.hosts.nodes:
            study.hosts.fill(host, logs, files=True)
        study.start()
        assert "testbed gives no nodes: workers cannot be started: [Errno 28]" in study.fail()


class TestClocks:
    # Whatever Python says of the time of day on these hosts is wrong. On n1, a job's script says when the job ends.
    WRONG = """
import os, time
shift = {"n1": -10_800, "n2": 7200, "n3": -420}.get(os.uname().nodename, 0)
time.time = lambda right=time.time: right() + shift
"""

    def test_nodes_have_other_times_of_day(self, study: Study) -> None:
        clock, python = study.folder / "clock", study.folder / "python"
        clock.mkdir()
        (clock / "sitecustomize.py").write_text(self.WRONG)
        python.write_text(f'#!/bin/sh\nPYTHONPATH={clock}:$PYTHONPATH exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        study.describe(python=str(python), setup=["export HEALD_ENDS=$((HEALD_ENDS - 10800))"])
        began = time.time()
        study.start(walltime="5m", work=work("pass", walltime="'2m'"))
        study.end()
        ended = time.time()
        assert {line[1] for line in study.lines("done")} == {"n1", "n2", "n3", "n4"}
        assert len(ledger.read(study.folder / "run.heald/agents/cluster")) == 1
        placed: dict[int, float] = {}
        for event in heald.Run(study.folder / "run.heald").events():
            if isinstance(event, Placed):
                placed[event.task] = event.time
            elif isinstance(event, Started):
                assert placed[event.task] - 1 <= event.time <= ended
            elif isinstance(event, Finished):
                assert event.usage.seconds == pytest.approx(0.5, abs=0.2)
                assert placed[event.task] - 1 <= event.usage.started <= event.time
        assert min(placed.values()) >= began
