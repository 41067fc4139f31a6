"""Placement: every rule by an example, and the invariants under generated histories on a simulated clock."""

from __future__ import annotations

import math
from collections import Counter
from heapq import heappop, heappush
from random import Random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from heald.core import reservation
from heald.core.errors import UsageError
from heald.core.placement import Lease, Node, Placement, Share
from heald.core.resources import SINGLE, Resources


def nodes(count: int, cores: int = 4, gpus: int = 0, memory: int = 0, until: float = math.inf) -> Placement:
    placement = Placement()
    for number in range(count):
        names = tuple(f"gpu{device}" for device in range(gpus))
        placement.add_node(Node("abcdefgh"[number], tuple(range(cores)), names, memory, until))
    return placement


def push(placement: Placement, *needs: Resources, first: int = 1) -> None:
    for task, each in enumerate(needs, first):
        placement.push(task, each)


def where(placed: list[tuple[int, Lease]]) -> dict[int, str]:
    return {task: "".join(share.node for share in lease.shares) for task, lease in placed}


class Clock:
    """Runs what is placed, on simulated time: `runs` tells how long a task takes."""

    def __init__(self, placement: Placement, runs: dict[int, float]) -> None:
        self.placement, self.runs, self.now = placement, runs, 0.0
        self.began: dict[int, float] = {}
        self.ended: dict[int, float] = {}
        self.nodes: dict[int, set[str]] = {}
        self._running: list[tuple[float, int, Lease]] = []

    def place(self) -> None:
        for task, lease in self.placement.place(self.now):
            self._begin(task, lease)

    def _begin(self, task: int, lease: Lease) -> None:
        assert task not in self.began
        self.began[task] = self.now
        self.nodes[task] = {share.node for share in lease.shares}
        heappush(self._running, (self.now + self.runs[task], task, lease))

    def step(self) -> bool:
        """On to the next time at which attempts end; False when nothing runs."""
        if not self._running:
            return False
        self.now = self._running[0][0]
        while self._running and self._running[0][0] == self.now:
            _, task, lease = heappop(self._running)
            self.ended[task] = self.now
            successor = self.placement.following(lease, self.now)
            if successor is None:
                self.placement.release(lease)
            else:
                self._begin(successor, lease)
        self.place()
        return True

    def run(self) -> None:
        self.place()
        while self.step():
            pass


# Order


def test_higher_priority_then_greater_depth_then_lower_id() -> None:
    placement = nodes(1, cores=1)
    for task, priority, depth in ((1, 0, 0), (2, 0, 0), (3, 0, 5), (4, 7, 0), (5, -1, 9)):
        placement.push(task, SINGLE, priority, depth)
    [(task, lease)] = placement.place(0)
    order = [task]
    while (task_ := placement.following(lease, 0)) is not None:
        order.append(task_)
    assert order == [4, 3, 1, 2, 5]


def test_tasks_that_come_late_stand_by_their_id() -> None:
    placement = nodes(1, cores=4)
    for task in (5, 9, 2, 7):
        placement.push(task, SINGLE)
    assert [task for task, _ in placement.place(0)] == [2, 5, 7, 9]


def test_order_holds_between_classes() -> None:
    placement = nodes(1, cores=2)
    placement.push(1, SINGLE)
    placement.push(2, Resources(cpus=2), priority=1)
    assert [task for task, _ in placement.place(0)] == [2]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2), st.integers(0, 2)), unique_by=lambda each: each[0]))
def test_one_class_leaves_in_order(tasks: list[tuple[int, int, int]]) -> None:
    placement = nodes(1, cores=31)
    for task, priority, depth in tasks:
        placement.push(task, SINGLE, priority, depth)
    expected = [task for task, _, _ in sorted(tasks, key=lambda each: (-each[1], -each[2], each[0]))]
    assert [task for task, _ in placement.place(0)] == expected


# Leaving the queue


