"""What cancelling, retrying or removing tasks comes to: which others go with them, and which stay as they are, and why.

From the journal alone, which may be a moment old: what has happened since, a living run knows, and its answer counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from heald.core.history import History, Record
from heald.core.state import State


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to a task, or would be.

    `state` is where the task was; `done` is False when it stays as it was; `note` says what follows, or why not.
    """

    task: int
    name: str
    state: str
    done: bool = True
    note: str = ""


class Plan:
    """The changes by task. `roots`: of those that are touched since they hang together with another, that one.

    `living`: somebody drives the run.
    """

    def __init__(self, history: History, *, living: bool) -> None:
        self.history = history
        self.living = living
        self.changes: dict[int, Change] = {}
        self.roots: dict[int, int] = {}
        self._after: dict[int, list[int]] = defaultdict(list)
        for record in history.records.values():
            for needed in record.task.inputs:
                self._after[needed].append(record.task.id)
        for join, children in history.expanded.items():
            for child in children:
                self._after[child].append(join)

    @property
    def tasks(self) -> list[int]:
        """Those that something is done to; what a task needs comes before it, a join before what it returned."""
        return sorted(task for task, change in self.changes.items() if change.done)

    @property
    def chosen(self) -> tuple[int, ...]:
        """Those of them that were chosen themselves."""
        return tuple(task for task in self.tasks if task not in self.roots)

    def label(self, task: int) -> str:
        """How people know a task."""
        return f"{self.history.work(self.history.records[task]).name}#{task}"

    # -- the three verbs ---------------------------------------------------------------------------------------------

    def cancel(self, record: Record) -> None:
        """It is not to be run, and neither is what waits for it."""
        failure = record.failure
        if record.state is State.done:
            self._keep(record, "it is done")
        elif record.state is State.cancelled and failure is not None and failure.final:
            self._keep(record, "it was cancelled already")
        elif self.living and record.state.final and record.settled >= self.history.opened[-1].time:
            self._keep(record, "it is over")
        else:
            self._choose(record)
            task = record.task.id
            inner = self._records(self.history.expanded.get(task, ()))
            self._add(filter(self._open, inner), task, f"{self.label(task)} returned it")
            self._add((one for one in self._below([record]) if not one.state.final), task)

    def retry(self, record: Record) -> None:
        """It is to be run again, with what it failed of, and with all that needs any of these."""
        task = record.task.id
        if self._open(record):
            node = self.history.graph.nodes[task]
            if record.state is State.waiting and not node.missing and node.join is None:
                self._choose(record)  # it is in the pause before its next attempt
            else:
                self._keep(record, f"it is {record.state.name}, not over")
            return
        if not self.living and not record.state.final:
            self._keep(record, "it has not run yet")
            return
        causes = self._causes(record)
        below = self._below([*causes, record])
        if (busy := next(filter(self._open, below), None)) is not None:
            self._keep(record, f"{self.label(busy.task.id)}, which needs it, is not over")
            return
        self._choose(record)
        self._add(causes, task, f"{self.label(task)} needs it")
        self._add((one for one in below if self.living or one.state.final), task)

    def remove(self, record: Record) -> None:
        """Nothing of it is to be known, nor of what needs it: that could not be matched any more."""
        below = self._below([record])
        if self._open(record):
            self._keep(record, "it is not over")
        elif (busy := next(filter(self._open, below), None)) is not None:
            self._keep(record, f"{self.label(busy.task.id)}, which needs it, is not over")
        else:
            self._choose(record)
            self._add(below, record.task.id)

    # -- what hangs together -----------------------------------------------------------------------------------------

    def _below(self, records: Iterable[Record]) -> list[Record]:
        """The tasks that need any of these, through any number of others, and that the plan does not have yet."""
        stack = [record.task.id for record in records]
        above = set(stack)
        seen: set[int] = set()
        while stack:
            for one in self._after.get(stack.pop(), ()):
                if one not in seen and not self._has(one):
                    seen.add(one)
                    stack.append(one)
        return list(self._records(sorted(seen - above)))

    def _causes(self, record: Record) -> list[Record]:
        """The tasks that it needs and that did not end well, those that they need, and so on."""
        found: dict[int, Record] = {}
        stack = [record]
        while stack:
            one = stack.pop()
            needed = (*one.task.inputs, *self.history.expanded.get(one.task.id, ()))
            for cause in self._records(needed):
                task = cause.task.id
                if cause.failure is not None and task not in found and not self._has(task):
                    found[task] = cause
                    stack.append(cause)
        return list(found.values())

    def _records(self, tasks: Iterable[int]) -> Iterable[Record]:
        records = self.history.records
        return (records[task] for task in tasks if task in records)

    def _has(self, task: int) -> bool:
        return task in self.changes and self.changes[task].done

    def _open(self, record: Record) -> bool:
        """Whether the living run has the task, and it is not over."""
        return self.living and record.task.id in self.history.graph.nodes

    # -- writing it down ---------------------------------------------------------------------------------------------

    def _choose(self, record: Record) -> None:
        self.roots.pop(record.task.id, None)
        self._note(record, "")

    def _keep(self, record: Record, reason: str) -> None:
        self._note(record, reason, done=False)

    def _add(self, records: Iterable[Record], root: int, note: str = "") -> None:
        for record in records:
            if not self._has(record.task.id):
                self.roots[record.task.id] = root
                self._note(record, note or f"it needs {self.label(root)}")

    def _note(self, record: Record, note: str, *, done: bool = True) -> None:
        task, name = record.task.id, self.history.work(record).name
        self.changes[task] = Change(task=task, name=name, state=record.state.name, done=done, note=note)
