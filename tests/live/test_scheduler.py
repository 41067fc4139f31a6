"""heald's adapters keep the contract on real schedulers, and tell the truth when nodes or controllers are lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.testbed.flux import FakeFlux
from tests.testbed.gridengine import GridEngine as GridEngineTestbed
from tests.testbed.host import HEAD, Hosts
from tests.testbed.pbs import FakePbs
from tests.testbed.slurm import Slurm as SlurmTestbed

from heald.core.errors import SchedulerUnreachable
from heald.site.command import Answer, Ask
from heald.site.detect import detect
from heald.site.flux import Flux
from heald.site.gridengine import GridEngine
from heald.site.pbs import Pbs
from heald.site.profile import NodeShape
from heald.site.scheduler import Job, JobState, Scheduler
from heald.site.slurm import Slurm
from heald.testing.scheduler import Recorder, SchedulerContract

pytestmark = pytest.mark.live

Wait = Callable[..., None]


def on_head(hosts: Hosts) -> Ask:
    """Runs a scheduler's programs on the head node."""

    def ask(argv: Sequence[str], text: str = "", variables: Mapping[str, str] = {}) -> Answer:
        done = hosts.run(HEAD, argv, text=text, environment=variables, status=None, folder=Path("/tmp"))
        return Answer(done.returncode, done.stdout, done.stderr)

    return ask


class TestSlurm(SchedulerContract):
    test_walltime_ends_it = None  # type: ignore[assignment]  # Slurm's shortest is a minute; see squeue.txt

    @pytest.fixture
    def scheduler(self, slurm: SlurmTestbed) -> Scheduler:
        return Slurm(on_head(slurm.hosts))

    def test_devices_are_those_granted(self, scheduler: Scheduler, jobs: Recorder, folder: Path) -> None:
        out = folder / "out"
        job = self.job(command=("sh", "-c", "echo $CUDA_VISIBLE_DEVICES"), gpus=2, stdout=str(out))
        self.until(scheduler, [jobs.submit(job)], lambda status: status.state.final)
        assert out.read_text() == "0,1\n"

    def test_whole_nodes_have_all_their_cores_and_memory(
        self, scheduler: Scheduler, jobs: Recorder, folder: Path
    ) -> None:
        out = folder / "out"
        show = "echo $SLURM_CPUS_ON_NODE $SLURM_MEM_PER_NODE"
        self.until(
            scheduler,
            [jobs.submit(self.job(command=("sh", "-c", show), exclusive=True, stdout=str(out)))],
            lambda status: status.state.final,
        )
        assert out.read_text().split()[0] == "4"

    def test_a_signal_comes_before_the_end(self, scheduler: Scheduler, jobs: Recorder, folder: Path) -> None:
        out = folder / "out"
        wait = "trap 'echo warned; exit 7' USR1; while :; do sleep 0.1; done"
        walltime = timedelta(minutes=1)  # the warning of 60 s comes at once
        id = jobs.submit(self.job(command=("sh", "-c", wait), walltime=walltime, notice=60, stdout=str(out)))
        assert self.until(scheduler, [id], lambda status: status.state.final)[id].exit == 7
        assert out.read_text() == "warned\n"

    def test_why_a_job_waits(self, scheduler: Scheduler, jobs: Recorder) -> None:
        wide = jobs.submit(self.job(command=("true",), nodes=3, queue="debug"))
        held = jobs.submit(self.job(command=("true",), directives=("--hold",)))
        found = self.until(scheduler, [wide, held], lambda status: status.reason not in ("", "None", "Priority"))
        assert (found[wide].state, found[held].state) == (JobState.queued, JobState.held)
        assert (found[wide].reason, found[held].reason) == ("PartitionConfig", "JobHeldUser")
        assert all(status.hint for status in found.values())

    def test_arrays(self, scheduler: Scheduler, jobs: Recorder) -> None:
        id = jobs.submit(self.job(command=("sh", "-c", "exit $SLURM_ARRAY_TASK_ID"), directives=("--array=0-2%1",)))
        elements = [f"{id}_{number}" for number in range(3)]
        found = self.until(scheduler, [id, *elements], lambda status: status.state.final)
        assert [found[element].exit for element in elements] == [0, 1, 2]

    def test_a_lost_node_is_told_and_its_job_comes_back(
        self, slurm: SlurmTestbed, scheduler: Scheduler, jobs: Recorder
    ) -> None:
        stays = jobs.submit(self.job(command=("sleep", "100"), directives=("--no-requeue", "--nodelist=n4")))
        moves = jobs.submit(self.job(command=("sleep", "100"), directives=("--requeue", "--nodelist=n4")))
        self.until(scheduler, [stays, moves], lambda status: status.state is JobState.running)
        slurm.hosts.crash("n4")
        found = self.until(scheduler, [stays, moves], lambda status: status.state is not JobState.running)
        assert found[stays].state is JobState.node_failed
        slurm.hosts.boot("n4")
        again = self.until(scheduler, [moves], lambda status: status.state is JobState.running)[moves]
        assert again.restarts == 1

    def test_an_outage_says_nothing_about_jobs(self, slurm: SlurmTestbed, scheduler: Scheduler, jobs: Recorder) -> None:
        id = jobs.submit(self.job(command=("sleep", "100")))
        self.until(scheduler, [id], lambda status: status.state is JobState.running)
        slurm.await_saved(id)
        slurm.stop_controller()
        try:
            with pytest.raises(SchedulerUnreachable):
                scheduler.status([id])
            with pytest.raises(SchedulerUnreachable):
                scheduler.submit(self.job(command=("true",)))
        finally:
            slurm.start_controller()
        assert scheduler.status([id])[id].state is JobState.running

    def test_what_detect_writes_down(self, slurm: SlurmTestbed) -> None:
        site = detect("testbed", "slurm", ask=on_head(slurm.hosts))
        assert (site.queue, site.limits.walltime) == ("batch", timedelta(hours=1))
        assert site.node == NodeShape(cores=4, numa=4, gpus=4, memory=8000 * 2**20)
        assert site.queues["debug"].nodes == 2


