from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heald.core.errors import SchedulerUnreachable, SiteError, SubmitFailed
from heald.site.command import Answer
from heald.site.profile import Limits, NodeShape
from heald.site.scheduler import Job, JobState, JobStatus, Queue
from heald.site.slurm import Slurm, parse_accounting, parse_nodes, parse_queue, parse_queues, script, vendor

Sample = Callable[[str], str]

LOST = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
UNKNOWN = "slurm_load_jobs error: Invalid job id specified"
DISABLED = "Slurm accounting storage is disabled"


class TestScript:
    def test_whole_nodes_with_all_that_is_on_them(self) -> None:
        job = Job(name="a", command=("x",), exclusive=True, cpus=64, gpus=4)
        assert options(job) == {"--job-name=a", "--nodes=1", "--ntasks-per-node=1", "--gpus-per-node=4", "--mem=0",
                                "--exclusive"}  # fmt: skip

    def test_parts_of_nodes(self) -> None:
        found = options(Job(name="a", command=("x",), cpus=2, memory=3 * 10**9))
        assert {"--cpus-per-task=2", "--mem=2862M"} <= found
        assert "--exclusive" not in found

    def test_where_it_goes_and_what_it_writes(self) -> None:
        job = Job(
            name="a",
            command=("x",),
            queue="q",
            account="acc",
            qos="high",
            constraint="gpu&fast",
            filesystems=("scratch", "cfs"),
            notice=60,
            walltime=timedelta(days=1, seconds=1),
            stdout="/o",
            stderr="/e",
            directives=("--gres=x:1 # as it is",),
        )
        assert {
            "--partition=q", "--account=acc", "--qos=high", "--constraint=gpu&fast", "--licenses=scratch,cfs",
            "--signal=B:USR1@60", "--time=24:00:01", "--output=/o", "--error=/e", "--open-mode=append",
            "--gres=x:1 # as it is",
        } <= options(job)  # fmt: skip


def options(job: Job) -> set[str]:
    return {line.removeprefix("#SBATCH ") for line in script(job).splitlines() if line.startswith("#SBATCH")}


class TestQueue:
    def test_what_a_real_one_said(self, sample: Sample) -> None:
        found = parse_queue(sample("slurm/squeue.txt"))
        assert {id: status.state.name for id, status in found.items()} == {
            "11": "failed", "12_1": "running", "12_2": "running", "12_3": "queued", "13": "queued", "14": "held",
            "15": "ending", "16": "failed", "17": "ending",
        }  # fmt: skip
        assert (found["11"].exit, found["16"].exit, found["12_1"].exit) == (3, -9, None)
        assert (found["11"].hosts, found["14"].hosts) == (("n1", "n2"), ())
        assert found["13"].reason == "PartitionNodeLimit"
        assert (found["17"].restarts, found["11"].restarts) == (1, 0)
        assert found["12_1"].started == datetime.fromtimestamp(1795351867, UTC)
        assert found["12_1"].ends == datetime.fromtimestamp(1795352467, UTC)
        assert found["14"].ends is None

    @pytest.mark.parametrize(
        ("word", "state"),
        [
            ("CONFIGURING", "queued"), ("REQUEUE_HOLD", "held"), ("SUSPENDED", "running"), ("STAGE_OUT", "ending"),
            ("COMPLETED", "done"), ("TIMEOUT", "timeout"), ("DEADLINE", "timeout"), ("NODE_FAIL", "node_failed"),
            ("BOOT_FAIL", "node_failed"), ("PREEMPTED", "preempted"), ("OUT_OF_MEMORY", "out_of_memory"),
            ("CANCELLED+", "cancelled"), ("EXOTIC", "unknown"),
        ],
    )  # fmt: skip
    def test_its_words(self, word: str, state: str) -> None:
        status = parse_queue(f"1|{word}|N/A|N/A|0|0||None")["1"]
        assert status.state.name == state
        assert status.reason == ("EXOTIC" if state == "unknown" else "")

    def test_a_reason_may_have_any_sign_in_it(self) -> None:
        assert parse_queue("1|PENDING|N/A|N/A|0|0||(a|b)")["1"].reason == "(a|b)"

    def test_a_job_that_will_start_has_not_started(self) -> None:
        assert parse_queue("1|PENDING|1795351867|1795352467|0|0||Resources")["1"].started is None