def test_discarded_tasks_are_never_placed() -> None:
    placement = nodes(1)
    for task in range(3):
        placement.push(task, SINGLE, 1, 2)
    assert placement.discard(1, SINGLE, 1, 2)
    assert not placement.discard(1, SINGLE, 1, 2)
    assert not placement.discard(0, SINGLE, 0, 2)
    assert not placement.discard(0, Resources(cpus=2), 1, 2)
    assert (len(placement), placement.queued(SINGLE), placement.queued(Resources(cpus=2))) == (2, 2, 0)
    assert [task for task, _ in placement.place(0)] == [0, 2]
    assert not placement.discard(0, SINGLE, 1, 2)


def test_a_task_comes_back_once_however_often_it_is_pushed() -> None:
    placement = nodes(1)
    for _ in range(3):
        placement.push(1, SINGLE)
        placement.push(2, SINGLE)
        placement.discard(1, SINGLE)
    placement.push(1, SINGLE)
    assert [task for task, _ in placement.place(0)] == [1, 2]


def test_discarded_tasks_take_no_memory() -> None:
    placement = nodes(1)
    placement.push(0, SINGLE)
    for task in range(1, 5000):
        placement.push(task, SINGLE)
        placement.discard(task, SINGLE)
    bucket = placement._ready[SINGLE]._buckets[0, 0]
    assert len(bucket._queue) + len(bucket._late) < 200
    placement.discard(0, SINGLE)
    assert not placement._ready


# One node


def test_cores_are_exclusive_in_a_row_and_low() -> None:
    placement = nodes(1, cores=8)
    push(placement, Resources(cpus=2), SINGLE, Resources(cpus=3))
    leases = [lease for _, lease in placement.place(0)]
    assert [lease.shares[0].cpus for lease in leases] == [(0, 1), (2,), (3, 4, 5)]
    placement.release(leases[1])
    push(placement, Resources(cpus=2), SINGLE, first=4)
    assert [lease.shares[0].cpus for _, lease in placement.place(0)] == [(6, 7), (2,)]


def test_cores_that_are_not_in_a_row_serve_as_well() -> None:
    placement = nodes(1, cores=4)
    push(placement, SINGLE, SINGLE, SINGLE, SINGLE)
    leases = [lease for _, lease in placement.place(0)]
    placement.release(leases[0])
    placement.release(leases[2])
    push(placement, Resources(cpus=2), first=5)
    [(_, lease)] = placement.place(0)
    assert lease.shares[0].cpus == (0, 2)


def test_part_node_tasks_fill_the_fullest_node() -> None:
    placement = nodes(3, cores=4)
    push(placement, Resources(cpus=3), Resources(cpus=2), Resources(cpus=2), SINGLE, Resources(cpus=4))
    assert where(placement.place(0)) == {1: "a", 2: "b", 3: "b", 4: "a", 5: "c"}


def test_memory_is_counted_where_it_is_tracked_and_asked() -> None:
    placement = nodes(1, cores=4, memory=100)
    push(placement, Resources(memory=60), Resources(memory=60), Resources(memory=0), Resources(memory=40))
    placed = placement.place(0)
    assert [task for task, _ in placed] == [1, 3, 4]
    untracked = nodes(1, cores=2)
    push(untracked, Resources(memory=10**15))
    assert len(untracked.place(0)) == 1


def test_fractions_share_the_fullest_device_that_fits() -> None:
    placement = nodes(1, cores=8, gpus=2)
    push(placement, *(Resources(gpus=part) for part in (0.5, 0.6, 0.4, 0.25, 0.25)))
    devices = {task: lease.shares[0].gpus for task, lease in placement.place(0)}
    assert devices == {
        1: (("gpu0", 0.5),),
        2: (("gpu1", 0.6),),
        3: (("gpu1", 0.4),),
        4: (("gpu0", 0.25),),
        5: (("gpu0", 0.25),),
    }


def test_a_fraction_never_splits_over_devices() -> None:
    placement = nodes(1, cores=8, gpus=2)
    push(placement, *[Resources(gpus=0.6)] * 3)
    assert len(placement.place(0)) == 2


