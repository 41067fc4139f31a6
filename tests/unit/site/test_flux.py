from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heald.core.errors import ConfigurationError, SchedulerUnreachable, SiteError
from heald.site.command import Answer
from heald.site.flux import Flux, parse, parse_nodes, script
from heald.site.profile import NodeShape
from heald.site.scheduler import Job, JobState

RUNNING = "ƒMjr|RUN|||1795349775.5|0.0|1795350375.5|n[1-2]||\n"


def test_script() -> None:
    job = Job(
        name="a",
        command=("x",),
        nodes=2,
        cpus=4,
        gpus=1,
        account="bank",
        constraint="hosts:n1",
        notice=60,
        walltime=timedelta(minutes=5),
        stdout="/o",
        stderr="/e",
        directives=("--setattr=x=1",),
    )
    assert [line.removeprefix("# flux: ") for line in script(job).splitlines() if line.startswith("# flux:")] == [
        "--job-name=a", "--nodes=2", "--nslots=2", "--cores-per-slot=4", "--gpus-per-slot=1", "--time-limit=300s",
        "--bank=bank", "--requires=hosts:n1", "--signal=SIGUSR1@60s", "--output=/o", "--error=/e", "--setattr=x=1",
    ]  # fmt: skip
    with pytest.raises(ConfigurationError, match="Flux knows no `memory`"):
        script(Job(name="a", command=("x",), memory=1))


def test_a_running_job() -> None:
    status = parse(RUNNING)["fMjr"]
    assert (status.state, status.hosts, status.exit) == (JobState.running, ("n1", "n2"), None)
    assert status.ends == datetime.fromtimestamp(1795350375.5, UTC)


@pytest.mark.parametrize(
    ("row", "state", "exit"),
    [
        ("1|SCHED|||0.0|0.0|0.0|||", "queued", None),
        ("1|CLEANUP|||1.0|0.0|9.0|n1||", "ending", None),
        ("1|INACTIVE|COMPLETED|0|1.0|2.0|9.0|n1||", "done", 0),
        ("1|INACTIVE|FAILED|3|1.0|2.0|9.0|n1||", "failed", 3),
        ("1|INACTIVE|CANCELED|-128|0.0|2.0|0.0||cancel|a | sign", "cancelled", -128),
        ("1|INACTIVE|TIMEOUT|142|1.0|2.0|9.0|n1|timeout|resource allocation expired", "timeout", 142),
        ("1|INACTIVE|FAILED||1.0|2.0|9.0|n1|exec|node failure on n3 (rank 3)", "node_failed", None),
        ("1|NEW|||0.0|0.0|0.0|||", "unknown", None),
    ],
)
def test_states(row: str, state: str, exit: int | None) -> None:
    status = parse(row)["1"]
    assert (status.state.name, status.exit) == (state, exit)


def test_nodes() -> None:
    assert [(kind.count, kind.shape) for kind in parse_nodes("4 64 8\n0 0 0\n")] == [(4, NodeShape(cores=16, gpus=2))]


def test_ids_are_the_same_in_every_terminal(program: Any) -> None:
    program.answers["flux batch"] = Answer(0, "ƒMjr\n")
    program.answers["flux jobs"] = Answer(1, RUNNING, "flux-jobs: ERROR: JobID fabc unknown\n")
    flux = Flux(program)
    id = flux.submit(Job(name="a", command=("x",)))
    assert [status.state.name for status in flux.status([id, "fabc"]).values()] == ["running", "missing"]


def test_cancelling_what_is_over_is_no_error(program: Any) -> None:
    program.answers["flux cancel"] = Answer(1, "", "flux-cancel: ERROR: fMjr: job is inactive\n")
    Flux(program).cancel(["fMjr"])


def test_an_outage(program: Any) -> None:
    program.answers["flux"] = Answer(1, "", "flux-jobs: ERROR: Unable to connect to Flux: No such file or directory\n")
    with pytest.raises(SchedulerUnreachable):
        Flux(program).status(["fMjr"])


def test_facts(program: Any) -> None:
    def absent() -> Answer:
        raise SiteError("unknown command")

    program.answers["flux resource list"] = Answer(0, "4 16 0\n")
    program.answers["flux queue list"] = Answer(0, "batch*\ndebug\n")
    flux = Flux(program)
    assert flux.nodes()[0].count == 4
    assert [(queue.name, queue.default) for queue in flux.queues()] == [("batch", True), ("debug", False)]
    program.answers["flux queue list"] = absent
    assert flux.queues() == []
    assert flux.status([]) == {}
    flux.cancel([])
