"""What became of every task, folded from the events of a run: the same graph as the engine's, with a memory.

Tables, explanations and a run that goes on after a crash all start here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from heald.core.event import (
    Closed,
    Defined,
    Event,
    Expanded,
    Failure,
    Finished,
    Opened,
    Placed,
    Started,
    Submitted,
    Usage,
)
from heald.core.graph import Graph, Ready, Settle
from heald.core.state import State
from heald.core.task import Task, Work


class Record:
    """One task so far. Times are seconds since the epoch, 0 for what has not happened."""

    __slots__ = (
        "attempt",
        "executor",
        "outcome",
        "pid",
        "placed",
        "recalled",
        "settled",
        "started",
        "state",
        "submitted",
        "task",
        "usage",
        "worker",
    )

    def __init__(self, task: Task, submitted: float) -> None:
        self.task = task
        self.submitted = submitted
        self.state = State.waiting
        self.attempt = 0
        self.placed = 0.0
        self.started = 0.0
        self.settled = 0.0
        self.executor = ""
        self.worker = ""
        self.pid = 0
        self.outcome: Any = None
        self.usage: Usage | None = None
        self.recalled = False

    @property
    def failure(self) -> Failure | None:
        """Why it failed or was cancelled."""
        return self.outcome if isinstance(self.outcome, Failure) else None


class History:
    """All tasks of a run by id, in the order in which they were submitted."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.graph = Graph()
        self.opened: list[Opened] = []
        self.closed: Closed | None = None
        self.events = 0

    @property
    def works(self) -> dict[bytes, Work]:
        """The works that tasks refer to."""
        return self.graph.works

    def work(self, record: Record) -> Work:
        """The work of a task."""
        return self.graph.works[record.task.work]

    def extend(self, events: Iterable[Event]) -> None:
        """Take in what happened next."""
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Take in one event."""
        self.events += 1
        if isinstance(event, Defined):
            self.graph.works[event.digest] = event.work
        elif isinstance(event, Opened):
            self._open(event)
        elif isinstance(event, Closed):
            self.closed = event
        else:
            self._task(event)

    def _open(self, event: Opened) -> None:
        """Another process goes on with the run: what was under way is to be run again."""
        self.opened.append(event)
        self.closed = None
        self.graph.nodes.clear()
        for record in self.records.values():
            if not record.state.final:
                record.state = State.waiting

    def _task(self, event: Any) -> None:
        task = event.task
        record = self.records.get(task)
        given: dict[int, Any] = {}
        if isinstance(event, Submitted):
            if record is None:
                record = self.records[task] = Record(event.record, event.time)
            else:  # taken up again by a later process
                record.state, record.outcome = State.waiting, None
            given = self._outcomes(event.record.inputs)
        elif record is None:
            return
        elif isinstance(event, Placed):
            record.attempt, record.placed, record.started = event.attempt, event.time, 0.0
            record.executor, record.worker = event.executor, event.worker
        elif isinstance(event, Started):
            record.started, record.pid = event.time, event.pid
        elif isinstance(event, Finished):
            record.usage, record.recalled = event.usage, event.recalled
            record.started = event.usage.started or record.started
        elif isinstance(event, Expanded):
            given = self._outcomes(event.children)
        for action in self.graph.apply(event, given):
            if isinstance(action, Settle):
                self._settle(action, event.time)
            elif isinstance(action, Ready):
                self.records[action.task].state = State.ready
        node = self.graph.nodes.get(task)
        if node is not None:
            record.state = node.state

    def _outcomes(self, tasks: Iterable[int]) -> dict[int, Any]:
        nodes, records = self.graph.nodes, self.records
        lost = Failure("", "its end is not in the journal")
        return {
            task: (records[task].outcome or lost) if task in records else lost for task in tasks if task not in nodes
        }

    def _settle(self, action: Settle, time: float) -> None:
        record = self.records[action.task]
        record.state, record.outcome, record.settled = action.state, action.outcome, time
