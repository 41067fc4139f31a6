"""Writes a run's events into its folder, and knows what earlier processes did there.

A script that is started again submits the same tasks. Each is known by its content (`Task.key`), the tasks that it
needs, and its place among equal ones: it gets its old id, and its old value when it had one.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from heald.core import codec
from heald.core.errors import JournalError
from heald.core.event import (
    Cancelled,
    Closed,
    Defined,
    Event,
    Expanded,
    Failure,
    Finished,
    Opened,
    Placed,
    Removed,
    Retried,
    Submitted,
    Usage,
)
from heald.core.history import History, Record
from heald.core.ref import Ref
from heald.core.retry import CANCELLED
from heald.core.state import State
from heald.core.task import Payload, Work
from heald.core.text import legible
from heald.data.arena import Arena
from heald.data.payload import inband
from heald.run import amend
from heald.run.value import payload_of
from heald.store.folder import Folder
from heald.store.journal import Journal, Sync, read, rewrite

# A journal is written anew when it is opened with so many events more than it needs.
_GARBAGE = 20_000
_FRAME = 1000  # events in a frame of a journal written anew


class Earlier(msgspec.Struct, frozen=True):
    """What earlier processes did of a task: its last attempt, and how it ended, if that holds for this process too.

    `afresh`: somebody asked for it to be run again, so that no memo counts either. `worker`: which one ran that attempt
    when the process was killed: on another machine, it may run on.
    """

    attempt: int
    outcome: Any = None
    afresh: bool = False
    worker: str = ""


class Recorder:
    """The one writer of a run's journal."""

    def __init__(self, folder: Folder, arena: Arena, sync: Sync, version: str) -> None:
        self.folder = folder
        self._arena = arena
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._defined: set[bytes] = set()
        self._earlier: dict[int, Earlier] = {}
        self._known: dict[tuple[bytes, tuple[int, ...]], list[int]] = {}  # the next one last
        self.last = 0
        folder.claim()
        try:
            history = self._replay()
            self._journal = Journal(folder.journal, sync=sync)
        except BaseException:
            folder.release()
            raise
        for record in reversed(history.records.values()):
            self._know(record, record.task.id in history.former)
        self.last = max(self.last, *history.former, 0)  # a task that was removed leaves its number unused
        self._defined.update(history.works)
        self._append(
            Opened(
                time.time(),
                os.getpid(),
                os.uname().nodename,
                str(os.getuid()),
                sys.version.split()[0],
                version,
                tuple(map(legible, sys.argv)),
                legible(os.getcwd()),
            )
        )

    # -- what was ----------------------------------------------------------------------------------------------------

    def _replay(self) -> History:
        history = History()
        if self.folder.journal.exists():
            history.extend(events(self.folder))
            if history.remnants:
                amend.purge(self.folder, [Removed(task, time.time()) for task in history.remnants])
            if history.events > _GARBAGE + 2 * len(history.records):
                rewrite(self.folder.journal, _compact(history))
        return history

    def _know(self, record: Record, retried: bool) -> None:
        task = record.task
        self.last = max(self.last, task.id)
        if not task.key:
            return
        failure = record.failure
        holds = record.state is State.done or (failure is not None and failure.kind == CANCELLED and failure.final)
        outcome = record.outcome if holds else None
        worker = record.worker if record.state in (State.placed, State.running) else ""
        self._earlier[task.id] = Earlier(record.attempt, outcome, retried and not holds, worker)
        self._known.setdefault((task.key, task.inputs), []).append(task.id)

    def claim(self, key: bytes, inputs: tuple[int, ...], *, again: bool) -> int | None:
        """The id of the next task of that content that earlier processes submitted, or None.

        `again`: its value does not count, since a file that it wrote is gone; nor does one that is itself gone.
        """
        with self._lock:
            waiting = self._known.get((key, inputs))
            while waiting:
                task = waiting.pop()
                earlier = self._earlier.get(task)
                if earlier is None:  # it was removed meanwhile
                    continue
                if not isinstance(earlier.outcome, Failure) and (again or not self._kept(earlier.outcome)):
                    self._earlier[task] = msgspec.structs.replace(earlier, outcome=None)
                return task
            return None

    def _kept(self, value: Any) -> bool:
        """Whether all of a value is still here: somebody may have made room on the disk."""
        return not isinstance(value, Payload) or (
            all(map(self.folder.has, value.buffers)) and all(map(self._kept, value.inputs))
        )

    def earlier(self, task: int) -> Earlier | None:
        """What earlier processes did of a task; asked once for each."""
        return self._earlier.pop(task, None)

    def revise(self, task: int, outcome: Failure | None) -> Earlier | None:
        """Have a task end so when the script comes to it, or be run again for None; what earlier processes did of it.

        Changes nothing of one that is done and is to be cancelled. None when the script has come to it already.
        """
        with self._lock:
            earlier = self._earlier.get(task)
            if earlier is not None and (outcome is None or earlier.outcome is None):
                self._earlier[task] = Earlier(earlier.attempt, outcome, afresh=outcome is None)
            return earlier

    def forget(self, task: int) -> None:
        """Know nothing any more of what earlier processes did of a task."""
        with self._lock:
            self._earlier.pop(task, None)

    # -- what is -----------------------------------------------------------------------------------------------------

    def define(self, digest: bytes, work: Work) -> None:
        """A work, before the first task of it. From any thread."""
        with self._lock:
            if digest not in self._defined:
                self._defined.add(digest)
                self._events.append(Defined(digest, work))

    def record(self, event: Any) -> None:
        """An event of a task. One with a large value that the disk refuses is left out: the task will be run again."""
        try:
            kept = self._durable(event)
        except JournalError as raised:
            logging.getLogger("heald").error("the run goes on, but its journal lacks task %d: %s", event.task, raised)
        else:
            if kept is not None:
                self._append(kept)

    def _durable(self, event: Any) -> Any:
        """The event as it can be kept, or None when it cannot."""
        if isinstance(event, Finished):
            outcome = event.outcome
            if not isinstance(outcome, Failure):
                try:
                    outcome = payload_of(outcome)
                except Exception:
                    return None  # it cannot travel to another process: the task will be run again by that
                outcome = self.durable(outcome)
            elif outcome.exception is not None:
                outcome = msgspec.structs.replace(outcome, exception=self.durable(outcome.exception))
            if outcome is not event.outcome:
                event = msgspec.structs.replace(event, outcome=outcome)
        elif isinstance(event, Submitted):
            if event.record.arguments.buffers:
                kept = msgspec.structs.replace(event.record, arguments=self.durable(event.record.arguments))
                event = msgspec.structs.replace(event, record=kept)
        elif isinstance(event, Expanded) and event.shape is not None and event.shape.buffers:
            event = msgspec.structs.replace(event, shape=self.durable(event.shape))
        return event

    def _append(self, event: Event) -> None:
        self._events.append(event)

    def durable(self, payload: Payload) -> Payload:
        """The same value, with nothing in it that ends with this process; what is large is an object of its own."""
        if payload.inputs:
            payload = msgspec.structs.replace(payload, inputs=tuple(map(self.durable, payload.inputs)))
        if not payload.buffers:
            return payload
        _, views = inband(payload, self._arena, self.folder.get)
        kept: list[Ref] = []
        for ref, view in zip(payload.buffers, views, strict=True):
            kept.append(ref if ref.uri.startswith("object:") else self.folder.put(view))
        return msgspec.structs.replace(payload, buffers=tuple(kept))

    def flush(self) -> None:
        """Write what was recorded; it survives this process, and the machine as `sync` says."""
        if self._events:
            with self._lock:
                events, self._events = self._events, []
            self._journal.append(codec.encode(events))
        self._journal.flush()

    def close(self) -> None:
        """The process ends in good order."""
        self._append(Closed(time.time()))
        try:
            self.flush()
        finally:
            try:
                self._journal.close()
            finally:
                self.folder.release()