@pytest.mark.parametrize("count", [3, 6, 7, 10])
def test_n_nths_share_one_device(count: int) -> None:
    placement = nodes(1, cores=16, gpus=1)
    push(placement, *[Resources(gpus=1 / count)] * (count + 1))
    leases = [lease for _, lease in placement.place(0)]
    assert len(leases) == count
    for lease in leases:
        placement.release(lease)
    placement.discard(count + 1, Resources(gpus=1 / count))
    placement.push(99, Resources(gpus=1))
    assert len(placement.place(0)) == 1


def test_whole_counts_take_whole_free_devices() -> None:
    placement = nodes(1, cores=8, gpus=4)
    push(placement, Resources(gpus=0.1), Resources(gpus=2), Resources(gpus=2))
    placed = dict(placement.place(0))
    assert placed[2].shares[0].gpus == (("gpu1", 1.0), ("gpu2", 1.0))
    assert 3 not in placed


def test_ranks_have_their_own_cpus_and_gpus() -> None:
    placement = nodes(1, cores=8, gpus=2)
    push(placement, Resources(cpus=2, gpus=0.5, ranks=3))
    [(_, lease)] = placement.place(0)
    [share] = lease.shares
    assert (share.ranks, share.cpus) == (3, (0, 1, 2, 3, 4, 5))
    assert share.gpus == (("gpu0", 0.5), ("gpu0", 0.5), ("gpu1", 0.5))


# Gangs


def test_ranks_spread_evenly_and_the_first_nodes_get_the_remainder() -> None:
    placement = nodes(4, cores=4, memory=10)
    push(placement, Resources(ranks=7, nodes=3, memory=5))
    [(_, lease)] = placement.place(0)
    assert [(share.ranks, len(share.cpus), share.memory) for share in lease.shares] == [(3, 3, 5), (2, 2, 5), (2, 2, 5)]
    assert len({share.node for share in lease.shares}) == 3


def test_at_most_so_many_such_tasks_on_a_node() -> None:
    placement = nodes(2, cores=8)
    push(placement, *[Resources(tasks_per_node=2)] * 5, *[Resources()] * 2)
    placed = placement.place(now=0.0)
    assert sorted(where(placed).values()) == ["a", "a", "a", "a", "b", "b"]
    assert {task for task, _ in placed} == {1, 2, 3, 4, 6, 7}
    assert "at most 2 such tasks on each" in placement.explain(Resources(tasks_per_node=2), now=0.0)
    leases = dict(placed)
    placement.release(leases[1])
    assert [task for task, _ in placement.place(now=1.0)] == [5]


def test_tasks_per_node_of_two_kinds_share_the_node() -> None:
    placement = nodes(1, cores=8)
    push(placement, Resources(tasks_per_node=2), Resources(tasks_per_node=4), *[Resources(tasks_per_node=4)] * 2)
    assert {task for task, _ in placement.place(now=0.0)} == {1, 2, 3}


def test_the_next_such_task_takes_over_the_place_of_one_that_ended() -> None:
    placement = nodes(1, cores=8)
    push(placement, *[Resources(tasks_per_node=1)] * 2)
    ((_, lease),) = placement.place(now=0.0)
    assert placement.following(lease, now=1.0) == 2


def test_a_task_runs_on_the_hosts_that_it_names() -> None:
    placement = nodes(3)
    push(
        placement,
        Resources(hosts=("c",), cpus=4),
        Resources(hosts=("c",)),
        Resources(hosts=("b", "c"), nodes=2, ranks=2),
    )
    assert where(placement.place(now=0.0)) == {1: "c"}
    absent = placement.unfit(Resources(hosts=("d",)))
    assert absent == "needs 1 cpu on 1 node of d; none of 3 nodes could hold its share"
    assert placement.unfit(Resources(hosts=("a", "d"), nodes=2, ranks=2)) is not None


