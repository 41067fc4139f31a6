from __future__ import annotations

import math
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import heald
from heald.core.errors import SchedulerUnreachable, SiteError, SubmitFailed
from heald.core.placement import Node, Placement
from heald.run.cluster.allocator import Allocator
from heald.run.cluster.depot import Shared
from heald.run.cluster.ledger import read as read_ledger
from heald.run.cluster.settings import AgentSettings, read
from heald.site.profile import NodeShape, Site
from heald.site.scheduler import MISSING, Job, JobState, JobStatus, Nodes, Queue
from heald.wire.key import Pair

SITE = Site("mine", scheduler="slurm", node=NodeShape(cores=8))


class FakeScheduler:
    """A scheduler that does with jobs what the test says."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.said: dict[str, JobStatus] = {}
        self.asked = 0
        self.cancelled: list[str] = []
        self.refusal: Exception | None = None
        self.outage: Exception | None = None
        self.most = 9

    def submit(self, job: Job) -> str:
        if self.refusal is not None:
            raise self.refusal
        if len(self.jobs) == self.most:
            raise SubmitFailed("QOSMaxSubmitJobPerUserLimit")
        id = str(100 + len(self.jobs))
        self.jobs[id] = job
        self.said[id] = JobStatus(JobState.queued)
        return id

    def status(self, ids: Iterable[str]) -> Mapping[str, JobStatus]:
        self.asked += 1
        if self.outage is not None:
            raise self.outage
        return {id: self.said.get(id, MISSING) for id in ids}

    def cancel(self, ids: Iterable[str]) -> None:
        self.cancelled.extend(ids)

    def nodes(self) -> Sequence[Nodes]:
        return []

    def queues(self) -> Sequence[Queue]:
        return []


class FakeRemote:
    """An agent that has been idle for as long as the test says, and begins tasks until then."""

    def __init__(self, idle: float, until: float = math.inf) -> None:
        self.idle = idle
        self.node = Node("n1", (0,), until=until)

    def idle_for(self, now: float) -> float:
        return self.idle


class FakeOwner:
    """A pool: `turn` does in its thread what was left for it."""

    label = "cluster"

    def __init__(self) -> None:
        self.placement = Placement()
        self.agents: dict[str, list[Any]] = {}
        self.retired: list[str] = []
        self.reason = ""
        self.timers: list[Callable[[], None]] = []
        self._at_once: list[Callable[[], None]] = []
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        (self.timers if seconds else self._at_once).append(act)

    def post(self, act: Callable[[], None]) -> None:
        self._posted.put(act)

    def turn(self) -> None:
        """Do what was left for the next turn, wait for something that was posted, and do it."""
        acts, self._at_once = self._at_once, []
        for act in acts:
            act()
        self._posted.get(timeout=10)()

    def look(self) -> None:
        """Time passes."""
        timers, self.timers = self.timers, []
        for act in timers:
            act()

    def broken(self, reason: str) -> None:
        self.reason = reason

    def remotes(self, allocation: str) -> list[Any]:
        return self.agents.get(allocation, [])

    def retire(self, allocation: str, reason: str) -> None:
        self.retired.append(allocation)


@pytest.fixture
def scheduler() -> FakeScheduler:
    return FakeScheduler()


@pytest.fixture
def owner() -> FakeOwner:
    return FakeOwner()


Make = Callable[..., Allocator]


@pytest.fixture
def make(tmp_path: Path, scheduler: FakeScheduler, owner: FakeOwner) -> Iterator[Make]:
    made: list[Allocator] = []

    def build(**options: Any) -> Allocator:
        given = AgentSettings(
            "", ("tcp://10.0.0.1:5",), "head", Pair("p" * 40, "s" * 40), "/run.heald", "/home", (), SITE
        )
        executor = heald.ClusterExecutor(SITE, **options)
        depot = Shared(executor, tmp_path, Path("/run.heald"))
        made.append(Allocator(executor, given, tmp_path, owner, scheduler, depot))  # type: ignore[arg-type]
        made[-1].start()
        return made[-1]

    yield build
    for allocator in made:
        allocator.close()


def test_the_first_block_is_asked_for_at_once(make: Make, owner: FakeOwner, scheduler: FakeScheduler) -> None:
    allocator = make(nodes=2, walltime="1h")
    owner.turn()
    (job,) = scheduler.jobs.values()
    assert (job.nodes, job.walltime.total_seconds(), job.name) == (2, 3600, "heald-run-a1")
    assert allocator.blocks["a1"].allocation.job == "100"
    given = read(Path(job.command[3]))
    assert (given.allocation, given.endpoints) == ("a1", ("tcp://10.0.0.1:5",))


def test_more_come_as_more_is_wanted(make: Make, owner: FakeOwner, scheduler: FakeScheduler) -> None:
    allocator = make(blocks=(0, 0, 3))
    assert not allocator.blocks
    for task in range(20):
        owner.placement.push(task, heald.Resources())
    allocator.consider()
    assert len(allocator.blocks) == 3
    owner.look()
    assert len(allocator.blocks) == 3


def test_idle_ones_are_given_back_when_their_agents_are_gone(
    make: Make, owner: FakeOwner, scheduler: FakeScheduler
) -> None:
    allocator = make(blocks=(2, 1, 2), idle=60)
    owner.turn()
    owner.turn()
    for name in ("a1", "a2"):
        allocator.met(name)
        owner.agents[name] = [FakeRemote(61)]
    owner.look()
    assert owner.retired == ["a2"]
    assert not scheduler.cancelled
    owner.agents["a2"] = []
    allocator.lost("a2", "the run is over")
    scheduler.said["101"] = JobStatus(JobState.cancelled)
    owner.turn()
    assert scheduler.cancelled == ["101"]
    assert list(allocator.blocks) == ["a1"]


def test_one_whose_time_ends_makes_way_for_the_next(make: Make, owner: FakeOwner) -> None:
    allocator = make()
    owner.turn()
    allocator.met("a1")
    owner.agents["a1"] = [FakeRemote(0, until=0.0), FakeRemote(0)]
    owner.placement.push(1, heald.Resources())
    owner.look()
    assert not owner.retired
    owner.agents["a1"] = [FakeRemote(0, until=0.0)]
    owner.look()
    owner.look()
    assert owner.retired == ["a1"]
    assert list(allocator.blocks) == ["a1", "a2"]


def test_busy_ones_are_not(make: Make, owner: FakeOwner) -> None:
    allocator = make(blocks=(1, 0, 1), idle=60)
    owner.turn()
    allocator.met("a1")
    owner.agents["a1"] = [FakeRemote(61), FakeRemote(0)]
    owner.look()
    owner.agents["a1"] = [FakeRemote(61)]
    owner.placement.push(1, heald.Resources())
    owner.look()
    assert not owner.retired


def test_a_refusal_reaches_the_user_in_the_schedulers_words(
    make: Make, owner: FakeOwner, scheduler: FakeScheduler
) -> None:
    scheduler.refusal = SubmitFailed("sbatch: error: Invalid account")
    make()
    owner.turn()
    assert "Invalid account" in owner.reason


def test_a_limit_on_a_users_jobs_is_taken_for_what_it_is(
    make: Make, owner: FakeOwner, scheduler: FakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.most = 2
    allocator = make(blocks=4)
    for _ in range(4):
        owner.turn()
    assert list(allocator.blocks) == ["a1", "a2"]
    assert "gives no more than 2 blocks: QOSMaxSubmitJobPerUserLimit" in caplog.text
    assert not owner.reason
    owner.placement.push(1, heald.Resources(cpus=99))
    owner.look()
    assert len(scheduler.jobs) == 2


def test_an_outage_is_waited_for(make: Make, owner: FakeOwner, scheduler: FakeScheduler) -> None:
    scheduler.refusal = SchedulerUnreachable("slurmctld does not answer")
    allocator = make()
    owner.turn()
    assert not owner.reason
    scheduler.refusal = None
    owner.look()
    owner.turn()
    assert allocator.blocks["a1"].allocation.job == "100"


def test_a_scheduler_that_does_not_answer_is_complained_of_once(
    make: Make,
    owner: FakeOwner,
    scheduler: FakeScheduler,
    caplog: pytest.LogCaptureFixture,
    wait_until: Callable[..., None],
) -> None:
    allocator = make()
    owner.turn()
    for outages in (1, 2):
        scheduler.outage = SchedulerUnreachable("nobody answers")
        for _ in range(3):
            owner.look()
            wait_until(lambda: not allocator._asked)
        assert caplog.text.count("nobody answers") == outages
        scheduler.outage = None
        owner.look()
        owner.turn()
    assert list(allocator.blocks) == ["a1"]


def test_two_blocks_that_end_before_an_agent_comes_are_enough(
    make: Make, owner: FakeOwner, scheduler: FakeScheduler, tmp_path: Path
) -> None:
    allocator = make()
    owner.placement.push(1, heald.Resources())
    for number in range(2):
        assert not owner.reason
        owner.look()
        owner.turn()
        (name,) = allocator.blocks
        (tmp_path / f"{name}.out").write_text("no module named heald\n")
        scheduler.said[str(100 + number)] = JobStatus(JobState.failed, "NonZeroExitCode", exit=1)
        owner.look()
        owner.turn()  # what the scheduler says
        owner.turn()  # and what the job has printed
    assert "ended (failed) before an agent of it came; NonZeroExitCode" in owner.reason
    assert "no module named heald" in owner.reason


@pytest.mark.parametrize("state", [JobState.missing, JobState.unknown, JobState.queued])
def test_what_is_no_end_ends_nothing(make: Make, owner: FakeOwner, scheduler: FakeScheduler, state: JobState) -> None:
    allocator = make()
    owner.turn()
    scheduler.said["100"] = JobStatus(state)
    allocator.lost("a1", "")
    owner.turn()
    assert list(allocator.blocks) == ["a1"]


def test_agents_are_believed_before_the_scheduler(make: Make, owner: FakeOwner, scheduler: FakeScheduler) -> None:
    allocator = make()
    owner.turn()
    allocator.met("a1")
    owner.agents["a1"] = [FakeRemote(0)]
    scheduler.said["100"] = JobStatus(JobState.node_failed)
    allocator.lost("a1", "one of two")
    owner.turn()
    assert list(allocator.blocks) == ["a1"]


def test_one_question_is_for_all_that_are_lost_together(make: Make, owner: FakeOwner, scheduler: FakeScheduler) -> None:
    allocator = make(nodes=3)
    owner.turn()
    allocator.met("a1")
    for _ in range(3):
        allocator.lost("a1", "the allocation is over")
    scheduler.said["100"] = JobStatus(JobState.timeout, "TimeLimit")
    owner.turn()
    assert not allocator.blocks
    assert scheduler.asked == 1


def test_blocks_of_a_head_that_was_killed_are_taken_over(
    make: Make, owner: FakeOwner, scheduler: FakeScheduler, tmp_path: Path
) -> None:
    first = make()
    owner.turn()
    kept = (tmp_path / "allocations.json").read_bytes()
    first.close()
    (tmp_path / "allocations.json").write_bytes(kept)
    second = make()
    assert {name: block.allocation.job for name, block in second.blocks.items()} == {"a1": "100"}
    assert len(scheduler.jobs) == 1


def test_one_that_the_scheduler_had_not_answered_for_may_still_come(
    make: Make, owner: FakeOwner, scheduler: FakeScheduler, tmp_path: Path
) -> None:
    make(blocks=(0, 0, 1)).acquire(1)
    kept = (tmp_path / "allocations.json").read_bytes()
    owner.turn()
    (tmp_path / "allocations.json").write_bytes(kept)
    second = make(blocks=(0, 0, 1))
    assert [(one.id, one.state.name) for one in second.allocations] == [("a1", "failed")]
    second.met("a1")
    assert [(one.id, one.state.name) for one in second.allocations] == [("a1", "running")]


def test_what_became_of_each_is_known_to_the_end(
    make: Make, owner: FakeOwner, scheduler: FakeScheduler, tmp_path: Path
) -> None:
    allocator = make(blocks=(2, 0, 2))
    owner.turn()
    owner.turn()
    allocator.met("a1")
    scheduler.said["100"] = JobStatus(JobState.timeout, "TimeLimit")
    allocator.lost("a1", "the allocation is over")
    owner.turn()
    allocator.close()
    assert [(one.id, one.state.name, one.reason) for one in read_ledger(tmp_path)] == [
        ("a1", "ended", "TimeLimit"),
        ("a2", "cancelled", "the run was over"),
    ]


def test_why_a_job_waits_is_said_once_when_somebody_may_do_something(
    make: Make, owner: FakeOwner, scheduler: FakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    make()
    owner.turn()
    for reason, hint in (("Priority", ""), ("PartitionConfig", "ask for fewer"), ("PartitionConfig", "ask for fewer")):
        scheduler.said["100"] = JobStatus(JobState.queued, reason, hint)
        owner.look()
        owner.turn()
    assert caplog.messages == ["job 100 of mine waits: PartitionConfig; ask for fewer"]


def test_people_ask_for_more(make: Make, owner: FakeOwner, scheduler: FakeScheduler) -> None:
    allocator = make(blocks=(0, 0, 1))
    assert [block.allocation.id for block in allocator.acquire(2)] == ["a1", "a2"]
    owner.placement.push(1, heald.Resources(cpus=99))
    owner.look()
    assert list(allocator.blocks) == ["a1", "a2", "a3"]


def test_people_give_one_back(make: Make, owner: FakeOwner, scheduler: FakeScheduler) -> None:
    allocator = make(blocks=2)
    owner.turn()
    owner.turn()
    owner.agents["a1"] = [FakeRemote(0)]
    allocator.met("a1")
    owner.placement.push(1, heald.Resources(cpus=99))
    allocator.give_up("a1")
    owner.look()
    assert owner.retired == ["a1"]
    assert not scheduler.cancelled  # what runs there runs on
    assert list(allocator.blocks) == ["a1", "a2"]  # and no other is asked for in its place


def test_one_given_back_before_the_scheduler_has_answered(
    make: Make, owner: FakeOwner, scheduler: FakeScheduler
) -> None:
    allocator = make()
    allocator.give_up("a1")
    owner.turn()
    allocator.close()
    assert "100" in scheduler.cancelled


def test_nobody_gets_more_when_there_are_none(make: Make, owner: FakeOwner, scheduler: FakeScheduler) -> None:
    scheduler.refusal = SubmitFailed("sbatch: error: Invalid account")
    allocator = make()
    owner.turn()
    with pytest.raises(SiteError, match="Invalid account"):
        allocator.acquire(1)


def test_a_job_that_is_forgotten_is_over_after_a_while(
    make: Make, owner: FakeOwner, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocator = make()
    owner.turn()
    allocator.met("a1")
    for wait in (60.0, -1.0):
        monkeypatch.setattr("heald.run.cluster.allocator._FORGOTTEN", wait)
        scheduler.said["100"] = MISSING
        allocator.lost("a1", "")
        assert list(allocator.blocks) == ["a1"]
        owner.turn()
    assert not allocator.blocks


def test_everything_is_given_back_at_the_end(make: Make, owner: FakeOwner, scheduler: FakeScheduler) -> None:
    allocator = make(blocks=2)
    owner.turn()
    owner.turn()
    allocator.close()
    assert sorted(scheduler.cancelled) == ["100", "101"]


def test_an_agent_that_cannot_be_used_ends_its_block(make: Make, owner: FakeOwner) -> None:
    allocator = make()
    owner.turn()
    allocator.refused("a1", "Python 3.8 on n1 and 3.11 here")
    assert "Python 3.8" in owner.reason
    assert owner.retired == ["a1"]
