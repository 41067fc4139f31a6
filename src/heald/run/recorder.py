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
from collections import deque
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
    Submitted,
    Usage,
)
from heald.core.history import History, Record
from heald.core.ref import Ref
from heald.core.state import State
from heald.core.task import Payload, Work
from heald.data.arena import Arena
from heald.data.payload import inband
from heald.run.value import payload_of
from heald.store.folder import Folder
from heald.store.journal import Journal, Sync, read, rewrite

# A journal is written anew when it is opened with so many events more than it needs.
_GARBAGE = 20_000
_FRAME = 1000  # events in a frame of a journal written anew


class Earlier(msgspec.Struct, frozen=True):
    """What earlier processes did of a task: its last attempt, and its value when it was done."""

    attempt: int
    value: Any


class Recorder:
    """The one writer of a run's journal."""

    def __init__(self, folder: Folder, arena: Arena, sync: Sync, version: str) -> None:
        self.folder = folder
        self._arena = arena
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._defined: set[bytes] = set()
        self._earlier: dict[int, Earlier] = {}
        self._known: dict[tuple[bytes, tuple[int, ...]], deque[int]] = {}
        self.last = 0
        folder.claim()
        try:
            history = self._replay()
            self._journal = Journal(folder.journal, sync=sync)
        except BaseException:
            folder.release()
            raise
        for record in history.records.values():
            self._know(record)
        self._defined.update(history.works)
        self._append(
            Opened(
                time.time(),
                os.getpid(),
                os.uname().nodename,
                str(os.getuid()),
                sys.version.split()[0],
                version,
                tuple(sys.argv),
                os.getcwd(),
            )
        )

    # -- what was ----------------------------------------------------------------------------------------------------

    def _replay(self) -> History:
        history = History()
        if self.folder.journal.exists():
            history.extend(events(self.folder))
            if history.events > _GARBAGE + 2 * len(history.records):
                rewrite(self.folder.journal, _compact(history))
        return history

    def _know(self, record: Record) -> None:
        task = record.task
        self.last = max(self.last, task.id)
        if not task.key:
            return
        value = record.outcome if record.state is State.done else None
        self._earlier[task.id] = Earlier(record.attempt, value)
        self._known.setdefault((task.key, task.inputs), deque()).append(task.id)

    def claim(self, key: bytes, inputs: tuple[int, ...], *, again: bool) -> int | None:
        """The id of the next task of that content that earlier processes submitted, or None.

        `again`: its value does not count, since a file that it wrote is gone.
        """
        with self._lock:
            waiting = self._known.get((key, inputs))
            if not waiting:
                return None
            task = waiting.popleft()
            if again:
                self._earlier[task] = Earlier(self._earlier[task].attempt, None)
            return task

    def earlier(self, task: int) -> Earlier | None:
        """What earlier processes did of a task; asked once for each."""
        return self._earlier.pop(task, None)

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
    for record in history.records.values():
        task, attempt, failure = record.task.id, record.attempt, record.failure
        batch.append(Submitted(task, record.submitted, record.task))
        if attempt:
            batch.append(Placed(task, record.placed, attempt, record.executor, record.worker))
        if record.state is State.cancelled and failure is not None:
            batch.append(Cancelled(task, record.settled, failure.message))
        if record.state.final:  # after a cancellation, it says what the attempt used
            outcome = payload_of(record.outcome) if failure is None else msgspec.structs.replace(failure, final=True)
            recalled = record.recalled or not attempt
            batch.append(Finished(task, record.settled, attempt, outcome, record.usage or Usage(), recalled=recalled))
        if len(batch) >= _FRAME:
            yield codec.encode(batch)
            batch = []
    yield codec.encode(batch)