def test_a_promise_is_made_on_the_hosts_that_a_task_names() -> None:
    placement = nodes(2)
    push(placement, Resources(cpus=2, hosts=("b",), walltime=9.0))
    placement.place(now=0.0)
    push(placement, Resources(cpus=4, hosts=("b",)), *[Resources(cpus=2)] * 3, first=2)
    assert where(placement.place(now=1.0)) == {3: "a", 4: "a"}
    assert placement.reservation is not None
    assert placement.reservation.nodes == ["b"]


def test_a_gang_has_all_its_nodes_or_none() -> None:
    placement = nodes(2, cores=2)
    push(placement, SINGLE, Resources(ranks=4, nodes=2))
    [(task, lease)] = placement.place(0)
    assert task == 1
    placement.release(lease)
    [(task, lease)] = placement.place(0)
    assert (task, [share.cpus for share in lease.shares]) == (2, [(0, 1), (0, 1)])


def test_an_uneven_gang_uses_uneven_nodes() -> None:
    placement = Placement()
    placement.add_node(Node("small", (0,)))
    placement.add_node(Node("large", (0, 1)))
    push(placement, Resources(ranks=3, nodes=2))
    [(_, lease)] = placement.place(0)
    assert [(share.node, share.ranks) for share in lease.shares] == [("large", 2), ("small", 1)]


# Time


def test_a_task_is_placed_only_where_it_can_end() -> None:
    placement = nodes(1, until=100)
    push(placement, Resources(walltime=60))
    assert placement.place(50) == []
    assert placement.reservation is None
    assert "0 of 1 node will be there" in placement.explain(Resources(walltime=60), 50)
    placement.push(2, SINGLE)
    assert [task for task, _ in placement.place(50)] == [2]
    assert [task for task, _ in placement.place(40)] == [1]


def test_a_lease_is_not_taken_over_past_the_end_of_the_allocation() -> None:
    placement = nodes(1, cores=1, until=100)
    push(placement, *[Resources(walltime=30)] * 3)
    [(_, lease)] = placement.place(0)
    assert placement.following(lease, 70) == 2
    assert placement.following(lease, 71) is None


# Leases and nodes


def test_a_lease_is_released_once() -> None:
    placement = nodes(1)
    push(placement, SINGLE)
    [(_, lease)] = placement.place(0)
    placement.release(lease)
    with pytest.raises(UsageError, match="not held"):
        placement.release(lease)


def test_a_node_that_went_away_takes_its_resources_with_it() -> None:
    placement = nodes(2, cores=1)
    push(placement, Resources(ranks=2, nodes=2), SINGLE, SINGLE)
    [(_, gang)] = placement.place(0)
    placement.remove_node("a")
    assert placement.following(gang, 1) is None
    placement.add_node(Node("a", (0,)))
    assert where(placement.place(1)) == {2: "a"}
    placement.release(gang)
    assert where(placement.place(2)) == {3: "b"}
    with pytest.raises(UsageError, match="already"):
        placement.add_node(Node("a", (0,)))


def test_an_adopted_lease_has_its_share_of_a_node_that_comes_later() -> None:
    placement = nodes(1, cores=2)
    lease = placement.adopt((Share("a", (0,)), Share("late", (0,))), Resources(ranks=2, nodes=2), 0)
    placement.add_node(Node("late", (0,)))
    push(placement, SINGLE, SINGLE)
    assert where(placement.place(0)) == {1: "a"}
    placement.release(lease)
    assert where(placement.place(0)) == {2: "a"}
    push(placement, SINGLE, first=3)
    assert where(placement.place(0)) == {3: "late"}


def test_what_an_adopted_lease_has_no_more_is_free() -> None:
    placement = Placement()
    placement.release(placement.adopt((Share("late", (0,)),), SINGLE, 0))
    placement.add_node(Node("late", (0,)))
    push(placement, SINGLE)
    assert where(placement.place(0)) == {1: "late"}


def test_a_promise_is_not_sought_in_all_of_very_many_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = Placement()
    for number in range(1000):
        placement.add_node(Node(f"n{number}", (0, 1)))
    push(placement, *[SINGLE] * 1000, Resources(cpus=2), *[SINGLE] * 2000)
    looked: list[object] = []
    monkeypatch.setattr(reservation, "_earliest", lambda room, *_: looked.append(room) or math.inf)
    placement.place(0)
    assert placement.reservation is not None
    assert len(looked) < 200


