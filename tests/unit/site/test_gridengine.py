from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heald.core.errors import ConfigurationError, SchedulerUnreachable, SubmitFailed
from heald.site.command import Answer
from heald.site.gridengine import GridEngine, parse_accounting, parse_hosts, parse_queue, script
from heald.site.profile import NodeShape
from heald.site.scheduler import Job, JobState

Sample = Callable[[str], str]
NOTHING = "<job_info><queue_info/><job_info/></job_info>"


def test_script() -> None:
    job = Job(
        name="a",
        command=("x",),
        queue="q",
        account="p",
        gpus=1,
        walltime=timedelta(minutes=5),
        stdout="/o",
        stderr="/e",
        directives=("-m n",),
    )
    assert [line.removeprefix("#$ ") for line in script(job).splitlines() if line.startswith("#$")] == [
        "-N a", "-S /bin/bash", "-l h_rt=0:05:00", "-l gpu=1", "-q q", "-P p", "-o /o", "-e /e", "-m n",
    ]  # fmt: skip


def test_several_nodes_need_a_parallel_environment() -> None:
    with pytest.raises(ConfigurationError, match="of 2 nodes names no parallel environment"):
        script(Job(name="a", command=("x",), nodes=2))


class TestQueue:
    def test_what_a_real_one_said(self, sample: Sample) -> None:
        found = parse_queue(sample("gridengine/qstat.xml"))
        assert {id: status.state.name for id, status in found.items()} == {
            "21": "running", "25": "ending", "23": "queued", "24": "held", "22": "held",
        }  # fmt: skip
        assert sorted(found["21"].hosts) == ["n1", "n2", "n3"]
        assert found["21"].started is not None
        assert found["21"].ends == found["21"].started + timedelta(seconds=300)
        assert found["24"].reason == "it is in error state"

    def test_the_first_host_is_where_the_job_itself_runs(self) -> None:
        rows = "".join(
            f"<job_list><JB_job_number>1</JB_job_number><state>r</state><queue_name>q@{host}</queue_name>"
            f"<master>{kind}</master></job_list>"
            for host, kind in (("a", "SLAVE"), ("b", "MASTER"), ("b", "SLAVE"))
        )
        assert parse_queue(f"<job_info>{rows}</job_info>")["1"].hosts == ("b", "a")

    @pytest.mark.parametrize(
        ("letters", "state"),
        [("t", "running"), ("Rr", "running"), ("S", "running"), ("hr", "held"), ("?", "unknown")],
    )
    def test_letters(self, letters: str, state: str) -> None:
        row = f"<job_list><JB_job_number>1</JB_job_number><state>{letters}</state></job_list>"
        status = parse_queue(f"<job_info>{row}</job_info>")["1"]
        assert (status.state.name, status.restarts) == (state, int("R" in letters))


class TestAccounting:
    @pytest.mark.parametrize(("job", "state", "exit"), [(1, "failed", 3), (2, "failed", -9), (4, "timeout", -9)])
    def test_what_a_real_one_said(self, sample: Sample, job: int, state: str, exit: int) -> None:
        status = parse_accounting(sample(f"gridengine/qacct-{job}.txt"))
        assert (status.state.name, status.exit) == (state, exit)
        assert status.started is not None

    def test_times_are_those_of_this_machine(self, sample: Sample) -> None:
        ends = parse_accounting(sample("gridengine/qacct-4.txt")).ends
        assert ends == datetime(2026, 11, 22, 12, 35, 22).astimezone(UTC)

    def test_the_last_run_counts(self, sample: Sample) -> None:
        first, last = sample("gridengine/qacct-4.txt"), sample("gridengine/qacct-1.txt")
        assert parse_accounting(first + last).exit == 3


def test_hosts(sample: Sample) -> None:
    (kind,) = parse_hosts(sample("gridengine/qhost.xml"))
    assert (kind.count, kind.shape) == (3, NodeShape(cores=2, numa=1, memory=int(23.5 * 2**30)))


class TestGridEngine:
    def test_submits(self, program: Any) -> None:
        program.answers["qsub"] = Answer(0, "5.1-3:1\n")
        assert GridEngine(program).submit(Job(name="a", command=("x",))) == "5"

    def test_a_refusal(self, program: Any) -> None:
        said = 'Unable to run job: Job was rejected because job requests unknown queue "nope"\nExiting.\n'
        program.answers["qsub"] = Answer(1, "", said)
        with pytest.raises(SubmitFailed, match="unknown queue") as caught:
            GridEngine(program).submit(Job(name="a", command=("x",)))
        assert caught.value.hint == "set `queue` to one of: qconf -sql"

    def test_what_left_the_queue_is_in_the_accounting(self, program: Any, sample: Sample) -> None:
        program.answers["qstat"] = Answer(0, sample("gridengine/qstat.xml"))
        program.answers["qacct -j 1"] = Answer(0, sample("gridengine/qacct-1.txt"))
        program.answers["qacct"] = Answer(1, "", "error: job id 9 not found\n")
        found = GridEngine(program).status(["21", "1", "9"])
        assert [status.state.name for status in found.values()] == ["running", "failed", "missing"]

    def test_one_that_was_cancelled_is_told_from_one_that_was_killed(self, program: Any, sample: Sample) -> None:
        program.answers["qdel"] = Answer(1, "root has registered the job 2 for deletion\nroot has deleted job 3\n",
                                         'denied: job "4" does not exist\n')  # fmt: skip
        program.answers["qstat"] = Answer(0, NOTHING)
        program.answers["qacct -j 2"] = Answer(0, sample("gridengine/qacct-2.txt"))
        program.answers["qacct"] = Answer(1, "", "error: job id not found")
        engine = GridEngine(program)
        assert engine.status(["2"])["2"].state is JobState.failed
        engine.cancel(["2", "3", "4"])
        assert [status.state.name for status in engine.status(["2", "3", "4"]).values()] == [
            "cancelled", "cancelled", "missing",
        ]  # fmt: skip

    def test_an_outage(self, program: Any) -> None:
        program.answers["qstat"] = Answer(1, "", "error: commlib error: got select error (Connection refused)\n")
        with pytest.raises(SchedulerUnreachable):
            GridEngine(program).status(["1"])

    def test_facts(self, program: Any, sample: Sample) -> None:
        program.answers["qhost"] = Answer(0, sample("gridengine/qhost.xml"))
        program.answers["qconf"] = Answer(0, "batch\nfast\n")
        engine = GridEngine(program)
        assert engine.nodes()[0].count == 3
        assert [queue.name for queue in engine.queues()] == ["batch", "fast"]
        assert engine.status([]) == {}
        engine.cancel([])