class TestAccounting:
    def test_how_jobs_ended(self) -> None:
        found = parse_accounting(
            "1|CANCELLED by 0|1795351867|1795351870|0:15|n[1-2]|None\n"
            "2|COMPLETED|1795351867|1795351870|0:0|n1|None\n"
            "3_1|FAILED|1795351867|1795351870|2:0|n1|JobArrayTaskLimit\n"
            "4|OUT_OF_MEMORY|1795351867|1795351870|0:125|n1|OutOfMemory\n"
            "5|TIMEOUT|1795351867|1795351870|0:0|n1|None\n"
        )
        assert [(status.state.name, status.exit) for status in found.values()] == [
            ("cancelled", -15), ("done", 0), ("failed", 2), ("out_of_memory", -125),
            ("timeout", None),
        ]  # fmt: skip
        assert found["1"].hosts == ("n1", "n2")

    def test_what_it_believes_to_run_is_missing(self) -> None:
        status = parse_accounting("4|PENDING|Unknown|Unknown|0:0|None assigned|None\n")["4"]
        assert status.state is JobState.missing
        assert "PENDING" in status.reason


class TestFacts:
    def test_nodes_of_several_partitions_count_once(self, sample: Sample) -> None:
        (nodes,) = parse_nodes(sample("slurm/sinfo-nodes.txt"))
        assert (nodes.count, nodes.queues) == (4, ("batch", "urgent", "debug"))
        assert nodes.shape == NodeShape(cores=4, numa=4, gpus=2, memory=8000 * 2**20)

    def test_shapes_and_features(self) -> None:
        text = "cpu|10|256|2|64|515000|(null)|milan,fast\ngpu|4+|128|1|64|257000+|gpu:a100:4(S:0-3),nic:4|(null)\n"
        first, second = parse_nodes(text)
        assert (first.shape.cores, first.shape.numa, first.features) == (128, 2, ("milan", "fast"))
        assert (second.shape.cores, second.shape.gpus, second.shape.gpu) == (64, 4, "nvidia")

    def test_partitions(self, sample: Sample) -> None:
        hour = timedelta(hours=1)
        assert parse_queues(sample("slurm/sinfo-queues.txt")) == [
            Queue("batch", Limits(walltime=hour), 4, default=True),
            Queue("urgent", Limits(walltime=hour), 4),
            Queue("debug", Limits(nodes=2, walltime=timedelta(minutes=5)), 2),
        ]

    def test_partitions_in_several_states_and_without_limits(self) -> None:
        (queue,) = parse_queues("p|up|4|infinite|2-infinite\np|down|6|infinite|2-infinite\n")
        assert (queue.nodes, queue.limits) == (10, Limits(fewest=2))

    @pytest.mark.parametrize(
        ("model", "maker"),
        [("h100", "nvidia"), ("V100-SXM2", "nvidia"), ("tesla_t4", "nvidia"), ("gh200", "nvidia"), ("l40s", "nvidia"),
         ("mi250x", "amd"), ("pvc", "intel"), ("max1550", "intel"), ("shiny", "")],
    )  # fmt: skip
    def test_whose_gpu(self, model: str, maker: str) -> None:
        assert vendor(model) == maker