def test_unfit_says_what_is_too_much() -> None:
    placement = nodes(2, cores=2, gpus=1, memory=4 * 10**9)
    cases = {
        Resources(cpus=4): "needs 4 cpus on a node; the largest node has 2",
        Resources(ranks=6, nodes=2): "needs 3 cpus on a node; the largest node has 2",
        Resources(gpus=2): "needs 2 gpus on a node; the largest node has 1",
        Resources(gpus=0.6, ranks=2): "needs 2 gpus on a node; the largest node has 1",
        Resources(memory=5 * 10**9): "needs 5 GB of memory on a node; the largest node has 4 GB",
        Resources(nodes=3, ranks=3): "needs 3 cpus on 3 nodes; 2 of 2 nodes could hold its share",
    }
    assert {needs: placement.unfit(needs) for needs in cases} == cases
    assert placement.unfit(Resources(cpus=2, gpus=1, memory=10**9)) is None
    placement.add_node(Node("many", tuple(range(16))))
    assert (
        placement.unfit(Resources(cpus=16, gpus=1))
        == "needs 16 cpus, 1 gpu on 1 node; none of 3 nodes could hold its share"
    )


# Taking over


def test_a_better_claim_that_the_lease_could_serve_ends_the_succession() -> None:
    placement = nodes(1, cores=2)
    push(placement, *[Resources(cpus=2)] * 3)
    [(_, lease)] = placement.place(0)
    placement.push(9, SINGLE, priority=1)
    assert placement.following(lease, 1) is None
    placement.release(lease)
    assert [task for task, _ in placement.place(1)] == [9]


def test_a_better_claim_that_the_lease_cannot_serve_does_not() -> None:
    placement = nodes(1, cores=4, gpus=1)
    push(placement, Resources(gpus=1), *[SINGLE] * 9)
    placement.push(99, Resources(gpus=1), priority=1)
    placed = dict(placement.place(0))
    assert [placement.following(placed[task], 1) for task in (2, 3, 4)] == [5, 6, 7]


def test_a_worse_claim_waits() -> None:
    placement = nodes(1, cores=1)
    push(placement, SINGLE, SINGLE, SINGLE, Resources(walltime=5))
    [(_, lease)] = placement.place(0)
    assert placement.following(lease, 1) == 2
    # With task 3 the promise to its line would end, and only `place` makes the next.
    assert placement.following(lease, 2) is None
    placement.release(lease)
    [(task, lease)] = placement.place(2)
    assert task == 3
    assert placement.reservation is not None
    assert placement.reservation.line.head[2] == 4
    assert placement.following(lease, 3) is None


# Reservations


def test_others_go_ahead_only_where_they_end_before_the_promised_start() -> None:
    placement = nodes(2, cores=4)
    push(
        placement,
        Resources(cpus=4, walltime=100),  # runs on a until 100
        Resources(ranks=8, nodes=2, walltime=10),  # needs both: promised for 100
        Resources(cpus=2, walltime=100),  # just in time
        Resources(cpus=1, walltime=101),  # too long
        Resources(cpus=1),  # nobody knows
        Resources(cpus=1, walltime=1),
    )
    assert where(placement.place(0)) == {1: "a", 3: "b", 6: "b"}
    assert placement.reservation is not None
    assert (placement.reservation.start, sorted(placement.reservation.nodes)) == (100, ["a", "b"])
    said = placement.explain(Resources(cpus=1), 40)
    assert said.endswith("kept for a task ahead that needs 8 cpus on 2 nodes, to start in 60 s at the latest")
    assert "kept for it" in placement.explain(Resources(ranks=8, nodes=2, walltime=10), 40)


