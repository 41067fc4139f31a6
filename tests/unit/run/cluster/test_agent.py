"""A real agent with real workers, in a process of its own; the head is the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import heald
from heald.core.event import Failure
from heald.core.resources import Resources
from heald.core.retry import CANCELLED, REFUSED, REQUEUED, WORKER_LOST
from heald.core.version import __version__
from heald.run.cluster import dialogue
from heald.run.cluster.dialogue import (
    Began,
    Broken,
    Ended,
    Gone,
    Retire,
    Returned,
    Stands,
    Stop,
    Sweep,
    TakeBack,
)
from heald.testing.executor import Gate
from heald.testing.work import echo, held

from .conftest import Head

AGENT = """
import sys
from pathlib import Path
import msgspec
from heald.run.cluster import settings
from heald.run.cluster.agent import Agent
from heald.site import node

given = settings.read(Path(sys.argv[1]))
machine = msgspec.structs.replace(node.machine(), name="n1", cpus=(0, 1), gpus=("7",), memory=10**9)
try:
    print("over:", Agent(given, machine, float(sys.argv[2])).serve())
except ConnectionError as raised:
    print(type(raised).__name__, raised)
"""

Start = Callable[..., subprocess.Popen[str]]


class Case:
    """A head, and its agent."""

    def __init__(self, head: Head, process: subprocess.Popen[str]) -> None:
        self.head = head
        self.process = process
        self.stands: Stands | None = None  # the first that it told

    def end(self) -> str:
        """Serve until the agent has ended; what it printed."""
        self.head.until(lambda: self.process.poll() is not None)
        return self.process.communicate()[0]


@pytest.fixture
def begin(open_head: Callable[..., Head], start: Start) -> Callable[..., Case]:
    """Starts an agent, which has come; one with one lane, unless told otherwise."""

    def make(left: float = 1e6, *, lanes: int = 1, **given: Any) -> Case:
        head = open_head(**given)
        case = Case(head, start([sys.executable, "-c", AGENT, str(head.file), str(left)]))
        case.stands = head.next(Stands)
        for lane in range(1, lanes + 1):
            head.open(lane)
        return case

    return make


@pytest.fixture
def gate(tmp_path: Path) -> Any:
    made = Gate(tmp_path / "gate")
    yield made
    made.open()


def hold(case: Case, gate: Gate, lane: int = 1) -> tuple[Any, Began]:
    """Have the lane run something that waits at the gate, and is inside now."""
    order = case.head.run(lane, held, gate.path)
    began = case.head.next(Began)
    gate.wait_entered()
    return order, began


class TestWork:
    def test_it_says_what_it_is_and_has(self, begin: Callable[..., Case]) -> None:
        case = begin(left=100.0)
        (hello,) = case.head.hellos
        assert (hello.allocation, hello.host, hello.heald) == ("a1", "n1", __version__)
        assert (hello.cpus, hello.gpus, hello.memory) == ((0, 1), ("7",), 10**9)
        assert (hello.place, hello.python) == (os.getpid(), sys.version.split()[0])
        assert case.stands is not None
        assert 90 < case.stands.left <= 100
        assert hello.endpoint.startswith("tcp://127.0.0.1:")

    def test_orders_are_run(self, begin: Callable[..., Case]) -> None:
        head = begin(lanes=2).head
        first, second = head.run(1, echo, "warp"), head.run(2, echo, "weft")
        ends = {one.task: (one.lane, head.value(one.outcome)) for one in (head.next(Ended), head.next(Ended))}
        assert ends == {first.task: (1, "warp"), second.task: (2, "weft")}

    def test_large_values_come_and_go_in_parts(self, begin: Callable[..., Case]) -> None:
        numpy = pytest.importorskip("numpy")
        head = begin().head
        head.run(1, echo, numpy.arange(300_000))
        assert head.value(head.next(Ended).outcome)[-1] == 299_999

    def test_what_was_not_begun_is_given_back(self, begin: Callable[..., Case], gate: Gate) -> None:
        case = begin()
        hold(case, gate)
        waiting = [case.head.run(1, echo, number) for number in range(3)]
        case.head.tell(TakeBack(1, 1))
        assert case.head.next(Returned).orders == [(order.task, 1) for order in waiting[1:]]
        case.head.tell(TakeBack(1, 0), TakeBack(1, 0))
        assert case.head.next(Returned).orders == [(waiting[0].task, 1)]
        assert case.head.next(Returned).orders == []

    def test_an_attempt_is_stopped(self, begin: Callable[..., Case], gate: Gate) -> None:
        case = begin()
        order, _ = hold(case, gate)
        verdict = Failure(CANCELLED, "cancelled")
        case.head.tell(Stop(1, order.task, 2, verdict))  # another attempt than this
        case.head.tell(Stop(1, order.task, 1, verdict))
        assert case.head.next(Ended).outcome == verdict

    def test_one_whose_time_ends_is_told(self, begin: Callable[..., Case]) -> None:
        def wait() -> None:
            while not heald.current_attempt().ending:
                os.sched_yield()
            raise heald.Requeue

        head = begin(left=100.0, notice=99.9).head
        head.run(1, wait)
        outcome = head.next(Ended).outcome
        assert isinstance(outcome, Failure)
        assert outcome.kind == REQUEUED

    def test_ranks_that_nothing_can_start_are_refused(
        self, begin: Callable[..., Case], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        head = begin(lanes=0).head
        head.open(1, Resources(ranks=2))
        head.run(1, echo, 1)
        outcome = head.next(Ended).outcome
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.final) == (REFUSED, True)
        assert "mpiexec" in outcome.message

    def test_what_an_attempt_left_is_swept_up(self, begin: Callable[..., Case], gate: Gate) -> None:
        head = begin().head
        order = head.run(1, lambda path: ["cat", str(path)], gate.path, kind="command")
        head.next(Began)
        gate.wait_entered()
        head.tell(Sweep(order.task, 2), Sweep(order.task, 1))
        outcome = head.next(Ended).outcome
        assert isinstance(outcome, Failure)
        assert outcome.exit == -signal.SIGKILL


class TestDeath:
    def test_of_a_worker(self, begin: Callable[..., Case], gate: Gate) -> None:
        case = begin()
        order, began = hold(case, gate)
        os.kill(began.pid, signal.SIGKILL)
        gone = case.head.next(Gone)
        assert (gone.lane, gone.task) == (1, order.task)
        assert gone.failure is not None
        assert gone.failure.kind == WORKER_LOST

    def test_of_a_worker_that_had_nothing_to_do(self, begin: Callable[..., Case]) -> None:
        head = begin().head
        head.run(1, os.getpid)
        os.kill(head.value(head.next(Ended).outcome), signal.SIGKILL)
        assert head.next(Gone) == Gone(1)

    def test_of_every_worker(self, begin: Callable[..., Case]) -> None:
        head = begin(lanes=3, initializer=cloudpickle.dumps(os.abort)).head
        assert "workers die before they run anything" in head.next(Broken).reason

    def test_of_every_worker_before_it_is_there(self, begin: Callable[..., Case], tmp_path: Path) -> None:
        (tmp_path / "logs").write_text("no folder can be made here")
        head = begin(lanes=0).head
        assert "workers cannot be started: [Errno 17]" in head.next(Broken).reason

    def test_of_the_head(self, begin: Callable[..., Case], open_head: Callable[..., Head], gate: Gate) -> None:
        """The next one is told what runs, and what has ended and perhaps was not on record."""
        case = begin(lanes=2)
        running, _ = hold(case, gate)
        case.head.close()
        case.head.run(2, echo, "lost with the head")
        next_head = open_head(port=case.head.port)
        case.head = next_head
        stands = next_head.next(Stands)
        assert [(one.lane, one.name, one.orders) for one in stands.lanes] == [(1, "a1.n-1", [(running.task, 1)])]
        assert stands.ends == []
        gate.open()
        ended = next_head.next(Ended)
        assert (ended.task, next_head.value(ended.outcome)) == (running.task, "let go")

    def test_what_ended_while_there_was_no_head_is_told_to_the_next(
        self, begin: Callable[..., Case], open_head: Callable[..., Head], gate: Gate, tmp_path: Path
    ) -> None:
        case, behind = begin(), Gate(tmp_path / "behind")
        first, _ = hold(case, gate)
        second = case.head.run(1, held, behind.path)
        case.head.settle()
        case.head.close()
        gate.open()
        behind.wait_entered()
        case.head = open_head(port=case.head.port)
        found = case.head.next(Stands)
        behind.open()
        assert [(one.task, case.head.value(one.outcome)) for one in found.ends] == [(first.task, "let go")]
        assert [one.orders for one in found.lanes] == [[(second.task, 1)]]


class TestEnd:
    def test_when_the_head_says_so(self, begin: Callable[..., Case]) -> None:
        case = begin()
        case.head.tell(Retire("nothing is left to do"))
        assert case.end() == "over: nothing is left to do\n"
        assert case.head.losses == ["nothing is left to do"]

    def test_when_the_allocation_is_over(self, begin: Callable[..., Case], gate: Gate) -> None:
        case = begin(left=1.0)
        _, began = hold(case, gate)
        case.end()
        assert case.head.losses == [dialogue.OVER]
        assert not Path(f"/proc/{began.pid}").exists()

    def test_when_it_is_told_by_the_system(self, begin: Callable[..., Case]) -> None:
        case = begin()
        case.process.terminate()
        assert "SIGTERM" in case.end()

    def test_when_no_head_comes_back_for_the_time_of_its_lease(self, begin: Callable[..., Case]) -> None:
        case = begin(silence=0.5, lease=1.0)
        case.head.close()
        assert "nothing was heard of the head for 1 s" in case.process.communicate(timeout=20)[0]

    def test_when_it_is_not_wanted(self, open_head: Callable[..., Head], start: Start) -> None:
        head = open_head()
        head.refusal = "Python 3.8 on n1 and 3.11 here"
        case = Case(head, start([sys.executable, "-c", AGENT, str(head.file), "inf"]))
        assert case.end() == "Refused Python 3.8 on n1 and 3.11 here\n"

    def test_when_nobody_listens_where_it_was_told(self, open_head: Callable[..., Head], start: Start) -> None:
        head = open_head()
        head.close()
        begun = time.monotonic()
        process = start([sys.executable, "-c", AGENT, str(head.file), "inf"])
        assert f"Unreachable nobody answers: tcp://127.0.0.1:{head.port}: " in process.communicate(timeout=40)[0]
        assert time.monotonic() - begun < 20
