from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heald.core.errors import ConfigurationError, SchedulerUnreachable, SiteError, SubmitFailed
from heald.site.command import Answer
from heald.site.pbs import Pbs, nodes, parse, queues, script, status
from heald.site.profile import NodeShape
from heald.site.scheduler import Job, JobState, Queue

Sample = Callable[[str], str]


class TestScript:
    def test_all_it_can_say(self) -> None:
        job = Job(
            name="a",
            command=("x",),
            nodes=4,
            cpus=32,
            gpus=4,
            memory=2**30,
            constraint="system=polaris",
            filesystems=("home", "eagle"),
            queue="q",
            account="acc",
            stdout="/o ut",
            stderr="/err",
            directives=("-r y",),
        )
        assert [line for line in script(job).splitlines() if not line.startswith("#!")] == [
            "#PBS -N a",
            "#PBS -l select=4:ncpus=32:ngpus=4:mem=1024mb:system=polaris",
            "#PBS -l place=scatter",
            "#PBS -l filesystems=home:eagle",
            "#PBS -q q",
            "#PBS -A acc",
            "#PBS -j oe",
            "#PBS -o '/o ut.pbs'",
            "#PBS -r y",
            "exec >>'/o ut' 2>>/err",
            "exec x",
        ]

    def test_of_whole_nodes_devices_are_not_counted(self) -> None:
        text = script(Job(name="a", command=("x",), exclusive=True, cpus=102, gpus=12))
        assert "select=1:ncpus=102\n" in text
        assert "place=scatter:excl\n" in text

    def test_what_pbs_has_not_got_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="PBS knows no `qos`"):
            script(Job(name="a", command=("x",), qos="high"))


class TestStatus:
    def test_of_jobs_that_a_real_one_had(self, sample: Sample) -> None:
        found = {id: status(record) for id, record in parse(sample("pbs/qstat-xf-end.txt")).items()}
        assert {id: told.state.name for id, told in found.items()} == {
            "2.n0": "done", "3[].n0": "done", "4.n0": "timeout", "5.n0": "cancelled", "6.n0": "running",
            "7.n0": "cancelled", "8.n0": "failed", "9.n0": "queued",
        }  # fmt: skip
        assert {id: told.exit for id, told in found.items() if told.exit is not None} == {
            "2.n0": 0, "3[].n0": 0, "5.n0": 0, "8.n0": 7,
        }  # fmt: skip
        assert found["2.n0"].hosts == ("n1", "n2")
        assert found["9.n0"].reason.startswith(
            "Can Never Run: Insufficient amount of resource: ncpus (R: 32 A: 16 T: 16"
        )

    def test_times_are_those_of_this_machine(self, sample: Sample) -> None:
        told, started = status(parse(sample("pbs/qstat-f.txt"))["4.n0"]), datetime(2026, 11, 22, 6, 46, 15)
        assert told.started == started.astimezone(UTC)
        assert told.ends == told.started + timedelta(seconds=5)

    @pytest.mark.parametrize(
        ("code", "state", "exit"),
        [("0", "done", 0), ("1", "failed", 1), ("271", "failed", -15), ("-29", "timeout", None),
         ("-20", "node_failed", None), ("-27", "out_of_memory", None), ("-1", "failed", None)],
    )  # fmt: skip
    def test_codes(self, code: str, state: str, exit: int | None) -> None:
        told = status({"job_state": "F", "substate": "93", "Exit_status": code})
        assert (told.state.name, told.exit) == (state, exit)

    def test_runs_are_counted(self) -> None:
        assert status({"job_state": "Q", "run_count": "2"}).restarts == 1

    def test_a_letter_that_is_new(self) -> None:
        assert status({"job_state": "Z"}).state is JobState.unknown