def test_others_use_what_the_promised_task_leaves_over() -> None:
    placement = nodes(1, cores=4)
    push(placement, Resources(cpus=2), Resources(cpus=3, walltime=10), SINGLE, SINGLE)
    assert [task for task, _ in placement.place(0)] == [1, 3]
    assert placement.reservation is not None
    assert placement.reservation.start == math.inf
    assert "to start when they are free" in placement.explain(SINGLE, 0)


def test_devices_are_promised_too() -> None:
    placement = nodes(1, cores=8, gpus=2)
    push(placement, Resources(gpus=1, walltime=50), Resources(gpus=2), Resources(gpus=0.5, walltime=51))
    push(placement, Resources(gpus=0.5, walltime=50), SINGLE, first=4)
    assert [task for task, _ in placement.place(0)] == [1, 4, 5]


def test_a_promise_improves_when_what_it_waits_for_ends_early() -> None:
    placement = nodes(1, cores=4)
    push(placement, Resources(cpus=2, walltime=100), SINGLE, Resources(cpus=4, walltime=5))
    placement.push(9, Resources(walltime=20))
    placed = dict(placement.place(0))
    assert sorted(placed) == [1, 2]
    placement.release(placed[2])
    assert where(placement.place(1)) == {9: "a"}
    assert placement.reservation is not None
    assert placement.reservation.start == 100
    placement.release(placed[1])
    assert placement.place(2) == []
    assert placement.reservation is not None
    assert placement.reservation.start == 21


def test_a_promise_goes_with_its_task() -> None:
    placement = nodes(1, cores=2)
    push(placement, SINGLE, Resources(cpus=2), SINGLE)
    assert [task for task, _ in placement.place(0)] == [1]
    placement.discard(2, Resources(cpus=2))
    assert placement.reservation is None
    assert [task for task, _ in placement.place(0)] == [3]


def test_no_promise_is_made_that_the_allocation_is_too_short_for() -> None:
    placement = Placement()
    placement.add_node(Node("short", (0, 1), until=60))
    placement.add_node(Node("long", (0, 1)))
    push(placement, Resources(cpus=2, walltime=20), Resources(cpus=2, walltime=50), Resources(cpus=2, walltime=45))
    assert len(placement.place(0)) == 2
    assert placement.reservation is not None
    assert placement.reservation.nodes == ["long"]


@pytest.mark.parametrize("walltime", [0.0, 30.0])
@pytest.mark.parametrize(
    "big", [Resources(cpus=4), Resources(ranks=8, nodes=2), Resources(ranks=16, nodes=4), Resources(gpus=2)]
)
def test_a_big_task_starts_under_a_steady_stream_of_small_ones(big: Resources, walltime: float) -> None:
    placement = nodes(4, cores=4, gpus=2)
    small = Resources(walltime=walltime, gpus=0.5 if big.gpus else 0)
    runs = {task: 10.0 + task % 7 for task in range(2000)}
    clock = Clock(placement, runs)
    for task in range(1000):
        placement.push(task, small)
    clock.place()
    for _ in range(20):
        clock.step()
    placement.push(1000, big)
    for task in range(1001, 2000):
        placement.push(task, small)
    # Behind a thousand equal ones it has its turn after them; then it waits for those on its nodes, no longer.
    while 1000 not in clock.began:
        assert clock.step()
    assert clock.began[1000] <= max(clock.began[task] for task in range(1000)) + 2 * max(runs.values())
    clock.run()
    assert len(clock.ended) == 2000


def packed(sizes: list[tuple[int, float]]) -> float:
    """The part of three nodes' time that jobs of so many nodes and minutes used."""
    placement = nodes(3, cores=8)
    clock = Clock(placement, {job: minutes for job, (_, minutes) in enumerate(sizes)})
    for job, (width, minutes) in enumerate(sizes):
        placement.push(job, Resources(ranks=8 * width, nodes=width, walltime=minutes))
    clock.run()
    assert [len(clock.nodes[job]) for job in range(len(sizes))] == [width for width, _ in sizes]
    return sum(width * minutes for width, minutes in sizes) / (3 * clock.now)


