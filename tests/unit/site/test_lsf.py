from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from heald.core.errors import SchedulerUnreachable, SubmitFailed
from heald.site.command import Answer
from heald.site.lsf import Lsf, parse, parse_hosts, script
from heald.site.scheduler import Job

HOSTS = """\
HOST_NAME                       type       model  cpuf ncpus maxmem maxswp server RESOURCES
n1                            X86_64    Intel_E5  12.5    32   128G      -    Yes (mg)
n2                            X86_64    Intel_E5  12.5    32   128G      -    Yes ()
client                        X86_64    Intel_E5  12.5     -      -      -     No ()
"""
QUEUES = """\
QUEUE_NAME      PRIO STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN  SUSP  RSV PJOBS
normal           30  Open:Active       -    -    -    -     0     0     0     0    0     0
old              20  Closed:Inact      -    -    -    -     0     0     0     0    0     0
"""


def rows(*records: dict[str, str]) -> str:
    return json.dumps({"COMMAND": "bjobs", "JOBS": len(records), "RECORDS": records})


def test_script() -> None:
    job = Job(
        name="a",
        command=("x",),
        nodes=2,
        cpus=4,
        gpus=1,
        memory=2**30,
        exclusive=True,
        account="p",
        constraint="select[fast]",
        notice=90,
        walltime=timedelta(minutes=90),
        stdout="/o",
    )
    text = script(job)
    assert [line.removeprefix("#BSUB ") for line in text.splitlines() if line.startswith("#BSUB")] == [
        "-J a", "-n 8", '-R "span[ptile=4]"', '-R "select[fast]"', '-R "rusage[mem=1024MB]"', '-gpu "num=1"',
        "-W 1:30", "-wt 2 -wa USR1", "-P p", "-x", "-o /o.lsf",
    ]  # fmt: skip
    assert "exec >>/o 2>&1\n" in text


@pytest.mark.parametrize(
    ("record", "state", "exit"),
    [
        ({"STAT": "PEND", "PEND_REASON": "Job slot limit"}, "queued", None),
        ({"STAT": "PSUSP"}, "held", None),
        ({"STAT": "RUN", "EXEC_HOST": "4*n1:4*n2"}, "running", None),
        ({"STAT": "DONE", "EXIT_CODE": ""}, "done", 0),
        ({"STAT": "EXIT", "EXIT_CODE": "3"}, "failed", 3),
        ({"STAT": "EXIT", "EXIT_CODE": "140", "EXIT_REASON": "TERM_RUNLIMIT: job killed after"}, "timeout", -12),
        ({"STAT": "EXIT", "EXIT_CODE": "130", "EXIT_REASON": "TERM_OWNER: job killed by owner"}, "cancelled", -2),
        ({"STAT": "EXIT", "EXIT_CODE": "137", "EXIT_REASON": "TERM_MEMLIMIT: job killed"}, "out_of_memory", -9),
        ({"STAT": "ODD"}, "unknown", None),
    ],
)
def test_states(record: dict[str, str], state: str, exit: int | None) -> None:
    status = parse(rows({"JOBID": "1", **record}))["1"]
    assert (status.state.name, status.exit) == (state, exit)
    assert status.hosts == (("n1", "n2") if state == "running" else ())


class TestLsf:
    def test_submits(self, program: Any) -> None:
        program.answers["bsub"] = Answer(0, "Job <123> is submitted to default queue <normal>.\n")
        assert Lsf(program).submit(Job(name="a", command=("x",))) == "123"

    def test_a_refusal(self, program: Any) -> None:
        program.answers["bsub"] = Answer(255, "", "nope: No such queue. Job not submitted.\n")
        with pytest.raises(SubmitFailed, match="No such queue") as caught:
            Lsf(program).submit(Job(name="a", command=("x",)))
        assert caught.value.hint == "set `queue` to one of: bqueues"

    def test_some_are_known(self, program: Any) -> None:
        unknown = {"JOBID": "9", "ERROR": "Job <9> is not found"}
        program.answers["bjobs"] = Answer(255, rows({"JOBID": "1", "STAT": "RUN"}, unknown), "")
        assert [status.state.name for status in Lsf(program).status(["1", "9"]).values()] == ["running", "missing"]

    def test_an_outage(self, program: Any) -> None:
        program.answers["bjobs"] = Answer(255, "", "LSF is down. Please wait ...\n")
        with pytest.raises(SchedulerUnreachable):
            Lsf(program).status(["1"])

    def test_cancelling_what_is_over_is_no_error(self, program: Any) -> None:
        program.answers["bkill"] = Answer(255, "", "Job <1>: Job has already finished\n")
        Lsf(program).cancel(["1"])

    def test_facts(self, program: Any) -> None:
        program.answers.update({"lshosts": Answer(0, HOSTS), "bqueues": Answer(0, QUEUES)})
        lsf = Lsf(program)
        assert [(kind.count, kind.shape.cores, kind.shape.memory) for kind in lsf.nodes()] == [(2, 32, 128 * 2**30)]
        assert [(queue.name, queue.open) for queue in lsf.queues()] == [("normal", True), ("old", False)]
        assert parse_hosts("HOST_NAME\n") == []
        assert lsf.status([]) == {}
        lsf.cancel([])