class TestFacts:
    def test_nodes(self, sample: Sample) -> None:
        (kind,) = nodes(parse(sample("pbs/pbsnodes-a.txt")).values())
        assert (kind.count, kind.shape) == (4, NodeShape(cores=4, numa=1, memory=8 * 2**30))

    def test_a_host_of_several_virtual_nodes_is_one(self) -> None:
        half = {"resources_available.host": "a", "resources_available.ncpus": "16", "resources_available.mem": "1tb"}
        (kind,) = nodes([half, half])
        assert (kind.count, kind.shape.cores, kind.shape.numa, kind.shape.memory) == (1, 32, 2, 2 * 2**40)

    def test_queues(self, sample: Sample) -> None:
        assert queues(parse(sample("pbs/qstat-Qf.txt"))) == [Queue("workq")]
        (limited,) = queues({"q": {"resources_max.nodect": "10", "resources_max.walltime": "01:00:00"}})
        assert (limited.limits.nodes, limited.limits.walltime, limited.open) == (10, timedelta(hours=1), False)


class TestPbs:
    def test_submits(self, program: Any) -> None:
        program.answers["qsub"] = Answer(0, "12.n0\n")
        assert Pbs(program).submit(Job(name="a", command=("x",))) == "12.n0"

    def test_a_refusal(self, program: Any) -> None:
        program.answers["qsub"] = Answer(170, "", "qsub: Unknown queue\n")
        with pytest.raises(SubmitFailed, match="qsub refused the job a: qsub: Unknown queue") as caught:
            Pbs(program).submit(Job(name="a", command=("x",)))
        assert caught.value.hint == "set `queue` to one of: qstat -Q"

    def test_some_are_known(self, program: Any, sample: Sample) -> None:
        program.answers["qstat -x -f"] = Answer(153, sample("pbs/qstat-f.txt"), "qstat: Unknown Job Id 999.n0\n")
        found = Pbs(program).status(["4.n0", "9.n0", "999.n0"])
        assert [told.state.name for told in found.values()] == ["running", "queued", "missing"]
        assert found["9.n0"].hint.startswith("no set of nodes")
        assert len(program.asked) == 1

    def test_a_server_that_keeps_no_history(self, program: Any, sample: Sample) -> None:
        program.answers["qstat -x"] = Answer(1, "", "qstat: PBS is not configured to maintain job history")
        program.answers["qstat -f"] = Answer(0, sample("pbs/qstat-f.txt"))
        pbs = Pbs(program)
        for _ in range(2):
            assert pbs.status(["4.n0"])["4.n0"].state is JobState.running
        assert len(program.asked) == 3

    def test_an_outage(self, program: Any) -> None:
        said = "Connection refused\nqstat: cannot connect to server n0 (errno=15010)\n"
        program.answers["qstat"] = Answer(162, "", said)
        with pytest.raises(SchedulerUnreachable):
            Pbs(program).status(["4.n0"])

    @pytest.mark.parametrize(
        ("code", "said"),
        [(153, "qdel: Unknown Job Id 999.n0"), (35, "qdel: Job has finished 5.n0"),
         (168, "qdel: Request invalid for state of job 1.n0")],
    )  # fmt: skip
    def test_cancelling_what_is_over_is_no_error(self, program: Any, code: int, said: str) -> None:
        program.answers["qdel"] = Answer(code, "", said)
        Pbs(program).cancel(["5.n0"])

    def test_cancelling_what_is_not_ones_own_is(self, program: Any) -> None:
        program.answers["qdel"] = Answer(1, "", "qdel: Unauthorized Request 5.n0")
        with pytest.raises(SiteError, match="Unauthorized"):
            Pbs(program).cancel(["5.n0"])

    def test_facts(self, program: Any, sample: Sample) -> None:
        program.answers["pbsnodes"] = Answer(0, sample("pbs/pbsnodes-a.txt"))
        program.answers["qstat -Q"] = Answer(0, sample("pbs/qstat-Qf.txt"))
        pbs = Pbs(program)
        assert (pbs.nodes()[0].count, pbs.queues()[0].name) == (4, "workq")
        assert pbs.status([]) == {}
        pbs.cancel([])
