"""The head's end, in a real session: the scheduler is a fake, and the agents are played by the test."""

from __future__ import annotations

import math
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from select import select
from typing import Any, TypeVar

import msgspec
import pytest

import heald
from heald.core.event import Failure, Usage
from heald.core.retry import CANCELLED, USER, WALLTIME, WORKER_LOST
from heald.core.task import Payload
from heald.core.version import __version__
from heald.run.cluster import dialogue, settings
from heald.run.cluster import pool as cluster_pool
from heald.run.cluster.dialogue import (
    ENDED,
    OVER,
    Began,
    Broken,
    Ended,
    Full,
    Gone,
    Held,
    Hello,
    Open,
    Orders,
    Retire,
    Returned,
    Stands,
    Stop,
    TakeBack,
    ToAgent,
    ToHead,
)
from heald.run.protocol import Define, Order
from heald.site.profile import Site
from heald.site.scheduler import Job, JobState, JobStatus
from heald.wire.link import Link, Refused

T = TypeVar("T")

_PATIENCE = 20.0
_TURN = 0.02


class FakeScheduler:
    """Takes every job, and runs none."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.cancelled: list[str] = []
        self.asked = threading.Event()

    def submit(self, job: Job) -> str:
        self.jobs.append(job)
        self.asked.set()
        return str(99 + len(self.jobs))

    def status(self, ids: Iterable[str]) -> Mapping[str, JobStatus]:
        return {id: JobStatus(JobState.running) for id in ids}

    def cancel(self, ids: Iterable[str]) -> None:
        self.cancelled.extend(ids)


class Agent:
    """What the head told it, in order."""

    def __init__(self, folder: Path, left: float = math.inf, *, stands: bool = True, **hello: Any) -> None:
        self.told: list[ToAgent] = []
        given = settings.read(folder / "run.heald/agents/cluster/a1.json")
        version = sys.version.split()[0]
        usual = Hello("a1", "n1", 7, 6, version, __version__, "", (0,), (), 0, clock=time.time())
        self.said = msgspec.structs.replace(usual, **hello)
        self.link = Link(given.head, given.pair, f"{self.said.host}.{self.said.pid}".encode(), self)
        try:
            self.link.connect(given.endpoints)
        except Refused:
            self.link.close()
            raise
        if stands:
            self.tell(Stands([], [], left))

    def hello(self) -> bytes:
        return dialogue.encode(self.said)

    def welcomed(self, greeting: bytes) -> None:
        pass

    def heard(self, body: Any) -> None:
        self.told.extend(dialogue.to_agent(body))

    def tell(self, *messages: ToHead) -> None:
        self.link.send(dialogue.encode(list(messages)))
        self.link.serve()

    def until(self, met: Callable[[], T]) -> T:
        deadline = time.monotonic() + _PATIENCE
        while not (found := met()):
            assert time.monotonic() < deadline, self.told
            select([self.link], [], [], _TURN)
            self.link.serve()
            self.link.beat()
            self.link.serve()
        return found

    def next(self, kind: type[T]) -> T:
        """The next of that kind, which is taken out."""
        found = self.until(lambda: [one for one in self.told if isinstance(one, kind)])[0]
        self.told.remove(found)  # type: ignore[arg-type]
        return found

    def order(self) -> tuple[int, Order]:
        """The next order, of a lane that has no other, and the lane."""
        orders = self.next(Orders)
        (order,) = orders.orders
        return orders.lane, order

    def end(self, lane: int, order: Order, value: object) -> None:
        """Say that it is over, with a value or a Failure."""
        outcome = value if isinstance(value, Failure) else Payload(pickle.dumps(value))
        self.tell(Ended(lane, order.task, order.attempt, outcome, Usage()))

    def refused(self) -> str:
        """Why it is not wanted any more."""
        with pytest.raises(Refused) as raised:
            self.until(lambda: False)
        return str(raised.value)

    def leave(self, reason: str) -> None:
        self.link.leave(reason)
        self.link.close()


def whose(agents: list[Agent]) -> Agent:
    """The one that has orders."""

    def found() -> list[Agent]:
        for agent in agents:
            agent.link.serve()
        return [agent for agent in agents if any(isinstance(one, Orders) for one in agent.told)]

    return agents[0].until(found)[0]


Enter = Callable[..., Agent]


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> FakeScheduler:
    made = FakeScheduler()
    monkeypatch.setattr("heald.run.cluster.pool.connect", lambda site, ask: made)
    return made


@pytest.fixture
def start(tmp_path: Path, scheduler: FakeScheduler) -> Iterator[Callable[..., heald.Session]]:
    """Opens a session on nodes of a site, with options of the executor; a block is asked for at once."""
    opened: list[heald.Session] = []

    def begin(**options: Any) -> heald.Session:
        site = Site("mine", scheduler="slurm")
        executor = heald.ClusterExecutor(site, interface="127.0.0.1", silence=60, grace=0, **options)
        session = heald.Session([executor], journal=tmp_path / "run.heald", memo=None, progress=False).start()
        opened.append(session)
        assert scheduler.asked.wait(_PATIENCE)
        return session

    yield begin
    for session in opened:
        session.close(cancel=True)


@pytest.fixture
def session(start: Callable[..., heald.Session]) -> heald.Session:
    return start()


@pytest.fixture
def enter(tmp_path: Path) -> Iterator[Enter]:
    """Has an agent come, with fields of its Hello."""
    came: list[Agent] = []

    def come(**hello: Any) -> Agent:
        came.append(Agent(tmp_path, **hello))
        return came[-1]

    yield come
    for agent in came:
        agent.leave("the test is over")


class TestWork:
    def test_goes_to_an_agent_and_its_value_comes_back(self, session: heald.Session, enter: Enter) -> None:
        agent = enter()
        future = session.submit(pow, 2, 10)
        opened, held, defined = agent.next(Open), agent.next(Held), agent.next(Define)
        lane, order = agent.order()
        assert (opened.lane, opened.name, held.lane) == (lane, f"a1.n1-{lane}", lane)
        assert (held.lease.shares[0].cpus, held.hosts) == ((0,), ("n1",))
        assert (defined.digest, defined.work.name) == (order.work, "pow")
        agent.tell(Began(lane, order.task, 1, time.time(), 4711))
        agent.until(future.running)
        agent.end(lane, order, 1024)
        agent.until(future.done)
        assert future.result() == 1024

    def test_the_next_one_needs_no_lane_and_no_definition(self, session: heald.Session, enter: Enter) -> None:
        agent = enter()
        futures = [session.submit(pow, 2, number) for number in range(2)]
        for number, future in enumerate(futures):
            agent.end(*agent.order(), 2**number)
            agent.until(future.done)
        assert [type(one) for one in agent.told if not isinstance(one, TakeBack)] == [Open, Held, Define]

    def test_is_not_begun_where_there_is_no_time_for_it(
        self, start: Callable[..., heald.Session], enter: Enter
    ) -> None:
        session = start(walltime="1h", notice="10m")
        late, early = enter(left=590.0), enter(host="n2", pid=8, left=700.0)
        future = session.submit(heald.task(walltime="1m")(pow), 2, 10)
        early.end(*early.order(), 1024)
        early.until(future.done)
        assert not late.told

    def test_is_not_begun_when_the_node_may_be_told_of_its_end_already(
        self, start: Callable[..., heald.Session], enter: Enter
    ) -> None:
        session = start(walltime="1h", notice="10m")
        late, early = enter(stands=False), enter(host="n2", pid=8)
        came = time.monotonic()
        late.until(lambda: time.monotonic() > came + 0.5)
        late.tell(Stands([], [], 600.5))  # half a second passed since it came, and perhaps on the way
        future = session.submit(pow, 2, 10)
        early.end(*early.order(), 1024)
        early.until(future.done)
        assert not late.told

    def test_that_takes_too_long_is_stopped(self, session: heald.Session, enter: Enter) -> None:
        agent = enter()
        future = session.submit(heald.task(walltime=0.1)(pow), 2, 10)
        lane, order = agent.order()
        stop = agent.next(Stop)
        assert (stop.lane, stop.task, stop.attempt, stop.verdict.kind) == (lane, order.task, 1, WALLTIME)
        agent.end(lane, order, stop.verdict)
        agent.until(future.done)
        assert isinstance(future.exception(), heald.WalltimeExceeded)

    def test_that_nobody_wants_is_stopped(self, session: heald.Session, enter: Enter) -> None:
        agent = enter()
        future = session.submit(pow, 2, 10)
        lane, order = agent.order()
        future.cancel()
        assert agent.next(Stop).verdict.kind == CANCELLED
        agent.end(lane, order, Failure(CANCELLED, "cancelled"))
        assert future.cancelled()

    def test_that_a_lane_gives_back_goes_to_another(self, session: heald.Session, enter: Enter) -> None:
        """Two are sent ahead, since the first two were short; the third turns out to be long."""
        first = enter()
        for _ in range(2):
            future = session.submit(pow, 2, 1)
            first.end(*first.order(), 2)
            first.until(future.done)
        for number in range(2):
            session.submit(pow, 2, number)
        first.until(lambda: sum(len(one.orders) for one in first.told if isinstance(one, Orders)) == 2)
        orders = [order for one in first.told if isinstance(one, Orders) for order in one.orders]
        lane = first.next(Orders).lane
        first.tell(Began(lane, orders[0].task, 1, time.time(), 4711))
        second = enter(host="n2", pid=8)
        assert first.next(TakeBack).lane == lane
        first.tell(Returned(lane, [(orders[1].task, 1)]))
        assert second.order()[1].task == orders[1].task

    def test_on_several_nodes_ends_with_any_of_them(self, start: Callable[..., heald.Session], enter: Enter) -> None:
        session = start(nodes=2)
        agents = [enter(), enter(host="n2", pid=8)]
        future = session.submit(heald.command(lambda: "mpi", nodes=2))
        first = whose(agents)
        (second,) = [one for one in agents if one is not first]
        assert sorted(first.next(Held).hosts) == ["n1", "n2"]
        lane, order = first.order()
        second.leave("its power failed")
        stop = first.next(Stop)
        assert (stop.verdict.kind, "its power failed" in stop.verdict.message) == (WORKER_LOST, True)
        first.end(lane, order, Failure(USER, "a rank is gone"))
        agents = [first, enter(host="n3", pid=9)]
        first = whose(agents)
        lane, again = first.order()
        assert (again.task, again.attempt) == (order.task, 2)
        future.cancel()
        first.end(lane, again, Failure(CANCELLED, "cancelled"))


class TestLoss:
    def test_of_an_agent_costs_its_tasks_nothing(self, session: heald.Session, enter: Enter) -> None:
        first = enter()
        future = session.submit(pow, 2, 10)
        _, order = first.order()
        first.leave("its power failed")
        second = enter(host="n2", pid=8)
        lane, again = second.order()
        assert (again.task, again.attempt) == (order.task, 2)
        second.end(lane, again, 1024)
        second.until(future.done)

    @pytest.mark.parametrize("other", [False, True])
    def test_of_one_that_had_not_told_yet_what_it_has(self, session: heald.Session, enter: Enter, other: bool) -> None:
        first = enter(stands=False)
        if not other:
            first.leave("its power failed")
        agent = enter(pid=8)  # the next of the same warden, when there is another
        future = session.submit(pow, 2, 10)
        agent.end(*agent.order(), 1024)
        agent.until(future.done)

    @pytest.mark.parametrize(
        ("reason", "hint"),
        [("its power failed", "more memory"), (OVER, "longer than a block lasts"), (ENDED, "was its job preempted")],
    )
    def test_of_three_under_one_task_is_its_fault(
        self, session: heald.Session, enter: Enter, reason: str, hint: str
    ) -> None:
        future = session.submit(pow, 2, 10)
        for pid in range(3):
            agent = enter(pid=pid, place=pid)
            agent.order()
            agent.leave(reason)
        error = future.exception(timeout=_PATIENCE)
        assert isinstance(error, heald.WorkerLost)
        assert reason in error.message
        assert hint in error.hint

    def test_at_the_end_of_an_allocation_is_expected_by_who_was_told(
        self, session: heald.Session, enter: Enter
    ) -> None:
        future = session.submit(heald.task(notice="1m")(pow), 2, 10)
        for pid in range(4):
            agent = enter(pid=pid, place=pid)
            agent.order()
            agent.leave(OVER)
        agent = enter(pid=9, place=9)
        agent.end(*agent.order(), 1024)
        agent.until(future.done)

    def test_of_a_worker_is_charged_to_what_it_ran(self, session: heald.Session, enter: Enter) -> None:
        agent = enter()
        session.submit(pow, 2, 10)
        lane, order = agent.order()
        agent.tell(Gone(lane, order.task, 1, Failure(WORKER_LOST, "its worker was killed by SIGKILL (signal 9)")))
        other, again = agent.order()
        assert (again.task, again.attempt) == (order.task, 2)
        assert other != lane

    def test_is_noticed_when_another_takes_its_place(self, session: heald.Session, enter: Enter) -> None:
        first = enter()
        session.submit(pow, 2, 10)
        _, order = first.order()
        second = enter(pid=8)
        assert second.order()[1].task == order.task
        assert "another took its place" in first.refused()

    def test_of_room_on_a_disk_is_not_the_fault_of_a_task(
        self, session: heald.Session, enter: Enter, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = enter()
        future = session.submit(pow, 2, 10)
        lane, order = first.order()
        first.tell(Full("the disk of /tmp is full"))
        first.end(lane, order, Failure(USER, "OSError: no space left on device"))
        assert first.next(Retire).reason == "the disk of /tmp is full"
        second = enter(host="n2", pid=8)
        lane, again = second.order()
        assert (again.task, again.attempt) == (order.task, 2)
        second.end(lane, again, 1024)
        second.until(future.done)
        assert "a1.n1: the disk of /tmp is full; nothing more is begun there" in caplog.text

    def test_of_room_on_three_is(self, session: heald.Session, enter: Enter) -> None:
        future = session.submit(pow, 2, 10)
        for pid in range(3):
            agent = enter(pid=pid, place=pid)
            lane, order = agent.order()
            agent.tell(Full("the disk of /tmp is full"))
            agent.end(lane, order, Failure(USER, "OSError: no space left on device"))
        error = future.exception(timeout=_PATIENCE)
        assert "no space left" in str(error)

    def test_of_room_on_one_node_after_the_other_ends_the_run(self, session: heald.Session, enter: Enter) -> None:
        *_, last = [session.submit(pow, 2, number) for number in range(9)]
        for pid in range(8):
            agent = enter(pid=pid, place=pid)
            agent.tell(Full("the disk of /scratch is full"))
            agent.leave("it has nothing to do")
        assert "gives no nodes: the disk of /scratch is full" in str(last.exception(timeout=_PATIENCE))

    def test_of_room_on_the_disk_of_all_is_told_to_each_task(
        self, session: heald.Session, enter: Enter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cluster_pool, "full", lambda folders: "the disk of all is full")
        agent = enter()
        future = session.submit(pow, 2, 10)
        lane, order = agent.order()
        agent.tell(Full("the disk of all is full"))
        agent.end(lane, order, Failure(USER, "OSError: no space left on device"))
        agent.until(future.done)
        assert "no space left" in str(future.exception())
        session.submit(pow, 2, 11)
        agent.order()

    def test_of_all_that_it_has_where_nothing_can_run(self, session: heald.Session, enter: Enter) -> None:
        agent = enter()
        agent.link.send(dialogue.encode([Broken("workers cannot be started")]))
        assert agent.refused() == "workers cannot be started"


class TestRefusals:
    @pytest.mark.parametrize(
        ("hello", "said"),
        [
            ({"python": "3.8.1"}, "set `python` of the site"),
            ({"heald": "0.0.1"}, f"heald 0.0.1 on n1 and {__version__} here"),
        ],
    )
    def test_what_cannot_run_our_functions_is_not_used(
        self, session: heald.Session, enter: Enter, hello: dict[str, str], said: str
    ) -> None:
        future = session.submit(pow, 2, 10)
        with pytest.raises(Refused, match=said):
            enter(**hello)
        assert said in str(future.exception(timeout=_PATIENCE))

    def test_what_is_not_understood(
        self, session: heald.Session, enter: Enter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Agent, "hello", lambda self: b"\xc1")
        with pytest.raises(Refused, match="its hello is not understood"):
            enter()


class TestEnd:
    def test_a_block_that_is_given_back_ends_when_its_work_has(
        self, session: heald.Session, enter: Enter, tmp_path: Path, scheduler: FakeScheduler
    ) -> None:
        agent, run = enter(), heald.Run(tmp_path / "run.heald")
        future = session.submit(pow, 2, 10)
        lane, order = agent.order()
        assert run.release("a1").draining
        assert agent.next(TakeBack).lane == lane
        agent.tell(Returned(lane, []))
        agent.end(lane, order, 1024)
        assert agent.next(Retire).reason == "somebody gave it back"
        agent.until(future.done)
        assert not scheduler.cancelled
        agent.leave("somebody gave it back")
        agent.link = enter(host="n9", pid=9).link
        agent.until(lambda: scheduler.cancelled == ["100"])

    def test_a_block_is_given_back_whose_agent_has_not_told_yet_what_it_has(
        self, session: heald.Session, enter: Enter, tmp_path: Path
    ) -> None:
        agent = enter(stands=False)
        heald.Run(tmp_path / "run.heald").release("a1")
        assert not agent.told
        agent.tell(Stands([], []))
        assert agent.next(Retire).reason == "somebody gave it back"
        agent.leave("somebody gave it back")
        future, other = session.submit(pow, 2, 10), enter(host="n9", pid=9)
        other.end(*other.order(), 1024)
        other.until(future.done)

    def test_all_agents_are_told_when_the_run_is_over(
        self, session: heald.Session, enter: Enter, scheduler: FakeScheduler
    ) -> None:
        agent = enter()
        closing = threading.Thread(target=session.close)
        closing.start()
        with pytest.raises(Refused, match="the run is over"):
            agent.until(lambda: False)
        closing.join()
        assert scheduler.cancelled == ["100"]