class TestSlurm:
    def test_submits_and_takes_the_id(self, program: Any) -> None:
        program.answers["sbatch"] = Answer(0, "Welcome!\n123;cluster\n")
        assert Slurm(program).submit(Job(name="a", command=("x",))) == "123"
        assert program.texts == [script(Job(name="a", command=("x",)))]

    def test_a_refusal_has_its_words_and_what_to_do(self, program: Any) -> None:
        said = (
            "sbatch: error: invalid partition specified: nope\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
        )
        program.answers["sbatch"] = Answer(1, "", said)
        with pytest.raises(SubmitFailed, match="refused the job a: sbatch: error: invalid partition") as caught:
            Slurm(program).submit(Job(name="a", command=("x",)))
        assert "sinfo" in caught.value.hint

    def test_an_outage_is_no_refusal(self, program: Any) -> None:
        program.answers["s"] = Answer(1, "", LOST)
        slurm = Slurm(program)
        with pytest.raises(SchedulerUnreachable, match="connect failure"):
            slurm.submit(Job(name="a", command=("x",)))
        with pytest.raises(SchedulerUnreachable):
            slurm.status(["1"])
        with pytest.raises(SchedulerUnreachable):
            slurm.cancel(["1"])

    def test_asks_once_for_all_and_the_accounting_for_the_rest(self, program: Any, sample: Sample) -> None:
        program.answers["squeue"] = Answer(0, sample("slurm/squeue.txt"))
        program.answers["sacct"] = Answer(0, "9|TIMEOUT|1795351867|1795351870|0:0|n1|None\n")
        found = Slurm(program).status(["9", "11", "13", "11", "10"])
        assert {id: status.state.name for id, status in found.items()} == {
            "9": "timeout", "11": "failed", "13": "queued", "10": "missing",
        }  # fmt: skip
        assert found["13"].hint.startswith("more nodes than the partition has")
        assert [argv[0] for argv in program.asked] == ["squeue", "sacct"]
        assert "--jobs=9,11,13,10" in program.asked[0]
        assert "--jobs=9,10" in program.asked[1]
        assert program.variables[0] == {"SLURM_TIME_FORMAT": "%s"}

    def test_without_accounting_what_is_gone_is_missing(self, program: Any) -> None:
        program.answers["squeue"] = Answer(1, "", UNKNOWN)
        program.answers["sacct"] = Answer(1, "", DISABLED)
        assert Slurm(program).status(["9"])["9"].state is JobState.missing

    def test_without_sacct_too(self, program: Any) -> None:
        def absent() -> Answer:
            raise SiteError("cannot run sacct")

        program.answers.update({"squeue": Answer(1, "", UNKNOWN), "sacct": absent})
        assert Slurm(program).status(["9"])["9"].state is JobState.missing

    def test_an_accounting_that_does_not_answer_says_nothing(self, program: Any) -> None:
        program.answers["squeue"] = Answer(1, "", UNKNOWN)
        program.answers["sacct"] = Answer(1, "", "sacct: error: slurmdbd: Unable to connect: Connection refused")
        status = Slurm(program).status(["9"])["9"]
        assert status.state is JobState.unknown
        assert "Connection refused" in status.reason

    def test_an_array_is_as_far_as_its_last_element(self, program: Any, sample: Sample) -> None:
        program.answers["squeue"] = Answer(0, sample("slurm/squeue.txt"))
        assert Slurm(program).status(["12"])["12"].state is JobState.queued

    def test_asks_nothing_for_nothing(self, program: Any) -> None:
        slurm = Slurm(program)
        assert slurm.status([]) == {}
        slurm.cancel([])
        assert not program.asked

    def test_cancelling_what_is_over_is_no_error(self, program: Any) -> None:
        program.answers["scancel"] = Answer(
            1, "", "scancel: error: Kill job error on job id 9: Invalid job id specified"
        )
        Slurm(program).cancel(["9"])
        program.answers["scancel"] = Answer(1, "", "scancel: error: Access/permission denied")
        with pytest.raises(SiteError, match="permission denied"):
            Slurm(program).cancel(["9"])

    def test_facts(self, program: Any, sample: Sample) -> None:
        program.answers["sinfo --noheader --exact"] = Answer(0, sample("slurm/sinfo-nodes.txt"))
        program.answers["sinfo"] = Answer(0, sample("slurm/sinfo-queues.txt"))
        slurm = Slurm(program)
        assert (slurm.nodes()[0].count, slurm.queues()[0].name) == (4, "batch")


def test_states_can_go_back(program: Any) -> None:
    slurm = Slurm(program)
    seen: list[JobStatus] = []
    for word in ("NODE_FAIL", "RUNNING"):  # as after an outage of the controller
        program.answers["squeue"] = Answer(0, f"1|{word}|1|2|0|0|n1|None\n")
        seen.append(slurm.status(["1"])["1"])
    assert [status.state.name for status in seen] == ["node_failed", "running"]
