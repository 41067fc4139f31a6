from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heald.core.errors import SiteError
from heald.site.command import Answer
from heald.site.detect import detect, schedulers
from heald.site.profile import Limits, NodeShape

Sample = Callable[[str], str]


@pytest.fixture
def slurm(program: Any, sample: Sample) -> Any:
    program.answers["/bin/sh"] = Answer(0)
    program.answers["sinfo --noheader --exact"] = Answer(
        0, sample("slurm/sinfo-nodes.txt") + "debug|9|64|2|32|1000|(null)|(null)\n"
    )
    program.answers["sinfo"] = Answer(0, sample("slurm/sinfo-queues.txt") + "closed|down|2|5:00|1-2\n")
    return program


def test_of_the_default_queue(slurm: Any) -> None:
    slurm.answers["/bin/sh"] = Answer(0, "SCRATCH\nWORK\n")
    site = detect("here", "slurm", ask=slurm)
    assert (site.name, site.scheduler, site.queue, site.scratch) == ("here", "slurm", "batch", "$SCRATCH")
    assert site.node == NodeShape(cores=4, numa=4, gpus=2, memory=8000 * 2**20)
    assert list(site.queues) == ["batch", "urgent", "debug"]
    assert site.queues["debug"].nodes == 2


def test_behind_a_login_node(slurm: Any) -> None:
    assert detect("here", "slurm", login="me@there", ask=slurm).login == "me@there"


def test_of_another_queue(slurm: Any) -> None:
    assert detect("here", "slurm", "debug", ask=slurm).node.cores == 64
    with pytest.raises(SiteError, match="there is no queue nope") as caught:
        detect("here", "slurm", "nope", ask=slurm)
    assert caught.value.hint == "there are batch, urgent, debug, closed"


def test_the_only_queue_is_taken(program: Any, sample: Sample) -> None:
    program.answers.update({"qhost": Answer(0, sample("gridengine/qhost.xml")), "qconf": Answer(0, "batch\n")})
    program.answers["/bin/sh"] = Answer(0)
    site = detect("here", "gridengine", ask=program)
    assert (site.queue, site.node.cores, site.queues) == ("batch", 2, {"batch": Limits()})


def test_of_several_none_is_guessed(program: Any, sample: Sample) -> None:
    two = sample("pbs/qstat-Qf.txt") + sample("pbs/qstat-Qf.txt").replace("workq", "other")
    program.answers.update({"pbsnodes": Answer(0, sample("pbs/pbsnodes-a.txt")), "qstat": Answer(0, two)})
    program.answers["/bin/sh"] = Answer(0)
    site = detect("here", "pbs", ask=program)
    assert (site.queue, site.node.cores) == ("", 4)


def test_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORK", "/w")
    site = detect("here", "local")
    assert site.node.cores >= 1
    assert site.scratch == "$WORK"
    assert site.queues == {}


def test_which_schedulers_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert schedulers() == []
    for name in ("sbatch", "qstat", "pbsnodes"):
        (tmp_path / name).touch(stat.S_IRWXU)
    assert schedulers() == ["slurm", "pbs"]
