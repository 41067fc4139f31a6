from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from heald.core.errors import SubmitFailed
from heald.site.command import ask
from heald.site.local import Local
from heald.site.profile import Site
from heald.site.scheduler import Job, JobState, JobStatus

Wait = Callable[[Callable[[], object]], None]


@pytest.fixture
def local(wait_until: Wait) -> Iterator[Local]:
    local = Local.of(Site("here"), ask)
    yield local
    ids = list(local._jobs)
    local.cancel(ids)
    wait_until(lambda: all(status.state.final for status in local.status(ids).values()))


def ended(local: Local, id: str, wait_until: Wait) -> JobStatus:
    wait_until(lambda: local.status([id])[id].state.final)
    return local.status([id])[id]


def test_it_stands_in_for_many_nodes(local: Local, tmp_path: Path, wait_until: Wait) -> None:
    out = tmp_path / "out"
    id = local.submit(Job(name="a", command=("sh", "-c", "echo $HEALD_HOSTS"), nodes=3, stdout=str(out)))
    assert ended(local, id, wait_until).hosts == (socket.gethostname(),) * 3
    assert out.read_text().split() == [socket.gethostname()] * 3


def test_inside_a_batch_job(monkeypatch: pytest.MonkeyPatch, wait_until: Wait) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-3]")
    assert Local.of(Site("here"), ask).hosts == ()
    local = Local.of(Site("here", launcher="srun"), ask)
    id = local.submit(Job(name="a", command=("sleep", "100"), nodes=2))
    assert local.status([id])[id].hosts == ("n1", "n2")
    with pytest.raises(SubmitFailed, match="the job b needs 2 hosts: 1 of 3 are free"):
        local.submit(Job(name="b", command=("true",), nodes=2))
    local.cancel([id])


def test_a_job_ends_with_all_that_it_started(local: Local, tmp_path: Path, wait_until: Wait) -> None:
    file = tmp_path / "pid"
    id = local.submit(
        Job(name="a", command=("sh", "-c", f"sleep 100 & echo $! > {file}.new; mv {file}.new {file}; wait"))
    )
    wait_until(file.exists)
    local.cancel([id])
    assert local.status([id])[id].state in (JobState.ending, JobState.cancelled)
    assert ended(local, id, wait_until).exit == -signal.SIGTERM
    wait_until(lambda: not Path(f"/proc/{file.read_text().strip()}/cmdline").exists())


def test_walltime(local: Local, wait_until: Wait) -> None:
    id = local.submit(Job(name="a", command=("sleep", "100"), walltime=timedelta(seconds=0.2)))
    status = ended(local, id, wait_until)
    assert status.state is JobState.timeout
    assert status.started is not None
    assert status.ends == status.started + timedelta(seconds=0.2)


def test_one_that_was_killed_has_failed(local: Local, wait_until: Wait) -> None:
    id = local.submit(Job(name="a", command=("sleep", "100"), walltime=timedelta(hours=1)))
    os.killpg(int(id.partition(".")[0]), signal.SIGKILL)
    status = ended(local, id, wait_until)
    assert (status.state, status.exit) == (JobState.failed, -9)


def test_an_exit_status_of_its_own_that_looks_like_a_timeout(local: Local, wait_until: Wait) -> None:
    id = local.submit(Job(name="a", command=("sh", "-c", "exit 124")))
    assert ended(local, id, wait_until).state is JobState.failed


def test_output_that_cannot_be_written(local: Local) -> None:
    with pytest.raises(SubmitFailed, match=r"cannot start the job a: .*No such file"):
        local.submit(Job(name="a", command=("true",), stdout="/no/such/folder/out"))


def test_facts(local: Local) -> None:
    assert local.nodes()[0].shape.cores >= 1
    assert local.queues() == []
