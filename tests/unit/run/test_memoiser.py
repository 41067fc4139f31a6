from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import heald
from heald.core.event import Cancelled, Failure, Finished, Placed, Submitted, TaskEvent
from heald.core.graph import Graph, Node, Ready, Settle
from heald.core.ref import Ref
from heald.core.retry import USER
from heald.core.task import Payload, Task, Work
from heald.data.arena import Arena
from heald.data.memo import Memo
from heald.data.payload import pack, unpack
from heald.run.memoiser import Memoiser
from heald.run.outcome import Live
from heald.run.tally import Tally

WORK = Work("simulate", "function", b"f", memo=True)
KEY, OTHER = b"k" * 16, b"o" * 16
np = pytest.importorskip("numpy")


class FakeHost:
    """An engine with a graph and no executor: `placed` tasks end when the test says so."""

    def __init__(self, memo: Memo) -> None:
        self.arena = Arena(capacity=1 << 24)
        self.promised: dict[int, Any] = {}
        self.tally = Tally()
        self.graph = Graph()
        self.graph.works[b"w"] = WORK
        self.inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.placed: list[int] = []
        self.outcomes: dict[int, Any] = {}
        self.memoiser = Memoiser(memo, self)

    def post(self, act: Callable[[], None]) -> None:
        self.inbox.put(act)

    def happened(self, event: TaskEvent) -> None:
        self.apply(event)

    def node(self, task: int) -> Node | None:
        return self.graph.nodes.get(task)

    def place(self, node: Node) -> None:
        self.placed.append(node.record.id)

    def now(self) -> float:
        return 5.0

    def kept_value(self, ref: Ref) -> bytearray:
        raise AssertionError(ref)

    # -- what a test does --------------------------------------------------------------------------------------------

    def apply(self, event: TaskEvent) -> None:
        for action in self.graph.apply(event):
            if isinstance(action, Ready):
                node = self.graph.nodes[action.task]
                if not self.memoiser.ask(node):
                    self.place(node)
            elif isinstance(action, Settle):
                self.outcomes[action.task] = action.outcome
                self.memoiser.settled(action.task, action.outcome)

    def submit(self, task: int, key: bytes = KEY, inputs: tuple[int, ...] = ()) -> None:
        self.apply(Submitted(task, 1.0, Task(task, b"w", Payload(b""), inputs, key)))

    def turn(self) -> None:
        """Do the next thing that the memo's thread asks for."""
        self.inbox.get(timeout=20)()

    def run(self, task: int, outcome: Any, seconds: float = 2.5) -> None:
        attempt = self.graph.nodes[task].attempt + 1
        self.apply(Placed(task, 2.0, attempt, "process", "worker-1"))
        self.memoiser.measured(task, seconds)
        self.apply(Finished(task, 3.0, attempt, outcome))

    def value(self, task: int) -> Any:
        return unpack(self.outcomes[task], self.arena)


def packed(value: object, arena: Arena | None = None) -> Payload:
    return pack(value, arena, subject="a value")[0]


@pytest.fixture
def memo(tmp_path: Path) -> Memo:
    return Memo(tmp_path / "memo")


@pytest.fixture
def make(memo: Memo) -> Iterator[Callable[[], FakeHost]]:
    made: list[FakeHost] = []

    def new() -> FakeHost:
        made.append(FakeHost(memo))
        return made[-1]

    yield new
    for host in made:
        host.memoiser.close()


@pytest.fixture
def host(make: Callable[[], FakeHost]) -> FakeHost:
    return make()


def test_what_is_not_known_is_run_and_kept(host: FakeHost, memo: Memo, make: Callable[[], FakeHost]) -> None:
    host.submit(1)
    assert host.placed == []
    host.turn()
    assert host.placed == [1]
    host.run(1, packed({"energy": 1.5}))
    host.memoiser.close()
    (entry,) = memo.ls()
    assert (entry.name, entry.seconds) == ("simulate", 2.5)

    again = make()
    again.submit(7)
    again.turn()
    assert again.placed == []
    assert again.value(7) == {"energy": 1.5}
    assert again.tally.recalled == 1


def test_a_renewed_task_is_run_and_kept_anew(host: FakeHost, make: Callable[[], FakeHost]) -> None:
    host.submit(1)
    host.turn()
    host.run(1, packed("old"))
    host.memoiser.close()
    again = make()
    again.memoiser.renew(1)
    again.submit(1)
    again.turn()
    assert again.placed == [1]
    again.run(1, packed("new"))
    again.memoiser.close()
    last = make()
    last.submit(1)
    last.turn()
    assert last.value(1) == "new"


