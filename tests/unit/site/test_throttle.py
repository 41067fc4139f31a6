from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

import pytest

from heald.core.errors import SchedulerUnreachable
from heald.site.scheduler import MISSING, Job, JobState, JobStatus, Nodes, Queue
from heald.site.throttle import Throttle

JOB = Job(name="a", command=("x",))


class Fake:
    """A scheduler: `jobs` is what it knows, `asked` what it was asked, `down` whether it is."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobStatus] = {}
        self.asked: list[list[str]] = []
        self.down = False

    def submit(self, job: Job) -> str:
        self._reach()
        id = str(len(self.jobs) + 1)
        self.jobs[id] = JobStatus(JobState.running)
        return id

    def status(self, ids: Iterable[str]) -> Mapping[str, JobStatus]:
        self._reach()
        self.asked.append(list(ids))
        return {id: self.jobs.get(id, MISSING) for id in ids}

    def cancel(self, ids: Iterable[str]) -> None:
        self._reach()
        self.jobs.update((id, JobStatus(JobState.cancelled)) for id in ids)

    def nodes(self) -> Sequence[Nodes]:
        self._reach()
        return []

    def queues(self) -> Sequence[Queue]:
        self._reach()
        return []

    def _reach(self) -> None:
        if self.down:
            raise SchedulerUnreachable("x: no answer")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(fake: Fake, clock: Clock) -> Throttle:
    return Throttle(fake, 10, clock)


def test_many_questions_are_one(throttle: Throttle, fake: Fake, clock: Clock) -> None:
    for ids in (["1"], ["1"], ["1"]):
        assert throttle.status(ids) == {"1": MISSING}
    assert fake.asked == [["1"]]
    clock.now += 10
    throttle.status(["1", "2"])
    assert fake.asked == [["1"], ["1", "2"]]


def test_who_asks_meanwhile_is_asked_for_too(throttle: Throttle, fake: Fake, clock: Clock) -> None:
    throttle.status(["1", "2"])
    throttle.status(["1"])
    clock.now += 10
    throttle.status(["2"])
    assert fake.asked[-1] == ["1", "2"]


def test_a_job_that_was_just_submitted_is_queued(throttle: Throttle, fake: Fake, clock: Clock) -> None:
    throttle.status(["9"])
    ids = [throttle.submit(JOB) for _ in range(3)]
    assert {status.state for status in throttle.status(ids).values()} == {JobState.queued}
    assert len(fake.asked) == 1
    clock.now += 10
    assert {status.state for status in throttle.status(ids).values()} == {JobState.running}
    assert len(fake.asked) == 2


def test_after_a_cancel_it_looks_at_once(throttle: Throttle, fake: Fake) -> None:
    id = throttle.submit(JOB)
    assert throttle.status([id])[id].state is JobState.running
    throttle.cancel([id])
    assert throttle.status([id])[id].state is JobState.cancelled


def test_an_outage_is_left_in_peace_longer_and_longer(throttle: Throttle, fake: Fake, clock: Clock) -> None:
    fake.down = True
    tries: list[float] = []
    start = clock.now
    while clock.now < start + 1000:
        with pytest.raises(SchedulerUnreachable, match="x: no answer") as caught:
            throttle.status(["1"])
        if not caught.value.hint:
            tries.append(clock.now - start)
        clock.now += 1
    assert tries == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811]


def test_when_it_is_back_all_is_forgotten(throttle: Throttle, fake: Fake, clock: Clock) -> None:
    fake.down = True
    for _ in range(5):
        with pytest.raises(SchedulerUnreachable):
            throttle.submit(JOB)
        clock.now += 100
    fake.down = False
    assert throttle.status(["1"]) == {"1": MISSING}
    fake.down = True
    with pytest.raises(SchedulerUnreachable):
        throttle.nodes()
    clock.now += 1
    fake.down = False
    assert (throttle.nodes(), throttle.queues()) == ([], [])


def test_what_it_said_of_jobs_stays_as_it_was_in_an_outage(throttle: Throttle, fake: Fake) -> None:
    throttle.status(["1"])
    fake.down = True
    assert throttle.status(["1"]) == {"1": MISSING}


def test_one_at_a_time(fake: Fake) -> None:
    throttle = Throttle(fake, 3600)
    ready = threading.Barrier(8)

    def ask() -> None:
        ready.wait()
        throttle.status(["1"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fake.asked) == 1