def test_seven_mixed_jobs_fill_an_allocation_of_three_nodes() -> None:
    jobs: list[tuple[int, float]] = [(2, 20), (1, 10), (2, 20), (1, 20), (3, 10), (1, 5), (1, 5)]
    assert packed(jobs) == 1.0
    shuffled = Random(7)
    assert mean(packed(shuffled.sample(jobs, 7)) for _ in range(100)) > 0.85


def test_a_promise_leaves_the_node_that_is_free_sooner_to_others() -> None:
    placement = nodes(3, cores=2)
    push(placement, *(Resources(cpus=2, walltime=walltime) for walltime in (10, 20, 20)))
    push(placement, Resources(ranks=4, nodes=2, walltime=20), SINGLE, first=4)
    [(_, lease), *_] = placement.place(0)
    assert placement.reservation is not None
    assert (placement.reservation.start, sorted(placement.reservation.nodes)) == (20, ["b", "c"])
    placement.release(lease)
    assert where(placement.place(10)) == {5: "a"}


# Generated histories

WALLTIMES = st.sampled_from([0.0, 5.0, 20.0])
NEEDS = st.builds(
    lambda cpus, gpus, memory, walltime, width, extra: Resources(cpus, gpus, memory, walltime, width + extra, width),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.0, 0.3, 0.5, 1.0, 2.0]),
    st.sampled_from([0, 0, 30, 60]),
    WALLTIMES,
    st.integers(1, 3),
    st.integers(0, 2),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(NEEDS, min_size=1, max_size=25), st.data())
def test_the_first_that_waits_starts_when_promised(asked: list[Resources], data: st.DataObject) -> None:
    placement = nodes(3, cores=6, gpus=2, memory=100)
    asked = [each for each in asked if placement.unfit(each) is None]
    runs = {}
    for task, needs in enumerate(asked):
        runs[task] = data.draw(st.floats(0.5, 1)) * needs.walltime if needs.walltime else 7.0
        placement.push(task, needs)
    clock = Clock(placement, runs)
    promises: dict[int, float] = {}
    clock.place()
    while True:
        if placement.reservation is not None:
            task = placement.reservation.line.head[2]
            start = max(placement.reservation.start, clock.now)
            promises[task] = min(start, promises.get(task, math.inf))
        if not clock.step():
            break
    assert len(clock.ended) == len(asked)
    assert all(clock.began[task] <= start + 1e-9 for task, start in promises.items())


