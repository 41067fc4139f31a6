"""A graph under test: every event that it is given is checked against the tables of `core.state`, and kept."""

from __future__ import annotations

from typing import Any

from heald.core.event import (
    Cancelled,
    Defined,
    Due,
    Event,
    Expanded,
    Failure,
    Finished,
    Placed,
    Returned,
    Started,
    Submitted,
    TaskEvent,
)
from heald.core.graph import Action, Graph, Pause, Ready, Settle, Stop, Withdraw
from heald.core.retry import ONCE, USER, Retry
from heald.core.state import CASCADES, TRANSITIONS, State
from heald.core.task import FUNCTION, Payload, Task, Work

VALUE = Payload(b"value")
SHAPE = Payload(b"shape")


class Driver:
    """Applies events as the engine does, one by one, at a clock of its own."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.events: list[Event] = []
        self.settled: dict[int, Settle] = {}
        self.pauses: dict[int, Pause] = {}
        self.tasks = 0

    # -- what happens ------------------------------------------------------------------------------------------------

    def work(self, name: str = "f", retry: Retry = ONCE, **options: Any) -> bytes:
        work = Work(name, FUNCTION, b"function", retry=retry, **options)
        digest = work.digest()
        if digest not in self.graph.works:
            self.graph.works[digest] = work
            self.events.append(Defined(digest, work))
        return digest

    def submit(self, *inputs: int, work: bytes | None = None, handle: Any = None) -> int:
        self.tasks += 1
        record = Task(self.tasks, work or self.work(), Payload(b"arguments"), inputs)
        self.apply(Submitted(record.id, self.time, record), handle)
        return record.id

    def place(self, task: int) -> int:
        attempt = self.graph.nodes[task].attempt + 1
        self.apply(Placed(task, self.time, attempt, "process", "worker-1"))
        return attempt

    def start(self, task: int) -> int:
        attempt = self.place(task)
        self.apply(Started(task, self.time, attempt, 4711))
        return attempt

    def finish(self, task: int, outcome: Payload | Failure = VALUE) -> list[Action]:
        """Run the task from where it is to its end."""
        node = self.graph.nodes[task]
        if node.state is State.ready:
            self.place(task)
        return self.apply(Finished(task, self.time, node.attempt, outcome))

    def fail(self, task: int, message: str = "ValueError: no", kind: str = USER, **facts: Any) -> list[Action]:
        return self.finish(task, Failure(kind, message, **facts))

    def expand(self, task: int, *children: int, shape: Payload | None = SHAPE) -> list[Action]:
        node = self.graph.nodes[task]
        if node.state is State.ready:
            self.place(task)
        return self.apply(Expanded(task, self.time, node.attempt, children, shape))

    def due(self, task: int) -> list[Action]:
        return self.apply(Due(task, self.time, self.graph.nodes[task].attempt))

    def give_back(self, task: int) -> list[Action]:
        return self.apply(Returned(task, self.time, self.graph.nodes[task].attempt))

    def cancel(self, task: int, reason: str = "by its owner") -> list[Action]:
        return self.apply(Cancelled(task, self.time, reason))

    # -- what is checked ---------------------------------------------------------------------------------------------

    def apply(self, event: TaskEvent, handle: Any = None) -> list[Action]:
        graph = self.graph
        before = {task: node.state for task, node in graph.nodes.items()}
        attempts = {task: node.attempt for task, node in graph.nodes.items()}
        self.events.append(event)
        actions = graph.apply(event, self._given(event), handle)
        over = {action.task: action.state for action in actions if isinstance(action, Settle)}
        after = over | {task: node.state for task, node in graph.nodes.items()}
        assert before.keys() | {event.task} >= after.keys() >= before.keys()
        for task, state in after.items():
            old = before.get(task, State.waiting)
            if state is not old:
                allowed = TRANSITIONS.get((old, type(event).__name__.lower()), ()) if task == event.task else ()
                assert state in (allowed or CASCADES[old] if task != event.task else allowed), (event, old, state)
        for action in actions:
            self._check(action, before, attempts)
        return actions

    def _check(self, action: Action, before: dict[int, State], attempts: dict[int, int]) -> None:
        if isinstance(action, Withdraw):
            assert before[action.node.record.id] is State.ready
            return
        task = action.task
        if isinstance(action, Settle):
            assert task not in self.settled, "settled twice"
            assert task not in self.graph.nodes
            assert action.state.final
            self.settled[task] = action
        elif isinstance(action, Stop):
            assert before[task] in (State.placed, State.running)
            assert action.attempt == attempts[task]
        elif isinstance(action, Ready):
            assert self.graph.nodes[task].state is State.ready
        else:
            assert self.graph.nodes[task].state is State.waiting
            assert action.seconds > 0
            self.pauses[task] = action

    def _given(self, event: TaskEvent) -> dict[int, Any]:
        needed = (
            event.record.inputs
            if isinstance(event, Submitted)
            else event.children
            if isinstance(event, Expanded)
            else ()
        )
        return {task: self.settled[task].outcome for task in needed if task in self.settled}

    # -- looking -----------------------------------------------------------------------------------------------------

    @property
    def time(self) -> float:
        return 1e9 + len(self.events)

    def state(self, task: int) -> State:
        return self.settled[task].state if task in self.settled else self.graph.nodes[task].state

    def states(self, *tasks: int) -> list[str]:
        return [self.state(task).name for task in tasks]

    def failure(self, task: int) -> Failure:
        outcome = self.settled[task].outcome
        assert isinstance(outcome, Failure)
        return outcome
