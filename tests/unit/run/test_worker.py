"""A real worker, with the test in the driver's place."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import heald
from heald.core.environment import Environment
from heald.core.event import Failure
from heald.core.retry import CANCELLED, REQUEUED, USER
from heald.run import worker
from heald.run.protocol import LATE, LEAVING, Began, Ended, Hold, Kept, Order, Released
from heald.testing.executor import Gate
from heald.testing.work import add, echo, fail, held

np = pytest.importorskip("numpy")


def pid() -> int:
    return os.getpid()


def save_when_told(path: Path) -> None:
    path.read_text()
    attempt = heald.current_attempt()
    while not attempt.ending:
        os.sched_yield()
    raise heald.Requeue(f"{attempt.task} saved")


def is_ending(path: Path) -> bool:
    path.read_text()
    return heald.current_attempt().ending


def keep(array: Any) -> int:
    sys.kept = array  # type: ignore[attr-defined]  # a module that all tasks of a worker share
    return len(array)


def let_go() -> int:
    sys.kept = None  # type: ignore[attr-defined]
    return 0


def zeros(count: int) -> Any:
    return np.zeros(count)


def look() -> tuple[str | None, set[int]]:
    return os.environ.get("HELD"), os.sched_getaffinity(0)


def note(number: int, file: Path) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{number}\n".encode())
    os.close(descriptor)


def fork_and_return() -> int:
    os.fork()
    return os.getpid()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path / "gate")
    yield made
    made.open()


@pytest.fixture
def lane(workers: Any) -> Any:
    return workers.open()


class TestAttempts:
    def test_gives_the_value_and_what_it_used(self, workers: Any, lane: Any) -> None:
        order = workers.order(add, 1, 2)
        assert workers.outcome(lane, order) == 3
        (ended,) = workers.ends(lane)
        assert (ended.task, ended.attempt) == (order.task, 1)
        assert ended.usage.started > 1e9
        assert 0 <= ended.usage.seconds < 10
        assert ended.usage.memory > 1_000_000
        assert ended.usage.exit == 0

    def test_one_after_another_in_one_process(self, workers: Any, lane: Any) -> None:
        orders = [workers.order(pid) for _ in range(50)]
        lane.send(orders)
        workers.until(lambda: not lane.fifo)
        assert [one.task for one in workers.ends(lane)] == [one.task for one in orders]
        assert {workers.value(one) for one in workers.ends(lane)} == {lane.pid}

    def test_a_failure_is_reported_and_harms_nobody(self, workers: Any, lane: Any) -> None:
        failed = workers.outcome(lane, workers.order(fail, KeyError("k")))
        assert (failed.kind, failed.message) == (USER, "KeyError: 'k'")
        assert workers.outcome(lane, workers.order(echo, 1)) == 1

    def test_what_cannot_be_loaded_fails_alone(self, workers: Any, lane: Any) -> None:
        order = workers.order(echo, 1)
        workers.works[order.work] = msgspec.structs.replace(workers.works[order.work], function=b"no pickle")
        assert "cannot be loaded in a worker" in workers.outcome(lane, order).message
        broken = Order(99, 1, workers.order(add).work, order.arguments.__class__(b"no pickle"))
        assert "an argument cannot be loaded in a worker" in workers.outcome(lane, broken).message
        assert workers.outcome(lane, workers.order(add, 1, 2)) == 3

    def test_a_long_one_is_told_of_when_it_runs(self, workers: Any, lane: Any, gate: Gate) -> None:
        order = workers.order(held, gate.path)
        lane.send([order])
        workers.until(lambda: workers.reports[1])
        (began,) = workers.reports[1]
        assert isinstance(began, Began)
        assert began.task == order.task
        gate.open()
        workers.until(lambda: not lane.fifo)

    def test_results_are_not_kept_back_by_a_long_one(self, workers: Any, lane: Any, gate: Gate) -> None:
        lane.send([workers.order(echo, 1), workers.order(echo, 2), workers.order(held, gate.path)])
        workers.until(lambda: len(workers.ends(lane)) == 2)
        assert len(lane.fifo) == 1
        gate.open()
        workers.until(lambda: not lane.fifo)

    def test_what_it_printed_is_in_files_of_its_own(self, workers: Any, lane: Any) -> None:
        def speak(text: str) -> None:
            print(text)
            os.system("echo below >&2")
            raise ValueError

        first = workers.outcome(lane, workers.order(speak, "one"))
        second = workers.outcome(lane, workers.order(speak, "two"))
        assert [Path(one.stdout).read_text() for one in (first, second)] == ["one\n", "two\n"]
        assert Path(first.stderr).read_text() == "below\n"

    def test_a_child_that_comes_back_from_the_task_ends(self, workers: Any, lane: Any) -> None:
        assert workers.outcome(lane, workers.order(fork_and_return)) == lane.pid
        assert workers.outcome(lane, workers.order(pid)) == lane.pid
        assert len(workers.ends(lane)) == 2

    def test_it_holds_what_it_is_told_to(self, workers: Any, lane: Any) -> None:
        cores = os.sched_getaffinity(0)
        lane.hold(Hold((min(cores),), {"HELD": "yes"}))
        assert workers.outcome(lane, workers.order(look)) == ("yes", {min(cores)})
        lane.hold(Hold((), {}))
        assert workers.outcome(lane, workers.order(look)) == (None, cores)

    def test_a_command(self, workers: Any, lane: Any) -> None:
        def line(word: str) -> list[str]:
            return ["sh", "-c", 'echo "$0" $HEALD_TASK.$HEALD_ATTEMPT', word]

        order = workers.order(line, "a b", kind="command", environment=Environment(variables={"X": "1"}))
        completed = workers.outcome(lane, order)
        assert completed.returncode == 0
        assert completed.text == f"a b {order.task}.1\n"


class TestBuffers:
    def test_large_values_travel_beside_the_message(self, workers: Any, lane: Any) -> None:
        assert workers.outcome(lane, workers.order(zeros, 100_000)).shape == (100_000,)
        (ended,) = workers.ends(lane)
        assert len(ended.outcome.data) < 1000
        assert ended.outcome.buffers[0].size == 800_000

    def test_what_a_task_keeps_is_told_until_it_lets_go(self, workers: Any, lane: Any) -> None:
        assert workers.outcome(lane, workers.order(keep, np.ones(100_000))) == 100_000
        workers.until(lambda: any(isinstance(one, Kept) for one in workers.reports[1]))
        workers.outcome(lane, workers.order(let_go))
        workers.until(lambda: any(isinstance(one, Released) for one in workers.reports[1]))

    def test_what_a_task_only_reads_is_not(self, workers: Any, lane: Any) -> None:
        assert workers.outcome(lane, workers.order(len, np.ones(100_000))) == 100_000
        workers.outcome(lane, workers.order(let_go))
        assert {type(one) for one in workers.reports[1]} <= {Ended, Began}


class TestClaims:
    def test_what_was_taken_back_is_not_run(self, workers: Any, lane: Any, gate: Gate, tmp_path: Path) -> None:
        notes = tmp_path / "notes"
        orders = [workers.order(note, number, notes) for number in range(5)]
        lane.send([workers.order(held, gate.path), *orders])
        gate.wait_entered()
        assert lane.take_back(keep=2) == orders[2:]
        lane.send([orders[4]])
        gate.open()
        workers.until(lambda: not lane.fifo)
        assert notes.read_text().split() == ["0", "1", "4"]

    def test_all_may_be_taken_back_before_it_is_born(self, workers: Any, tmp_path: Path) -> None:
        lane = workers.open()
        orders = [workers.order(note, number, tmp_path / "notes") for number in range(5)]
        lane.send(orders)
        assert lane.take_back() == orders
        lane.send(orders[3:])
        workers.until(lambda: not lane.fifo)
        assert (tmp_path / "notes").read_text().split() == ["3", "4"]

    @pytest.mark.parametrize("seed", range(3))
    def test_each_order_is_run_once_whatever_is_taken_back(self, workers: Any, tmp_path: Path, seed: int) -> None:
        chance, notes = random.Random(seed), tmp_path / "notes"
        lanes = [workers.open(), workers.open()]
        ready = deque(workers.order(note, number, notes) for number in range(400))
        while ready or any(lane.fifo for lane in lanes):
            lane = chance.choice(lanes)
            if ready and chance.random() < 0.5:
                lane.send([ready.popleft() for _ in range(min(len(ready), chance.randint(1, 40)))])
            else:
                ready.extend(lane.take_back(chance.choice([0, 1, 5])))
            workers.turn()
        assert sorted(map(int, notes.read_text().split())) == list(range(400))

    def test_an_idle_one_ends_with_its_driver(self, workers: Any, lane: Any) -> None:
        workers.outcome(lane, workers.order(pid))
        lane.close()
        assert workers.died(lane).status == 0

    def test_one_that_waits_for_a_claim_ends_with_its_driver(self, workers: Any, lane: Any) -> None:
        workers.outcome(lane, workers.order(pid))
        lane.send([workers.order(echo, 1)] * 100)
        lane.take_back()
        lane.close()
        assert workers.died(lane).status == 0


class TestStops:
    def test_a_running_attempt_ends_and_the_worker_stays(self, workers: Any, lane: Any, gate: Gate) -> None:
        order = workers.order(held, gate.path)
        lane.send([order])
        gate.wait_entered()
        lane.stop(order, workers.signal)
        workers.until(lambda: not lane.fifo)
        (ended,) = workers.ends(lane)
        assert ended.outcome.kind == CANCELLED
        assert workers.outcome(lane, workers.order(pid)) == lane.pid

    def test_a_stop_that_comes_too_late_hits_nobody(self, workers: Any, lane: Any, gate: Gate) -> None:
        over = workers.order(echo, 1)
        workers.outcome(lane, over)
        running = workers.order(held, gate.path)
        lane.send([running])
        gate.wait_entered()
        lane.stop(over, workers.signal)
        gate.open()
        workers.until(lambda: not lane.fifo)
        assert workers.value(workers.ends(lane)[-1]) == "let go"

    def test_a_signal_without_a_stop_hits_nobody(self, workers: Any, lane: Any, gate: Gate) -> None:
        worker = workers.outcome(lane, workers.order(pid))
        lane.send([workers.order(held, gate.path)])
        gate.wait_entered()
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGINT)
        gate.open()
        workers.until(lambda: not lane.fifo)
        assert workers.value(workers.ends(lane)[-1]) == "let go"

    def test_it_reaches_even_one_that_catches_all_it_knows(self, workers: Any, lane: Any, gate: Gate) -> None:
        def stubborn(path: Path) -> str:
            try:
                return path.read_text()
            except Exception:
                return "went on"

        order = workers.order(stubborn, gate.path)
        lane.send([order])
        gate.wait_entered()
        lane.stop(order, workers.signal)
        workers.until(lambda: not lane.fifo)
        assert workers.ends(lane)[-1].outcome.kind == CANCELLED

    def test_a_command_gets_the_signal_and_has_its_time(self, workers: Any, lane: Any, gate: Gate) -> None:
        def line(path: Path) -> str:
            return f"trap 'echo bye; exit 3' TERM; cat {path} & wait"

        order = workers.order(line, gate.path, kind="command")
        lane.send([order])
        gate.wait_entered()
        lane.stop(order, workers.signal)
        workers.until(lambda: not lane.fifo)
        outcome = workers.ends(lane)[-1].outcome
        assert isinstance(outcome, Failure)
        assert Path(outcome.stdout).read_text() == "bye\n"
        assert workers.outcome(lane, workers.order(pid)) == lane.pid


class TestNotices:
    def test_a_function_sees_it_and_asks_to_be_run_again(self, workers: Any, lane: Any, gate: Gate) -> None:
        order = workers.order(save_when_told, gate.path)
        lane.send([order])
        gate.wait_entered()
        gate.open()
        workers.warn(lane, order, LATE)
        workers.until(lambda: not lane.fifo)
        outcome = workers.ends(lane)[-1].outcome
        assert (outcome.kind, outcome.message) == (REQUEUED, f"Requeue: {order.task} saved")
        assert workers.outcome(lane, workers.order(pid)) == lane.pid

    def test_one_that_comes_too_late_hits_nobody(self, workers: Any, lane: Any, gate: Gate) -> None:
        over = workers.order(echo, 1)
        workers.outcome(lane, over)
        running = workers.order(is_ending, gate.path)
        lane.send([running])
        gate.wait_entered()
        workers.warn(lane, over, LATE)
        os.kill(lane.pid, signal.SIGUSR1)
        gate.open()
        workers.until(lambda: not lane.fifo)
        assert workers.value(workers.ends(lane)[-1]) is False

    def test_who_was_told_nothing_is_not_run_again(self, workers: Any, lane: Any) -> None:
        def ask() -> None:
            raise heald.Requeue

        outcome = workers.outcome(lane, workers.order(ask))
        assert outcome.kind == USER
        assert "notice=" in outcome.hint
        outcome = workers.outcome(lane, workers.order(lambda: "exit 75", kind="command"))
        assert (outcome.kind, outcome.exit) == (USER, 75)

    def test_a_handler_of_its_own_is_gone_after_it(self, workers: Any, lane: Any, gate: Gate, tmp_path: Path) -> None:
        def handle(path: Path) -> list[int]:
            told: list[int] = []
            signal.signal(signal.SIGUSR1, lambda number, frame: told.append(number))
            path.read_text()
            while not told:
                os.sched_yield()
            return told

        order = workers.order(handle, gate.path)
        lane.send([order])
        gate.wait_entered()
        gate.open()
        workers.warn(lane, order, LATE)
        workers.until(lambda: not lane.fifo)
        assert workers.value(workers.ends(lane)[-1]) == [signal.SIGUSR1]
        second = Gate(tmp_path / "second")
        again = workers.order(save_when_told, second.path)
        lane.send([again])
        second.wait_entered()
        second.open()
        workers.warn(lane, again, LATE)
        workers.until(lambda: not lane.fifo)
        assert workers.ends(lane)[-1].outcome.kind == REQUEUED

    @pytest.mark.parametrize("why", [LATE, LEAVING])
    def test_a_command_gets_the_signal(self, workers: Any, lane: Any, gate: Gate, why: bytes) -> None:
        order = workers.order(lambda path: f"trap 'exit 75' USR1; cat {path} & wait", gate.path, kind="command")
        lane.send([order])
        gate.wait_entered()
        workers.warn(lane, order, why)
        workers.until(lambda: not lane.fifo)
        outcome = workers.ends(lane)[-1].outcome
        assert (outcome.kind, outcome.exit) == (REQUEUED, 75)
        assert workers.outcome(lane, workers.order(pid)) == lane.pid

    @pytest.mark.parametrize(("why", "kind"), [(LATE, USER), (LEAVING, REQUEUED)])
    def test_one_that_ends_of_it_would_have_ended_with_its_node(
        self, workers: Any, lane: Any, gate: Gate, why: bytes, kind: str
    ) -> None:
        order = workers.order(lambda path: ["cat", str(path)], gate.path, kind="command")
        lane.send([order])
        gate.wait_entered()
        workers.warn(lane, order, why)
        workers.until(lambda: not lane.fifo)
        outcome = workers.ends(lane)[-1].outcome
        assert (outcome.kind, outcome.exit) == (kind, -signal.SIGUSR1)

    def test_what_a_shell_started_may_save_its_state(self, workers: Any, lane: Any, gate: Gate, tmp_path: Path) -> None:
        program = tmp_path / "program"
        program.write_text(
            f"#!/bin/sh\ntrap 'sleep 0.2; echo saved > {tmp_path}/state; exit' USR1\ncat {gate.path} & wait\n"
        )
        program.chmod(0o700)
        order = workers.order(lambda: f"{program}; echo never", kind="command")
        lane.send([order])
        gate.wait_entered()
        workers.warn(lane, order, LEAVING)
        workers.until(lambda: not lane.fifo)
        assert workers.ends(lane)[-1].outcome.kind == REQUEUED
        assert (tmp_path / "state").read_text() == "saved\n"

    def test_a_command_is_not_begun_any_more(self, workers: Any, lane: Any, gate: Gate, tmp_path: Path) -> None:
        def line(path: Path, file: Path) -> str:
            path.read_text()
            while not heald.current_attempt().ending:
                os.sched_yield()
            return f"touch {file}"

        order = workers.order(line, gate.path, tmp_path / "begun", kind="command")
        lane.send([order])
        gate.wait_entered()
        gate.open()
        workers.warn(lane, order, LEAVING)
        workers.until(lambda: not lane.fifo)
        assert workers.ends(lane)[-1].outcome.kind == REQUEUED
        assert not (tmp_path / "begun").exists()


def test_it_knows_that_it_is_a_worker(workers: Any, lane: Any) -> None:
    def is_worker() -> bool:
        return bool(sys.modules["heald.run.worker"].running)

    assert workers.outcome(lane, workers.order(is_worker)) is True
    assert not worker.running