class Histories(RuleBasedStateMachine):
    """Any sequence of calls, against a plain account of who holds what."""

    def __init__(self) -> None:
        super().__init__()
        self.placement = nodes(2, cores=5, gpus=2, memory=100)
        self.nodes = {name: Node(name, tuple(range(5)), ("gpu0", "gpu1"), 100) for name in "ab"}
        self.now = 0.0
        self.next = 1
        self.incarnations = Counter[str]()
        self.ready: dict[int, tuple[Resources, int, int]] = {}
        self.held: dict[int, tuple[Lease, dict[str, int]]] = {}

    def start(self, task: int, lease: Lease) -> None:
        needs, priority, depth = self.ready.pop(task)
        assert lease.needs == needs
        claim = (-priority, -depth, task)
        equals = ((-p, -d, other) for other, (same, p, d) in self.ready.items() if same == needs)
        assert all(claim < other for other in equals)
        shares = lease.shares
        assert len({share.node for share in shares}) == needs.nodes == len(shares)
        assert [share.ranks for share in shares] == sorted((share.ranks for share in shares), reverse=True)
        assert sum(share.ranks for share in shares) == needs.ranks
        for share in shares:
            assert abs(share.ranks - needs.ranks / needs.nodes) < 1
            assert len(share.cpus) == needs.cpus * share.ranks
            assert sum(part for _, part in share.gpus) == pytest.approx(needs.gpus * share.ranks)
            assert share.memory == needs.memory
            assert self.now + needs.walltime <= self.nodes[share.node].until

    @rule(needs=NEEDS, priority=st.integers(0, 1), depth=st.integers(0, 1), count=st.integers(1, 4))
    def push(self, needs: Resources, priority: int, depth: int, count: int) -> None:
        for _ in range(count):
            self.ready[self.next] = (needs, priority, depth)
            self.placement.push(self.next, needs, priority, depth)
            self.next += 1

    @rule(passed=st.sampled_from([0.0, 1.0, 7.0]))
    def place(self, passed: float) -> None:
        self.now += passed
        for task, lease in self.placement.place(self.now):
            self.start(task, lease)
            assert lease.id not in self.held
            self.held[lease.id] = (lease, {share.node: self.incarnations[share.node] for share in lease.shares})
        assert self.placement.place(self.now) == []

    @precondition(lambda self: self.held)
    @rule(data=st.data(), passed=st.sampled_from([0.0, 1.0, 7.0]), follow=st.booleans())
    def end(self, data: st.DataObject, passed: float, follow: bool) -> None:
        self.now += passed
        lease, _ = self.held[data.draw(st.sampled_from(sorted(self.held)))]
        task = self.placement.following(lease, self.now) if follow else None
        if task is not None:
            self.start(task, lease)
        else:
            self.placement.release(lease)
            del self.held[lease.id]
            with pytest.raises(UsageError):
                self.placement.release(lease)

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(self.ready)))
        assert self.placement.discard(task, *self.ready[task])
        assert not self.placement.discard(task, *self.ready.pop(task))

    @rule(name=st.sampled_from("bc"), lasts=st.sampled_from([10.0, math.inf]))
    def change_node(self, name: str, lasts: float) -> None:
        if name in self.nodes:
            self.placement.remove_node(name)
            del self.nodes[name]
        else:
            self.nodes[name] = Node(name, (0, 1, 2, 7), ("gpu0",), until=self.now + lasts)
            self.incarnations[name] += 1
            self.placement.add_node(self.nodes[name])

    @invariant()
    def never_oversubscribed(self) -> None:
        cores: Counter[tuple[str, int]] = Counter()
        devices: Counter[tuple[str, str]] = Counter()
        memory: Counter[str] = Counter()
        for lease, incarnations in self.held.values():
            for share in lease.shares:
                if share.node not in self.nodes or incarnations[share.node] != self.incarnations[share.node]:
                    continue
                cores.update((share.node, core) for core in share.cpus)
                memory[share.node] += share.memory
                for device, part in share.gpus:
                    devices[share.node, device] += part  # type: ignore[assignment]
        assert all(held == 1 for held in cores.values())
        assert all(core in self.nodes[name].cpus for name, core in cores)
        assert all(held <= 1 + 1e-9 for held in devices.values())
        assert all(held <= (self.nodes[name].memory or math.inf) for name, held in memory.items())

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.placement) == len(self.ready)
        for needs, waiting in Counter(needs for needs, _, _ in self.ready.values()).items():
            assert self.placement.queued(needs) == waiting
            assert self.placement.explain(needs, self.now)

    def teardown(self) -> None:
        """Whatever could run does, in the end."""
        for _ in range(len(self.ready) + len(self.held) + 1):
            for lease, _ in self.held.values():
                self.placement.release(lease)
            self.held.clear()
            self.place(0.0)
        for needs, _, _ in self.ready.values():
            timely = sum(self.now + needs.walltime <= node.until for node in self.nodes.values())
            assert self.placement.unfit(needs) is not None or timely < len(self.nodes)


Histories.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_any_history = Histories.TestCase


def test_one_that_wants_notice_is_not_begun_when_it_is_too_late_for_that() -> None:
    placement = Placement()
    placement.add_node(Node("short", cpus=(0,), until=50.0))
    needs = Resources(notice=60.0)
    placement.push(1, needs)
    assert not placement.place(now=0.0)
    assert "runs for up to 60 s" in placement.explain(needs, now=0.0)
    placement.add_node(Node("long", cpus=(0,), until=100.0))
    ((_, lease),) = placement.place(now=30.0)
    assert lease.shares[0].node == "long"
    placement.push(2, needs)
    assert placement.following(lease, now=41.0) is None