def events(folder: Folder) -> Iterator[Event]:
    """The events of a run, written by a living process or not."""
    for _, frame in read(folder.journal):
        yield from codec.decode(frame)


def _compact(history: History) -> Iterator[bytes]:
    """The frames of a journal that says the same of every task, without how it came to be."""
    batch: list[Event] = [Defined(digest, work) for digest, work in history.works.items()]
    batch.extend(history.opened[-1:])
    batch.extend(Removed(task, 0.0) for task in history.former if task not in history.records)
    for record in history.records.values():
        task, attempt, failure = record.task.id, record.attempt, record.failure
        batch.append(Submitted(task, record.submitted, record.task))
        if attempt:
            batch.append(Placed(task, record.placed, attempt, record.executor, record.worker))
        if task in history.former and record.state is not State.done:
            batch.append(Retried(task, record.submitted))
        if record.state is State.cancelled and failure is not None:
            batch.append(Cancelled(task, record.settled, failure.message, failure.final))
        if record.state.final:  # after a cancellation, it says what the attempt used
            outcome = payload_of(record.outcome) if failure is None else msgspec.structs.replace(failure, final=True)
            recalled = record.recalled or not attempt
            batch.append(Finished(task, record.settled, attempt, outcome, record.usage or Usage(), recalled=recalled))
        if len(batch) >= _FRAME:
            yield codec.encode(batch)
            batch = []
    yield codec.encode(batch)
