"""What became of every task, folded from the events of a run: the same graph as the engine's, with a memory.

Tables, explanations and a run that goes on after a crash all start here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from heald.core.event import (
    Cancelled,
    Closed,
    Defined,
    Due,
    Event,
    Expanded,
    Failure,
    Finished,
    Opened,
    Placed,
    Returned,
    Started,
    Submitted,
    TaskEvent,
    Usage,
)
from heald.core.graph import Action, Graph, Ready, Settle
from heald.core.state import State
from heald.core.task import Task, Work

_KEPT = 9  # failed attempts of a task that are remembered, besides the last
_NONE_GIVEN: Mapping[int, Any] = {}
_LOST = Failure("", "its end is not in the journal")


class Record(msgspec.Struct, gc=False):  # there may be millions, none in a cycle: the collector need not look at them
    """One task so far. Times are seconds since the epoch, 0 for what has not happened."""

    task: Task
    submitted: float
    state: State = State.waiting
    attempt: int = 0
    placed: float = 0.0
    started: float = 0.0
    settled: float = 0.0
    executor: str = ""
    worker: str = ""
    pid: int = 0
    outcome: Any = None
    usage: Usage | None = None
    recalled: bool = False
    failed: tuple[tuple[int, str], ...] = ()  # attempts that were tried again, with what they failed of

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
        _FOLDS[type(event)](self, event)

    def _defined(self, event: Defined) -> None:
        self.graph.works[event.digest] = event.work

    def _opened(self, event: Opened) -> None:
        """Another process goes on with the run."""
        self.opened.append(event)
        self.closed = None
        self.interrupt()

    def interrupt(self) -> None:
        """The process that drove the run is gone: what was under way waits to be run again."""
        self.graph.nodes.clear()
        for record in self.records.values():
            if not record.state.final:
                record.state = State.waiting

    def _closed(self, event: Closed) -> None:
        self.closed = event

    # -- tasks: the graph says what an event changes, the record notes it --------------------------------------------

    def _submitted(self, event: Submitted) -> None:
        task = event.record
        record = self.records.get(task.id)
        if record is None:
            record = self.records[task.id] = Record(task, event.time)
        elif task.id in self.graph.nodes:
            return
        else:  # taken up again by a later process
            record.state, record.outcome, record.settled = State.waiting, None, 0.0
        given = self._outcomes(task.inputs) if task.inputs else _NONE_GIVEN
        self._follow(self.graph.apply(event, given, record), event.time)
        if record.attempt and (node := self.graph.nodes.get(task.id)) is not None:
            node.attempt = record.attempt  # attempts are counted on

    def _placed(self, event: Placed) -> None:
        node = self.graph.nodes.get(event.task)
        if node is not None and event.attempt > node.attempt:
            self.graph.apply(event)
            if node.attempt == event.attempt:
                record: Record = node.handle
                record.state = State.placed
                record.attempt, record.placed, record.started = event.attempt, event.time, 0.0
                record.executor, record.worker = event.executor, event.worker

    def _started(self, event: Started) -> None:
        node = self.graph.nodes.get(event.task)
        if node is not None and event.attempt == node.attempt:
            self.graph.apply(event)
            record: Record = node.handle
            record.state, record.started, record.pid = node.state, event.time, event.pid

    def _finished(self, event: Finished) -> None:
        record = self.records.get(event.task)
        if record is None:
            return
        if event.attempt == record.attempt and not event.recalled:  # of a cancelled attempt it comes after the end
            record.usage = event.usage
            record.started = event.usage.started or record.started
        self._change(event)

    def _change(self, event: TaskEvent) -> None:
        node = self.graph.nodes.get(event.task)
        if node is None:
            return
        given = self._outcomes(event.children) if isinstance(event, Expanded) else _NONE_GIVEN
        actions = self.graph.apply(event, given)
        node.handle.state = node.state
        self._follow(actions, event.time)
        if isinstance(event, Finished):
            record: Record = node.handle
            if record.state.final:
                record.recalled = event.recalled
            elif isinstance(event.outcome, Failure) and event.attempt == node.attempt and actions:
                record.failed = (*record.failed[-_KEPT:], (event.attempt, event.outcome.message))

    def _outcomes(self, tasks: Iterable[int]) -> dict[int, Any]:
        """How those of `tasks` ended that are over."""
        nodes, records = self.graph.nodes, self.records
        return {
            task: _LOST if task not in records or records[task].outcome is None else records[task].outcome
            for task in tasks
            if task not in nodes
        }

    def _follow(self, actions: Iterable[Action], time: float) -> None:
        for action in actions:
            if isinstance(action, Settle):
                record: Record = action.handle
                record.state, record.outcome, record.settled = action.state, action.outcome, time
            elif isinstance(action, Ready):
                self.records[action.task].state = State.ready


_FOLDS: dict[type, Callable[[History, Any], None]] = {
    Defined: History._defined,
    Opened: History._opened,
    Closed: History._closed,
    Submitted: History._submitted,
    Placed: History._placed,
    Started: History._started,
    Finished: History._finished,
    Returned: History._change,
    Expanded: History._change,
    Due: History._change,
    Cancelled: History._change,
}
