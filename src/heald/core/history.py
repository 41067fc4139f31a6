"""What became of every task, folded from the events of a run: the same graph as the engine's, with a memory.

Tables, explanations and a run that goes on after a crash all start here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
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
    Removed,
    Retried,
    Returned,
    Started,
    Submitted,
    TaskEvent,
    Usage,
)
from heald.core.graph import Action, Graph, Node, Ready, Settle, from_label
from heald.core.state import State
from heald.core.task import Payload, Task, Work

_KEPT = 9  # failed attempts of a task that are remembered, besides the last
_NONE_GIVEN: Mapping[int, Any] = {}
_READY, _PLACED, _RUNNING, _DONE = State.ready, State.placed, State.running, State.done
_UNDER_WAY = (_READY, _PLACED, _RUNNING)
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
        return self.outcome if type(self.outcome) is Failure else None


class History:
    """All tasks of a run by id, in the order in which they were submitted.

    Nearly all tasks of a large run lead plain lives: they need no other, none waits for them, and their first end is a
    value. `extend` does for those what the graph would, in a third of the time. The graph hears of a task, as that is
    by then, when another needs it or when anything else happens to it.
    """

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.opened: list[Opened] = []
        self.closed: Closed | None = None
        self.events = 0
        self.expanded: dict[int, tuple[int, ...]] = {}  # joins, and the tasks whose futures their bodies returned
        self.former: dict[int, Any] = {}  # ends that count no more: of tasks that were retried or removed since
        self.remnants: set[int] = set()  # tasks that were removed, and of which the journal still tells
        self._graph = Graph()
        self._taken_up: set[int] = set()  # by a later process, which may find their last attempt still running
        self._places: dict[str, str] = {}  # each name of a place once, rather than for each of its tasks
        self._shown = 0  # events after which the graph was shown everything

    @property
    def graph(self) -> Graph:
        """The tasks that are not over, and what they wait for: all of them, whatever lives they led so far."""
        if self._shown != self.events:
            self._shown = self.events
            for task in self.records:
                self._node(task)
        return self._graph

    @property
    def works(self) -> dict[bytes, Work]:
        """The works that tasks refer to."""
        return self._graph.works

    def work(self, record: Record) -> Work:
        """The work of a task."""
        return self._graph.works[record.task.work]

    def tally(self) -> dict[str, Counter[State]]:
        """How many tasks of each name there are in each state."""
        found: dict[str, Counter[State]] = {}
        for (work, state), count in Counter(map(attrgetter("task.work", "state"), self.records.values())).items():
            found.setdefault(self.works[work].name, Counter())[state] += count
        return found

    def apply(self, event: Event) -> None:
        """Take in one event."""
        self.extend((event,))

    def extend(self, events: Iterable[Event]) -> None:
        """Take in what happened next."""
        # There may be millions of events: for those of plain lives this loop calls nothing. It compares types, since
        # `isinstance` asks the metaclass of a Struct, which takes as long as all the rest.
        records, nodes, known, count = self.records, self._graph.nodes, self._places.setdefault, 0
        for event in events:
            count += 1
            if type(event) is Placed:
                record = records.get(event.task)
                if record is not None and record.state is _READY and event.task not in nodes:
                    if event.attempt > record.attempt:
                        record.state, record.attempt = _PLACED, event.attempt
                        record.placed, record.started = event.time, 0.0
                        record.executor = known(event.executor, event.executor)
                        record.worker = known(event.worker, event.worker)
                        continue
            elif type(event) is Finished:
                record = records.get(event.task)
                if record is not None and event.attempt == record.attempt and event.task not in nodes:
                    state = record.state
                    ends = state is _PLACED or state is _RUNNING or (state is _READY and event.recalled)
                    if ends and type(event.outcome) is Payload:
                        if not event.recalled:
                            record.usage = event.usage
                            record.started = event.usage.started or record.started
                        record.state, record.outcome, record.settled = _DONE, event.outcome, event.time
                        record.recalled = event.recalled
                        continue
            elif type(event) is Submitted:
                if event.task not in records and not event.record.inputs:
                    records[event.task] = Record(event.record, event.time, _READY)
                    continue
            elif type(event) is Started:
                record = records.get(event.task)
                if record is not None and event.attempt == record.attempt and event.task not in nodes:
                    if record.state is _PLACED:
                        record.state, record.started, record.pid = _RUNNING, event.time, event.pid
                        continue
            _FOLDS[type(event)](self, event)
        self.events += count

    def _defined(self, event: Defined) -> None:
        self._graph.works[event.digest] = event.work

    def _opened(self, event: Opened) -> None:
        """Another process goes on with the run."""
        self.opened.append(event)
        self.closed = None
        self.interrupt()

    def interrupt(self) -> None:
        """The process that drove the run is gone: what was under way waits to be run again."""
        self._graph.nodes.clear()
        for record in self.records.values():
            if record.state < _DONE:  # `final` says the same, and takes four times as long
                record.state = State.waiting

    def _closed(self, event: Closed) -> None:
        self.closed = event

    # -- tasks: the graph says what an event changes, the record notes it --------------------------------------------

    def _submitted(self, event: Submitted) -> None:
        task = event.record
        record = self.records.get(task.id)
        if record is None:
            record = self.records[task.id] = Record(task, event.time)
        elif self._node(task.id) is not None:
            return
        else:  # taken up again by a later process
            record.state, record.outcome, record.settled = State.waiting, None, 0.0
            self._taken_up.add(task.id)
        if not task.inputs:
            record.state = State.ready
            return
        self._follow(self._graph.apply(event, self._outcomes(task.inputs), record), event.time)
        if record.attempt and (node := self._graph.nodes.get(task.id)) is not None:
            node.attempt = record.attempt  # attempts are counted on

    def _placed(self, event: Placed) -> None:
        node = self._node(event.task)
        if node is not None and event.attempt == node.attempt and event.task in self._taken_up:
            node.attempt -= 1  # it is the attempt that an earlier process began, on a node that outlived that
        if node is not None and event.attempt > node.attempt:
            self._taken_up.discard(event.task)
            self._graph.apply(event)
            if node.attempt == event.attempt:
                record: Record = node.handle
                record.state = State.placed
                record.attempt, record.placed, record.started = event.attempt, event.time, 0.0
                record.executor, record.worker = event.executor, event.worker

    def _started(self, event: Started) -> None:
        node = self._node(event.task)
        if node is not None and event.attempt == node.attempt:
            self._graph.apply(event)
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
        node = self._node(event.task)
        if node is None:
            return
        given = _NONE_GIVEN
        if isinstance(event, Expanded):
            self.expanded[event.task] = event.children
            given = self._outcomes(event.children)
        actions = self._graph.apply(event, given)
        node.handle.state = node.state
        self._follow(actions, event.time)
        if isinstance(event, Finished):
            record: Record = node.handle
            if record.state.final:
                record.recalled = event.recalled
            elif isinstance(event.outcome, Failure) and event.attempt == node.attempt and actions:
                record.failed = (*record.failed[-_KEPT:], (event.attempt, event.outcome.message))

    def _node(self, task: int) -> Node | None:
        """What the graph has of a task that is not over; from now on also of one that it had not heard of."""
        node = self._graph.nodes.get(task)
        if node is None and (record := self.records.get(task)) is not None and record.state in _UNDER_WAY:
            node = self._graph.nodes[task] = Node(record.task, self.work(record), record, record.state, record.attempt)
        return node

    def _outcomes(self, tasks: Iterable[int]) -> dict[int, Any]:
        """How those of `tasks` ended that are over."""
        return {task: self._outcome(task) for task in tasks if self._node(task) is None}

    def _outcome(self, task: int) -> Any:
        record = self.records.get(task)
        return self.former.get(task, _LOST) if record is None or record.outcome is None else record.outcome

    def _follow(self, actions: Iterable[Action], time: float) -> None:
        for action in actions:
            if isinstance(action, Settle):
                record: Record = action.handle
                record.state, record.outcome, record.settled = action.state, action.outcome, time
            elif isinstance(action, Ready):
                self.records[action.task].state = State.ready

    # -- what somebody outside of the run did ------------------------------------------------------------------------

    def _cancelled(self, event: Cancelled) -> None:
        record = self.records.get(event.task)
        if record is None or self._node(event.task) is not None:
            self._change(event)
        elif not record.state.final or (event.final and record.state is not _DONE):  # nobody was driving it
            record.state, record.settled = State.cancelled, event.time
            record.outcome = from_label(f"{self.work(record).name}#{event.task}", event.failure)

    def _retried(self, event: Retried) -> None:
        record = self.records.get(event.task)
        if record is None:
            return
        if record.failure is not None and record.attempt:
            record.failed = (*record.failed[-_KEPT:], (record.attempt, record.failure.message))
        self.former[event.task] = _LOST if record.outcome is None else record.outcome
        if record.state.final:
            record.state, record.outcome, record.settled, record.recalled = State.waiting, None, 0.0, False

    def _removed(self, event: Removed) -> None:
        record = self.records.pop(event.task, None)
        self.former[event.task] = None if record is None else record.outcome
        if record is not None:
            self.remnants.add(event.task)


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
    Cancelled: History._cancelled,
    Retried: History._retried,
    Removed: History._removed,
}