class TestSlurmAccounting:
    """What sacct knows of jobs that squeue has forgotten."""

    @pytest.fixture
    def scheduler(self, accounted_slurm: SlurmTestbed) -> Scheduler:
        return Slurm(on_head(accounted_slurm.hosts))

    def test_how_jobs_ended(
        self, accounted_slurm: SlurmTestbed, scheduler: Scheduler, tmp_path: Path, wait_until: Wait
    ) -> None:
        def submit(*command: str, **fields: Any) -> str:
            return scheduler.submit(Job(name="a", command=command, directory=str(tmp_path), **fields))

        done = submit("true", nodes=2)
        failed, killed = submit("sh", "-c", "exit 3"), submit("sh", "-c", "kill -KILL $$")
        array = submit("sh", "-c", "exit $SLURM_ARRAY_TASK_ID", directives=("--array=0-1",))
        cancelled = submit("sleep", "100")
        wait_until(lambda: scheduler.status([cancelled])[cancelled].state is JobState.running, timeout=30)
        scheduler.cancel([cancelled])
        ids = [done, failed, killed, f"{array}_0", f"{array}_1", cancelled]
        wait_until(lambda: not any(map(accounted_slurm.state, (done, failed, killed, array, cancelled))), timeout=60)
        found = scheduler.status([*ids, array, "4711"])
        assert [(found[id].state, found[id].exit) for id in ids] == [
            (JobState.done, 0), (JobState.failed, 3), (JobState.failed, -9), (JobState.done, 0), (JobState.failed, 1),
            (JobState.cancelled, None),
        ]  # fmt: skip
        assert (found[array].state, found["4711"].state) == (JobState.done, JobState.missing)
        assert len(found[done].hosts) == 2
        assert found[done].started is not None
        assert found[done].ends is not None
        assert accounted_slurm.accounting is not None
        accounted_slurm.accounting.stop()  # of what it cannot be asked for, nothing is said
        outage = scheduler.status([done])[done]
        assert outage.state is JobState.unknown
        assert "Connection refused" in outage.reason


class TestGridEngine(SchedulerContract):
    @pytest.fixture
    def scheduler(self, gridengine: GridEngineTestbed) -> Scheduler:
        return GridEngine(on_head(gridengine.hosts))

    def job(self, **fields: Any) -> Job:
        return super().job(constraint="mpi", **fields)

    def test_a_job_that_cannot_start_is_held(self, scheduler: Scheduler, jobs: Recorder) -> None:
        id = jobs.submit(self.job(command=("true",), stdout="/no/such/folder/out"))
        found = self.until(scheduler, [id], lambda status: status.state is JobState.held)
        assert found[id].reason == "it is in error state"


class TestPbs(SchedulerContract):
    """On a fake, which answers as a real one was seen to."""

    @pytest.fixture
    def scheduler(self, pbs: FakePbs) -> Scheduler:
        return Pbs(on_head(pbs.hosts))

    def test_why_a_job_waits(self, scheduler: Scheduler, jobs: Recorder) -> None:
        id = jobs.submit(self.job(command=("true",), nodes=9))
        found = self.until(scheduler, [id], lambda status: status.reason)
        assert found[id].reason.startswith("Can Never Run: Insufficient amount of resource")
        assert found[id].hint

    def test_an_outage_says_nothing_about_jobs(self, pbs: FakePbs, scheduler: Scheduler, jobs: Recorder) -> None:
        id = jobs.submit(self.job(command=("sleep", "100")))
        self.until(scheduler, [id], lambda status: status.state is JobState.running)
        pbs.stop_server()
        with pytest.raises(SchedulerUnreachable):
            scheduler.status([id])
        pbs.start_server()
        assert scheduler.status([id])[id].state is JobState.running

    def test_a_job_that_its_server_forgot_is_missing(self, pbs: FakePbs, scheduler: Scheduler, jobs: Recorder) -> None:
        id = jobs.submit(self.job(command=("sleep", "100")))
        self.until(scheduler, [id], lambda status: status.state is JobState.running)
        pbs.lose(id)
        assert scheduler.status([id])[id].state is JobState.missing


class TestFlux(SchedulerContract):
    """On a fake, which answers as a real one was seen to."""

    test_facts_of_its_queues = None  # type: ignore[assignment]  # its one queue has no name
    test_what_it_refuses_is_told_in_its_words = None  # type: ignore[assignment]  # it has no queues to refuse

    @pytest.fixture
    def scheduler(self, flux: FakeFlux) -> Scheduler:
        return Flux(on_head(flux.hosts))
