"""A crew of real workers, and the test in the place of the pool or the agent that it works for."""

from __future__ import annotations

import math
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import heald
from heald.core.event import Failure, Usage
from heald.core.placement import Lease, Share
from heald.core.resources import SINGLE, Resources
from heald.core.retry import CANCELLED, OUT_OF_MEMORY, REQUEUED, WORKER_LOST
from heald.core.task import Payload, Work
from heald.data.arena import Arena
from heald.data.payload import pack_call, unpack
from heald.run.crew import Crew, End, Settings
from heald.run.lane import Lane
from heald.run.protocol import Define, Order
from heald.run.selector import Selector
from heald.run.timer import Timers
from heald.testing.executor import Gate
from heald.testing.work import echo, held

UNWANTED = Failure(CANCELLED, "cancelled")
_PATIENCE = 20.0


class Host:
    """Whoever the crew works for: a loop, and what it was told."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.run = folder
        self.logs = folder / "logs"
        self.logs.mkdir(exist_ok=True)
        self.selector = Selector()
        self.arena = Arena(capacity=1 << 26)
        self.begun: list[int] = []
        self.ends: dict[int, Payload | Failure] = {}
        self.deaths: list[tuple[End | None, list[int]]] = []
        self.reasons: list[str] = []
        self._works: dict[bytes, Define] = {}
        self._tasks = iter(range(1, 1000))
        self._timers = Timers()
        self.crew = Crew(Settings(**settings), self)
        self.crew.start()

    def began(self, lane: Lane, order: Order, time: float) -> None:
        self.begun.append(order.task)

    def ended(self, lane: Lane, order: Order, outcome: Payload | Failure, usage: Usage) -> None:
        self.ends[order.task] = outcome

    def gone(self, lane: Lane, end: End | None, others: list[Order]) -> None:
        self.deaths.append((end, [order.task for order in others]))

    def definition(self, digest: bytes) -> Define:
        return self._works[digest]

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self._timers.add(seconds, act)

    def broken(self, reason: str) -> None:
        self.reasons.append(reason)

    def order(self, function: Callable[..., Any], *args: Any, kind: str = "function") -> Order:
        pickled = cloudpickle.dumps(function)
        work = Work(function.__name__, kind, pickled[-16:])
        self._works[work.digest()] = Define(work.digest(), work, pickled)
        payload, _ = pack_call(args, {}, self.arena, name=work.name)
        return Order(next(self._tasks), 1, work.digest(), payload)

    def open(self, needs: Resources = SINGLE, **share: Any) -> Lane:
        """A lane with a lease of these needs."""
        lane = self.crew.open()
        lane.lease = Lease(lane.number, (Share("here", **{"cpus": (0,), **share}),), needs)
        self.crew.hold(lane, lane.lease)
        return lane

    def until(self, met: Callable[[], object]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not met():
            assert time.monotonic() < deadline, (self.reasons, self.deaths)
            self.selector.asleep = True
            self.selector.wait(min(1.0, self._timers.wait or 1.0))
            self._timers.ring()

    def outcome(self, lane: Lane, order: Order) -> Any:
        """Run it: its value, or its Failure."""
        lane.send([order])
        self.until(lambda: order.task in self.ends)
        ended = self.ends[order.task]
        return unpack(ended, self.arena) if isinstance(ended, Payload) else ended

    def hold(self, lane: Lane, gate: Gate, function: Callable[..., Any] = held, kind: str = "function") -> Order:
        """Have the worker run something that waits at the gate, and is inside now."""
        order = self.order(function, gate.path, kind=kind)
        lane.send([order])
        self.until(lambda: lane.pid)
        gate.wait_entered()
        return order

    def close(self) -> None:
        self.crew.close()
        self.selector.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    made: list[Host] = []

    def build(**settings: Any) -> Host:
        made.append(Host(tmp_path, **settings))
        return made[-1]

    yield build
    for host in made:
        host.close()


@pytest.fixture
def host(make: Callable[..., Host]) -> Host:
    return make()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path / "gate")
    yield made
    made.open()


class TestWork:
    def test_orders_are_run_one_after_another(self, host: Host) -> None:
        lane = host.open()
        orders = [host.order(echo, number) for number in range(5)]
        lane.send(orders)
        host.until(lambda: len(host.ends) == 5)
        assert list(host.ends) == [order.task for order in orders]
        assert lane.pid == host.outcome(lane, host.order(os.getpid))

    def test_what_a_lease_gives_is_found_there(self, make: Callable[..., Host]) -> None:
        cpu = min(os.sched_getaffinity(0))
        host = make(bind=True)
        lane = host.open(Resources(cpus=3, gpus=1), cpus=(cpu,), gpus=(("7", 1.0),))
        found = host.outcome(lane, host.order(lambda: (dict(os.environ), os.sched_getaffinity(0))))
        assert (found[0]["OMP_NUM_THREADS"], found[0]["CUDA_VISIBLE_DEVICES"], found[1]) == ("3", "7", {cpu})

    def test_a_long_attempt_is_told_of(self, host: Host, gate: Gate) -> None:
        lane = host.open()
        order = host.hold(lane, gate)
        host.until(lambda: lane.long)
        assert host.begun == [order.task]

    def test_large_values_are_in_the_memory_of_the_host_until_nobody_needs_them(self, host: Host) -> None:
        numpy = pytest.importorskip("numpy")
        lane = host.open()
        value = host.outcome(lane, host.order(numpy.ones, 1 << 20))
        assert value.sum() == 1 << 20
        assert lane.needed
        del value
        host.ends.clear()
        assert not lane.needed

    def test_each_worker_begins_with_the_initializer(self, make: Callable[..., Host]) -> None:
        def begin() -> None:
            os.environ["BEGUN"] = "yes"

        host = make(initializer=cloudpickle.dumps(begin))
        assert host.outcome(host.open(), host.order(os.getenv, "BEGUN")) == "yes"


class TestDeath:
    def test_of_a_worker_under_its_work(self, host: Host, gate: Gate) -> None:
        lane = host.open()
        running = host.hold(lane, gate)
        waiting = host.order(echo, 1)
        lane.send([waiting])
        os.kill(lane.pid, signal.SIGKILL)
        host.until(lambda: host.deaths)
        ((end, others),) = host.deaths
        assert end is not None
        assert (end[0].task, end[1].kind, end[2].exit) == (running.task, WORKER_LOST, -signal.SIGKILL)
        assert others == [waiting.task]
        assert lane.number not in host.crew.lanes

    def test_of_a_worker_that_had_nothing_to_do(self, host: Host) -> None:
        lane = host.open()
        host.outcome(lane, host.order(echo, 1))
        os.kill(lane.pid, signal.SIGKILL)
        host.until(lambda: host.deaths)
        assert host.deaths == [(None, [])]
        assert host.outcome(host.open(), host.order(echo, 2)) == 2

    def test_of_the_spawner(self, host: Host, gate: Gate) -> None:
        lane = host.open()
        running = host.hold(lane, gate)
        assert host.crew._process is not None
        host.crew._process.kill()
        host.until(lambda: host.deaths)
        assert [end[0].task for end, _ in host.deaths if end] == [running.task]
        assert host.outcome(host.open(), host.order(echo, 2)) == 2  # there is another
        assert not host.reasons

    def test_of_every_worker_before_it_runs_anything(self, make: Callable[..., Host]) -> None:
        host = make(initializer=pickle.dumps(os.abort))
        for number in range(3):
            assert not host.reasons
            host.open()
            host.until(lambda number=number: len(host.deaths) > number)
        (reason,) = host.reasons
        assert "workers die before they run anything: the last was killed by SIGABRT" in reason

    def test_of_all_at_the_end(self, host: Host, gate: Gate, wait_until: Callable[..., None]) -> None:
        lane = host.open()
        host.hold(lane, gate)
        host.crew.close()
        wait_until(lambda: not Path(f"/proc/{lane.pid}").exists())


class TestStops:
    def test_the_verdict_is_what_it_failed_of(self, host: Host, gate: Gate) -> None:
        def awake(path: str) -> None:
            # Never for long in one system call: Python does not heed a signal that comes just before it enters one.
            with open(path):
                while True:
                    time.sleep(0.01)

        lane = host.open()
        order = host.hold(lane, gate, awake)
        host.crew.stop(lane, order, UNWANTED)
        host.until(lambda: order.task in host.ends)
        assert host.ends[order.task] == UNWANTED
        assert host.outcome(lane, host.order(echo, 1)) == 1

    def test_one_that_does_not_end_is_killed(self, make: Callable[..., Host], gate: Gate) -> None:
        host = make(grace=0.2)
        lane = host.open()
        order = host.hold(lane, gate, lambda path: f"trap '' TERM; cat {path}", "command")
        host.crew.stop(lane, order, UNWANTED)
        host.until(lambda: host.deaths)
        ((end, _),) = host.deaths
        assert end is not None
        assert end[1].kind == CANCELLED

    def test_one_that_takes_too_much_memory_is_killed(self, host: Host) -> None:
        def take() -> None:
            kept = bytearray(200_000_000)
            signal.pause()
            del kept

        lane = host.open(Resources(memory=100_000_000))
        lane.send([host.order(take)])
        host.until(lambda: host.deaths)
        ((end, _),) = host.deaths
        assert end is not None
        assert end[1].kind == OUT_OF_MEMORY
        assert "asked for 0.1 GB" in end[1].message

    @pytest.mark.parametrize(
        ("settings", "needs"),
        [
            ({"notice": 60.0, "ends": 30.0}, SINGLE),
            ({"ends": 30.0}, Resources(notice=60.0)),
            ({}, Resources(notice=60.0, walltime=30.0)),
        ],
    )
    def test_one_whose_time_ends_is_told(
        self, make: Callable[..., Host], settings: dict[str, float], needs: Resources
    ) -> None:
        def wait() -> None:
            while not heald.current_attempt().ending:
                os.sched_yield()
            raise heald.Requeue

        host = make(**{**settings, "ends": time.monotonic() + settings.get("ends", math.inf)})
        lane = host.open(needs)
        outcome = host.outcome(lane, host.order(wait))
        assert outcome.kind == REQUEUED
        assert host.outcome(lane, host.order(os.getpid)) == lane.pid
