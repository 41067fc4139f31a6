from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.event import Usage
from heald.core.placement import Lease, Node
from heald.core.resources import Resources
from heald.core.task import Payload
from heald.run.dispatch import Dispatch
from heald.run.protocol import Order

SHORT, LONG, UNKNOWN = b"short", b"long", b"unknown"
ONE = Resources()


class FakeLane:
    """A worker that starts orders when the test says so: the first `started` of `fifo` are no longer to be had."""

    deep = True
    asked = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.lease: Lease | None = None
        self.fifo: deque[Order] = deque()
        self.long = False
        self.stopping = False
        self.ahead = 0.0
        self.started = 0
        self.far = False  # it says later what it gave back
        self.batches: list[list[int]] = []
        self.holds: list[Lease] = []

    def send(self, orders: list[Order]) -> None:
        self.fifo.extend(orders)
        self.batches.append([order.task for order in orders])

    def take_back(self, keep: int = 0) -> list[Order]:
        if self.far:
            self.asked = True
            return []
        unstarted = len(self.fifo) - self.started
        return [self.fifo.pop() for _ in range(max(0, unstarted - keep))][::-1]


class FakeHost:
    """An engine that knows of each task which work it is, and runs a dispatch of its own."""

    def __init__(self, cpus: int = 2, gpus: int = 0, deep: bool = True) -> None:
        self.works: dict[int, tuple[bytes, Resources]] = {}
        self.attempts: dict[int, int] = {}
        self.gone: set[int] = set()
        self.limits: list[tuple[int, float]] = []
        self.timers: list[Callable[[], None]] = []
        self.opened: list[FakeLane] = []
        self.numbers = itertools.count(1)
        self.deep = deep
        node = Node("here", tuple(range(cpus)), tuple(map(str, range(gpus))), 10**9)
        self.dispatch = Dispatch("process", [node], self, self._hold, lambda lease: self._open())

    def _hold(self, lane: Any, lease: Lease) -> None:
        lane.holds.append(lease)

    def _open(self) -> FakeLane:
        lane = FakeLane(f"worker-{next(self.numbers)}")
        lane.deep = self.deep
        self.opened.append(lane)
        return lane

    def order(self, task: int, lane: str, label: str) -> Order | None:
        if task in self.gone:
            return None
        self.attempts[task] = self.attempts.get(task, 0) + 1
        return Order(task, self.attempts[task], self.works[task][0], Payload(b""))

    def returned(self, orders: Iterable[Order]) -> None:
        for order in orders:
            self.dispatch.push(order.task, self.works[order.task][1], 0, 0)

    def limit(self, label: str, order: Order, walltime: float) -> None:
        self.limits.append((order.task, walltime))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.timers.append(act)

    # -- what a test does --------------------------------------------------------------------------------------------

    def push(self, *tasks: int, work: bytes = SHORT, needs: Resources = ONE, priority: int = 0) -> None:
        for task in tasks:
            self.works[task] = work, needs
            self.dispatch.push(task, needs, priority, 0)

    def pump(self) -> None:
        self.dispatch.pump(0.0)

    def end(self, lane: FakeLane, seconds: float = 0.0) -> int:
        """The order at the head is over."""
        order = lane.fifo.popleft()
        lane.started = max(0, lane.started - 1)
        lane.long = False
        self.dispatch.ended(lane, order, Usage(seconds=seconds), 0.0)
        return order.task

    def answer(self, lane: FakeLane) -> None:
        """A lane that is far away gives half of its orders back."""
        lane.asked = False
        self.dispatch.gave_back(lane, [lane.fifo.pop() for _ in range(len(lane.fifo) // 2)][::-1])

    def learn(self, work: bytes, seconds: float) -> None:
        """One task of the work has run, so that it is known how long they take."""
        task = -len(self.works) - 1
        self.push(task, work=work)
        self.pump()
        self.end(self.lane_of(task), seconds)

    def lane_of(self, task: int) -> FakeLane:
        found = self.dispatch.find(task)
        assert found is not None
        return found[0]  # type: ignore[no-any-return]

    def where(self) -> list[list[int]]:
        """The tasks on each lane."""
        return [[order.task for order in lane.fifo] for lane in self.opened]

    def time_passes(self) -> None:
        timers, self.timers = self.timers, []
        for act in timers:
            act()
        self.pump()


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


class TestBatches:
    def test_of_an_unknown_work_one_goes_to_each_lane(self, host: FakeHost) -> None:
        host.push(*range(10), work=UNKNOWN)
        host.pump()
        assert host.where() == [[0], [1]]

    def test_short_ones_go_together(self, host: FakeHost) -> None:
        host.learn(SHORT, 0.0001)
        host.push(*range(200))
        host.pump()
        first, second = host.where()
        assert first[0] == 0
        assert 40 <= len(first) <= 60  # about five milliseconds
        assert abs(len(first) - len(second)) <= 1
        assert host.opened[0].batches[-1] == first  # in one message

    def test_long_ones_go_alone(self, host: FakeHost) -> None:
        host.learn(LONG, 1.0)
        host.push(*range(10), work=LONG)
        host.pump()
        assert [len(tasks) for tasks in host.where()] == [1, 1]

    def test_of_those_between_the_next_one_waits_at_hand(self, host: FakeHost) -> None:
        host.learn(LONG, 0.1)
        host.push(*range(10), work=LONG)
        host.pump()
        assert [len(tasks) for tasks in host.where()] == [2, 2]

    def test_a_long_one_is_not_put_behind_short_ones_in_bulk(self, host: FakeHost) -> None:
        host.learn(SHORT, 0.0001)
        host.learn(LONG, 1.0)
        host.push(1)
        host.push(2, work=LONG)
        host.push(*range(3, 100))
        host.pump()
        lane = host.lane_of(2)
        assert lane.fifo[-1].task == 2 or lane.fifo[0].task == 2

    def test_there_is_an_end_to_what_is_sent_ahead(self, host: FakeHost) -> None:
        host.learn(SHORT, 0.0)
        host.push(*range(5000))
        host.pump()
        assert [len(tasks) for tasks in host.where()] == [1024, 1024]

    def test_what_was_expected_is_learnt(self, host: FakeHost) -> None:
        host.learn(SHORT, 0.0001)
        for _ in range(40):  # they have become long
            host.learn(SHORT, 1.0)
        host.push(*range(10))
        host.pump()
        assert [len(tasks) for tasks in host.where()] == [1, 1]

    def test_lanes_that_cannot_queue_get_one_at_a_time(self) -> None:
        host = FakeHost(deep=False)
        host.learn(SHORT, 0.0001)
        host.push(*range(10))
        host.pump()
        assert host.where() == [[0], [1]]

    def test_an_empty_lane_is_filled_when_its_last_order_ends(self, host: FakeHost) -> None:
        host.push(1, 2, 3, work=UNKNOWN)
        host.pump()
        host.end(host.lane_of(1), seconds=1.0)
        assert host.where() == [[3], [2]]

    def test_a_lane_with_short_orders_is_topped_up(self, host: FakeHost) -> None:
        host.learn(SHORT, 0.001)
        host.push(*range(30))
        host.pump()
        lane = host.opened[0]
        before = len(lane.fifo)
        assert before < 15
        for _ in range(before - 1):
            host.end(lane, 0.001)
        host.pump()
        assert len(lane.fifo) == before

    def test_one_that_is_not_wanted_any_more_is_left_out(self, host: FakeHost) -> None:
        host.push(1, 2, 3, 4, work=UNKNOWN)
        host.gone = {1, 2}
        host.pump()
        assert host.where() == [[3], [4]]
        host.gone = {5}
        host.push(5)
        host.end(host.opened[0], 1.0)
        assert host.opened[0].lease is None

    def test_the_order_is_that_of_priority(self, host: FakeHost) -> None:
        host.push(1, 2, work=UNKNOWN)
        host.push(3, work=UNKNOWN, priority=5)
        host.pump()
        assert host.where() == [[3], [1]]


class TestLimits:
    @pytest.mark.parametrize("needs", [Resources(walltime=60.0), Resources(memory=1000)])
    def test_a_task_with_a_limit_is_alone(self, host: FakeHost, needs: Resources) -> None:
        host.learn(SHORT, 0.0001)
        host.push(*range(10), needs=needs)
        host.pump()
        assert [len(tasks) for tasks in host.where()] == [1, 1]

    def test_a_walltime_is_counted_from_each_start(self, host: FakeHost) -> None:
        host.push(1, 2, 3, needs=Resources(walltime=60.0))
        host.pump()
        assert host.limits == [(1, 60.0), (2, 60.0)]
        host.end(host.lane_of(1), 1.0)
        assert host.limits[2:] == [(3, 60.0)]

    def test_who_asks_for_all_cores_has_them(self, host: FakeHost) -> None:
        host.push(1, needs=Resources(cpus=2))
        host.push(2)
        host.pump()
        assert host.where() == [[1]]
        assert host.dispatch.spare == 0
        host.end(host.lane_of(1), 1.0)
        host.pump()
        assert host.dispatch.spare == 1
        assert host.lane_of(2).holds[-1].needs == ONE


class TestTakeBack:
    def behind_a_long_one(self, host: FakeHost, seconds: float = 0.001) -> FakeLane:
        """A lane runs task 0, which was expected to be short, with four others behind it; another has no more to do."""
        host.learn(SHORT, seconds)
        host.push(*range(6))
        host.pump()
        lane = host.lane_of(0)
        assert [order.task for order in lane.fifo] == [0, 2, 3, 4, 5]
        lane.started = 1
        host.end(host.lane_of(1), seconds)
        return lane

    def test_what_is_behind_a_long_one_goes_to_the_idle(self, host: FakeHost) -> None:
        lane = self.behind_a_long_one(host)
        host.dispatch.began(lane)
        host.pump()
        assert sorted(host.where()) == [[0], [2, 3, 4, 5]]

    def test_half_of_what_is_expected_to_last_is_shared(self, host: FakeHost) -> None:
        lane = self.behind_a_long_one(host, seconds=0.0009)
        host.pump()
        assert sorted(host.where()) == [[0, 2, 3], [4, 5]]
        assert lane.ahead == pytest.approx(0.0027)

    def test_little_is_not_worth_the_trouble(self, host: FakeHost) -> None:
        lane = self.behind_a_long_one(host, seconds=0.0001)
        before = list(lane.fifo)
        host.pump()
        assert list(lane.fifo) == before

    def test_one_that_does_not_tell_that_it_is_long_is_found_out(self, host: FakeHost) -> None:
        # Compiled code that keeps Python's lock keeps the worker from reporting.
        self.behind_a_long_one(host, seconds=0.0001)
        host.pump()
        host.time_passes()
        assert sorted(host.where()) == [[0], [2, 3, 4, 5]]

    def test_one_that_goes_on_is_left_alone(self, host: FakeHost) -> None:
        lane = self.behind_a_long_one(host, seconds=0.0001)
        host.pump()
        host.end(lane, 0.0001)
        lane.started = 1
        host.time_passes()
        assert [order.task for order in lane.fifo] == [2, 3, 4, 5]

    def test_no_more_is_put_behind_a_long_one(self, host: FakeHost) -> None:
        lane = self.behind_a_long_one(host)
        host.dispatch.began(lane)
        host.push(*range(100, 110))
        host.pump()
        assert [order.task for order in lane.fifo] == [0, 2, 3, 4, 5]

    def test_while_others_are_never_idle_nobody_waits_long_behind_a_long_one(self, host: FakeHost) -> None:
        lane = self.behind_a_long_one(host)
        host.push(*range(100, 200))
        host.pump()
        other = host.lane_of(100)
        other.started = 1
        host.time_passes()
        assert [order.task for order in lane.fifo] == [0]
        host.end(other, 0.001)
        assert [order.task for order in other.fifo][:4] == [2, 3, 4, 5]

    def test_no_more_lanes_are_asked_than_there_are_idle_cores(self) -> None:
        host = FakeHost(cpus=4)
        host.learn(SHORT, 0.001)
        for lane in host.opened:
            lane.far = True
        host.push(*range(40))
        host.pump()
        for lane in host.opened:
            lane.far = True
        idle = host.opened[0]
        while idle.fifo:
            host.end(idle, 0.001)
        for _ in range(3):
            host.pump()
        assert [lane.asked for lane in host.opened].count(True) == 1
        asked = next(lane for lane in host.opened if lane.asked)
        host.answer(asked)
        host.pump()
        assert idle.fifo

    def test_what_only_that_lane_could_run_stays_there(self) -> None:
        host = FakeHost(cpus=3)
        pair = Resources(cpus=2)
        host.push(-1, work=SHORT, needs=pair)
        host.pump()
        host.end(host.lane_of(-1), 0.001)
        host.push(1, 2, 3, needs=pair)
        host.pump()
        lane = host.lane_of(1)
        assert [order.task for order in lane.fifo] == [1, 2, 3]
        host.dispatch.began(lane)
        for _ in range(3):
            host.pump()
        assert [order.task for order in lane.fifo] == [1, 2, 3]
        assert set(host.attempts.values()) == {1}

    def test_one_that_waits_for_a_device_does_not_keep_others_from_a_core(self) -> None:
        host = FakeHost(cpus=3, gpus=1)
        host.push(100, work=UNKNOWN, needs=Resources(gpus=1))
        host.pump()
        host.learn(SHORT, 0.001)
        lane = self.behind_a_long_one(host)
        host.dispatch.began(lane)
        host.push(101, work=UNKNOWN, needs=Resources(gpus=1))
        host.pump()
        assert len(lane.fifo) == 1

    def test_attempts_are_numbered_anew(self, host: FakeHost) -> None:
        lane = self.behind_a_long_one(host)
        host.dispatch.began(lane)
        host.pump()
        other = next(one for one in host.opened if one is not lane)
        assert {order.attempt for order in other.fifo} == {2}

    def test_a_lane_that_is_being_stopped_gets_nothing(self, host: FakeHost) -> None:
        host.learn(SHORT, 0.001)
        host.push(1)
        host.pump()
        lane = host.lane_of(1)
        lane.stopping = True
        host.push(*range(2, 40))
        host.pump()
        assert [order.task for order in lane.fifo] == [1]
        host.end(lane, 0.001)
        assert not lane.stopping
        assert len(lane.fifo) > 1


class TestLanes:
    def test_a_lane_without_work_is_kept_warm(self, host: FakeHost) -> None:
        for task in range(5):
            host.push(task, work=UNKNOWN)
            host.pump()
            host.end(host.lane_of(task), 1.0)
        (lane,) = host.opened
        assert host.dispatch.resting == {lane.name: lane}
        assert len(lane.holds) == 1

    def test_one_that_rests_makes_room_for_what_it_cannot_run(self, host: FakeHost) -> None:
        host.learn(SHORT, 1.0)
        (lane,) = host.dispatch.resting.values()
        host.push(1, needs=Resources(cpus=2))
        host.pump()
        assert host.lane_of(1) is lane
        assert host.dispatch.spare == 0

    def test_of_several_each_is_placed_with_all_in_view(self, host: FakeHost) -> None:
        host.learn(SHORT, 0.001)
        host.push(1, 2)
        host.pump()
        assert sorted(host.where()) == [[1], [2]]

    def test_what_a_dead_lane_held_is_free(self, host: FakeHost) -> None:
        host.push(1, 2, 3, work=UNKNOWN)
        host.pump()
        lane = host.lane_of(1)
        host.dispatch.gone(lane, list(lane.fifo))
        lane.fifo.clear()
        host.pump()
        assert lane.name not in host.dispatch.lanes
        assert host.lane_of(3) is host.opened[2]

    def test_an_idle_one_that_died_is_not_used_again(self, host: FakeHost) -> None:
        host.learn(SHORT, 1.0)
        (lane,) = host.dispatch.resting.values()
        host.dispatch.gone(lane, [])
        host.push(1)
        host.pump()
        assert host.lane_of(1) is not lane

    def test_find(self, host: FakeHost) -> None:
        host.push(1, 2, work=UNKNOWN)
        host.pump()
        found = host.dispatch.find(2)
        assert found
        assert found[1] == Order(2, 1, UNKNOWN, Payload(b""))
        assert host.dispatch.find(3) is None


@given(
    st.integers(1, 4),
    st.integers(0, 2**32),
    st.lists(
        st.tuples(
            st.sampled_from([SHORT, LONG, UNKNOWN]), st.sampled_from([ONE, Resources(2), Resources(walltime=9.0)])
        ),
        max_size=60,
    ),
)
def test_every_task_ends_once_whatever_happens(cpus: int, seed: int, tasks: list[tuple[bytes, Resources]]) -> None:
    chance = random.Random(seed)
    host = FakeHost(cpus)
    ended: list[int] = []
    waiting = [(number, *task) for number, task in enumerate(tasks) if task[1].cpus <= cpus]
    expected = [task[0] for task in waiting]
    while len(ended) < len(expected):
        act = chance.random()
        if waiting and act < 0.4:
            task, work, needs = waiting.pop()
            host.push(task, work=work, needs=needs)
        busy = [lane for lane in host.opened if lane.fifo]
        if busy and act > 0.3:
            lane = chance.choice(busy)
            lane.started = min(len(lane.fifo), lane.started + chance.randrange(2))
            lane.long = False
            if chance.random() < 0.2:
                host.dispatch.began(lane)
            if act > 0.9:
                host.dispatch.take_back(lane, chance.randrange(3))
            elif lane.fifo and act > 0.5:
                lane.started = max(1, lane.started)
                ended.append(host.end(lane, chance.choice([0.0001, 0.004, 1.0])))
            elif act > 0.45:  # it dies
                left, started = list(lane.fifo), lane.started
                lane.fifo.clear()
                host.dispatch.gone(lane, left)
                ended.extend(order.task for order in left[:started])
                host.returned(left[started:])
                host.opened.remove(lane)
        host.time_passes()
        used = sum(lane.lease.needs.cpus for lane in host.opened if lane.lease)
        assert used + host.dispatch.spare == cpus
        assert all(lane.fifo or lane.name in host.dispatch.resting for lane in host.dispatch.lanes.values())
    assert sorted(ended) == sorted(expected)
    assert host.dispatch.spare + len(host.dispatch.resting) == cpus
