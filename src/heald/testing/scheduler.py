"""The contract of schedulers, which heald's adapters keep: tests to run on an adapter of one's own.

A subclass gives the scheduler and the least that a job must say there, and inherits the tests:

    class TestMine(SchedulerContract):
        @pytest.fixture
        def scheduler(self):
            return MyScheduler()

        def job(self, **fields):
            return super().job(queue="debug", **fields)

A test that means nothing for a scheduler is taken out by its name: `test_walltime_... = None`. The folder that jobs
write to must be seen by the nodes. Nothing is measured, and what takes its time is asked for until it is so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heald.core.errors import SubmitFailed
from heald.site.scheduler import Job, JobState, JobStatus, Scheduler

_ODD = ("a b", "it's", '"', "$HOME", "*", "\\n", "new\nline", "ü", "")


class Recorder:
    """A `Scheduler` that remembers what was submitted, so that it can be ended."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.ids: list[str] = []

    def submit(self, job: Job) -> str:
        """Ask for the job."""
        self.ids.append(self.scheduler.submit(job))
        return self.ids[-1]


class SchedulerContract:
    """The tests. `patience`: seconds within which a job must start, and end."""

    patience = 60.0

    @pytest.fixture
    def scheduler(self) -> Scheduler:
        """The scheduler."""
        raise NotImplementedError("a subclass gives the fixture `scheduler`")

    @pytest.fixture
    def jobs(self, scheduler: Scheduler) -> Iterator[Recorder]:
        """Submits jobs, and ends at the end what still runs."""
        jobs = Recorder(scheduler)
        yield jobs
        scheduler.cancel(jobs.ids)
        self.until(scheduler, jobs.ids, lambda status: status.state.final or status.state is JobState.missing)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A folder that the nodes see."""
        return tmp_path

    def job(self, **fields: Any) -> Job:
        """A job; a subclass adds what is needed everywhere."""
        return Job(**{"name": "heald-test", "walltime": timedelta(minutes=2), **fields})

    def until(
        self, scheduler: Scheduler, ids: list[str], wanted: Callable[[JobStatus], object]
    ) -> dict[str, JobStatus]:
        """Ask until all these jobs are as wanted; what they are then."""
        deadline = time.monotonic() + self.patience
        while True:
            found = dict(scheduler.status(ids))
            if all(map(wanted, found.values())):
                return found
            assert time.monotonic() < deadline, f"not within {self.patience} s: {found}"
            time.sleep(0.1)  # nothing tells when a scheduler changes its mind

    def test_a_job_runs_on_its_hosts_and_ends(self, scheduler: Scheduler, jobs: Recorder, folder: Path) -> None:
        """A job of two nodes runs on two hosts, from a time to a time, and is done when its command ends."""
        go = folder / "go"
        id = jobs.submit(self.job(command=("/bin/sh", "-c", f"while [ ! -e {go} ]; do sleep 0.1; done"), nodes=2))
        running = self.until(scheduler, [id], lambda status: status.state is JobState.running)[id]
        assert len(running.hosts) == 2
        if running.started is not None and running.ends is not None:
            now = datetime.now(UTC)
            assert now - timedelta(minutes=1) < running.started <= now + timedelta(seconds=2)
            assert timedelta(minutes=1) < running.ends - running.started < timedelta(minutes=4)
        go.touch()
        assert self.until(scheduler, [id], lambda status: status.state.final)[id].state is JobState.done

    def test_its_exit_status_is_told(self, scheduler: Scheduler, jobs: Recorder) -> None:
        """The exit status of the command says whether the job is done or has failed."""
        ids = [jobs.submit(self.job(command=("/bin/sh", "-c", f"exit {code}"))) for code in (0, 3)]
        ended = self.until(scheduler, ids, lambda status: status.state.final)
        assert [(ended[id].state, ended[id].exit) for id in ids] == [(JobState.done, 0), (JobState.failed, 3)]

    def test_the_command_gets_its_words_as_they_are(self, scheduler: Scheduler, jobs: Recorder, folder: Path) -> None:
        """No shell on the way touches the words of the command."""
        out = folder / "out.txt"
        command = ("/usr/bin/printf", "[%s]", *_ODD)
        id = jobs.submit(self.job(command=command, stdout=str(out)))
        self.until(scheduler, [id], lambda status: status.state.final)
        assert out.read_text() == "".join(f"[{word}]" for word in _ODD)

    def test_variables_setup_and_directory_reach_it(self, scheduler: Scheduler, jobs: Recorder, folder: Path) -> None:
        """The command finds around it what the job says; its two outputs can be apart."""
        where = folder / "a folder"
        where.mkdir()
        out, err = where / "out.txt", where / "err.txt"
        id = jobs.submit(
            self.job(
                command=("/bin/sh", "-c", 'pwd; echo "$FIRST $SECOND"; echo oops >&2'),
                directory=str(where),
                setup=("export FIRST=1",),
                variables={"SECOND": "two words"},
                stdout=str(out),
                stderr=str(err),
            )
        )
        self.until(scheduler, [id], lambda status: status.state.final)
        assert out.read_text() == f"{where}\n1 two words\n"
        assert "oops" in err.read_text()

    def test_output_is_there_while_it_runs(self, scheduler: Scheduler, jobs: Recorder, folder: Path) -> None:
        """What a job prints can be read before it ends."""
        out = folder / "out.txt"
        id = jobs.submit(self.job(command=("/bin/sh", "-c", "echo here; sleep 100"), stdout=str(out)))
        self.until(scheduler, [id], lambda status: out.exists() and out.read_text() == "here\n")
        assert scheduler.status([id])[id].state is JobState.running

    def test_a_job_is_cancelled(self, scheduler: Scheduler, jobs: Recorder) -> None:
        """A running job can be ended, and to end it twice is no error."""
        id = jobs.submit(self.job(command=("sleep", "100")))
        self.until(scheduler, [id], lambda status: status.state is JobState.running)
        scheduler.cancel([id])
        scheduler.cancel([id])
        assert self.until(scheduler, [id], lambda status: status.state.final)[id].state is JobState.cancelled
        scheduler.cancel([id])

    def test_what_it_does_not_know_is_missing(self, scheduler: Scheduler, jobs: Recorder) -> None:
        """A job that nobody knows is missing, and hides no other."""
        id = jobs.submit(self.job(command=("sleep", "100")))
        scheduler.cancel(["987654"])
        found = scheduler.status([id, "987654"])
        assert found["987654"].state is JobState.missing
        assert found[id].state is not JobState.missing
        assert scheduler.status(["987654"])["987654"].state is JobState.missing
        assert scheduler.status([]) == {}
        scheduler.cancel([])

    def test_walltime_ends_it(self, scheduler: Scheduler, jobs: Recorder) -> None:
        """A job that runs too long is ended, and that is told from a failure."""
        id = jobs.submit(self.job(command=("sleep", "100"), walltime=timedelta(seconds=1)))
        assert self.until(scheduler, [id], lambda status: status.state.final)[id].state is JobState.timeout

    def test_what_it_refuses_is_told_in_its_words(self, scheduler: Scheduler, jobs: Recorder) -> None:
        """A queue that there is not is an error at once, with a hint."""
        job = msgspec.structs.replace(self.job(command=("true",)), queue="no-such-queue")
        with pytest.raises(SubmitFailed, match="refused the job heald-test: ") as caught:
            jobs.submit(job)
        assert caught.value.hint

    def test_facts_of_its_nodes(self, scheduler: Scheduler) -> None:
        """It tells how many nodes it has, and how many cores they have."""
        nodes = scheduler.nodes()
        assert nodes
        assert all(kind.count >= 1 and kind.shape.cores >= 1 for kind in nodes)

    def test_facts_of_its_queues(self, scheduler: Scheduler) -> None:
        """It tells the names of its queues."""
        queues = scheduler.queues()
        assert queues
        assert all(queue.name for queue in queues)