def test_large_buffers_are_kept_too(host: FakeHost, make: Callable[[], FakeHost]) -> None:
    array = np.arange(100_000)
    host.submit(1)
    host.turn()
    host.run(1, packed(array, host.arena))
    host.memoiser.close()
    again = make()
    again.submit(1)
    again.turn()
    assert (again.value(1) == array).all()


def test_a_task_without_a_key_is_run(host: FakeHost) -> None:
    host.submit(1, key=b"")
    assert host.placed == [1]


def test_the_values_of_inputs_count(host: FakeHost, make: Callable[[], FakeHost]) -> None:
    def use(host: FakeHost, value: object) -> None:
        host.submit(1, key=b"")
        host.submit(2, inputs=(1,))
        host.run(1, packed(value))
        host.turn()

    use(host, "a")
    host.run(2, packed("from a"))
    host.memoiser.close()
    same, other = make(), make()
    use(same, "a")
    use(other, "b")
    assert same.value(2) == "from a"
    assert other.placed == [1, 2]


def test_an_input_that_cannot_travel_makes_it_run(host: FakeHost) -> None:
    host.submit(1, key=b"")
    host.submit(2, inputs=(1,))
    host.run(1, Live(lambda: 1 / 0, lazy=True))
    assert host.placed == [1, 2]


class TestTwins:
    def test_only_one_of_them_runs(self, host: FakeHost) -> None:
        for task in (1, 2, 3):
            host.submit(task)
        host.submit(4, key=OTHER)
        for _ in range(4):
            host.turn()
        assert host.placed == [1, 4]
        host.run(1, packed("value"))
        assert [host.value(task) for task in (1, 2, 3)] == ["value"] * 3
        assert host.tally.recalled == 2

    def test_after_a_failure_the_next_one_tries(self, host: FakeHost) -> None:
        for task in (1, 2, 3):
            host.submit(task)
            host.turn()
        host.run(1, Failure(USER, "broken"))
        assert host.placed == [1, 2]
        assert 3 not in host.outcomes
        host.run(2, packed("value"))
        assert host.value(3) == "value"

    def test_one_that_was_cancelled_is_passed_over(self, host: FakeHost) -> None:
        for task in (1, 2, 3):
            host.submit(task)
            host.turn()
        host.apply(Cancelled(2, 2.0, "enough"))
        host.apply(Cancelled(1, 2.0, "enough"))
        assert host.placed == [1, 3]

    def test_one_that_is_cancelled_while_it_is_looked_for(self, host: FakeHost) -> None:
        host.submit(1)
        host.apply(Cancelled(1, 2.0, "enough"))
        host.turn()
        assert host.placed == []
        host.submit(2)
        host.turn()
        assert host.placed == [2]


def test_a_value_without_its_files_does_not_count(host: FakeHost, make: Callable[[], FakeHost], tmp_path: Path) -> None:
    file = tmp_path / "traj.dcd"
    host.promised[1] = [heald.File(str(file))]
    host.submit(1)
    host.turn()
    file.touch()
    host.run(1, packed("value"))
    host.memoiser.close()

    there = make()
    there.promised[1] = [heald.File(str(file))]
    there.submit(1)
    there.turn()
    assert there.value(1) == "value"
    file.unlink()
    gone = make()
    gone.promised[1] = [heald.File(str(file))]
    gone.submit(1)
    gone.turn()
    assert gone.placed == [1]


def test_what_cannot_travel_is_not_kept(host: FakeHost, memo: Memo) -> None:
    host.submit(1)
    host.turn()
    host.run(1, Live(lambda: 1 / 0, lazy=True))
    host.memoiser.close()
    assert list(memo.ls()) == []


def test_failures_are_not_kept(host: FakeHost, memo: Memo) -> None:
    host.submit(1)
    host.turn()
    host.run(1, Failure(USER, "broken"))
    host.memoiser.close()
    assert list(memo.ls()) == []


def test_a_memo_that_fails_stops_nothing(
    host: FakeHost, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the memo is broken")

    monkeypatch.setattr(host.memoiser.memo, "get", fail)
    with caplog.at_level(logging.ERROR):
        host.submit(1)
        host.turn()
        assert host.placed == [1]
        host.memoiser.close()
    assert "the run goes on without it" in caplog.text
