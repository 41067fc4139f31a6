"""Finds values that are known already, and keeps new ones: between the graph and the memo on disk.

The disk is asked in a thread of its own. A task whose twin is under way waits for the twin: only one of them runs.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from heald.core.event import Failure, Finished, TaskEvent
from heald.core.graph import Node
from heald.core.ref import Ref
from heald.core.task import Payload
from heald.data.arena import ArenaFull
from heald.data.payload import inband, pack, unpack
from heald.run.value import payload_of

if TYPE_CHECKING:
    from heald.data.arena import Arena
    from heald.data.memo import Memo


class Host(Protocol):
    """What the memoiser needs of the engine."""

    arena: Arena
    promised: dict[int, Sequence[Any]]
    tally: Any

    def kept_value(self, ref: Ref) -> bytearray:
        """The bytes of a large value that an earlier process left in the folder of the run."""

    def post(self, act: Callable[[], None]) -> None:
        """Have `act` called in the engine's thread."""

    def happened(self, event: TaskEvent) -> None:
        """A value was recalled."""

    def node(self, task: int) -> Node | None:
        """The node of a task that is not over."""

    def place(self, node: Node) -> None:
        """Queue a ready task where it can run."""

    def now(self) -> float:
        """Seconds since the epoch."""


class Memoiser:
    """Stands in the engine's way to the workers, for tasks with `memo=True`. Its methods run in the engine's thread."""

    def __init__(self, memo: Memo, host: Host) -> None:
        self.memo = memo
        self._host = host
        self._sought: dict[int, _Sought] = {}  # tasks that were looked for and are under way
        self._twins: dict[bytes, list[int]] = {}  # key under way -> tasks that wait for it
        self._renewed: set[int] = set()  # tasks that are run whatever is kept
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="heald-memo", daemon=True)
        self._thread.start()

    def renew(self, task: int) -> None:
        """Have the task run, and what it gives kept in the place of what is kept now."""
        self._renewed.add(task)

    def ask(self, node: Node) -> bool:
        """Whether the task is taken care of here; if not, it is to be run."""
        task = node.record.id
        if not node.record.key or task in self._sought:
            return False
        try:
            inputs = [payload_of(value) for value in node.inputs]
        except Exception:
            return False  # a value that cannot travel cannot be known by its bytes
        files = [os.fspath(file) for file in self._host.promised.get(task, ()) if file.local]
        self._jobs.put(lambda: self._look(task, node.record.key, inputs, files))
        return True

    def _look(self, task: int, key: bytes, inputs: list[Payload], files: list[str]) -> None:
        found, name = None, key
        try:
            hashed = hashlib.blake2b(key, digest_size=16)
            for payload in inputs:
                for part in self._parts(payload):
                    hashed.update(part)
            name = hashed.digest()
            known = task not in self._renewed and all(map(os.path.exists, files))
            if known and (recalled := self.memo.get(name)) is not None:
                refs = tuple(self._host.arena.write(buffer) for buffer in recalled.buffers)
                found = Payload(recalled.data, refs)
        except ArenaFull:
            pass  # no room for the value: it is computed again
        finally:  # whatever happens here, the task goes on
            self._host.post(lambda: self._looked(task, name, found))

    def _parts(self, payload: Payload) -> Iterator[bytes | memoryview]:
        data, views = inband(payload, self._host.arena, self._host.kept_value)
        yield data
        yield from views
        for inner in payload.inputs:
            yield from self._parts(inner)

    def _looked(self, task: int, key: bytes, found: Any) -> None:
        node = self._host.node(task)
        if node is None:
            return
        if found is not None:
            self._finish(task, found)
        elif key in self._twins:
            self._twins[key].append(task)
        else:
            self._sought[task] = _Sought(key, node.work.name)
            self._twins[key] = []
            self._host.place(node)

    def _finish(self, task: int, outcome: Any) -> None:
        node = self._host.node(task)
        if node is not None:
            self._host.tally.recalled += 1
            self._host.happened(Finished(task, self._host.now(), node.attempt, outcome, recalled=True))

    def measured(self, task: int, seconds: float) -> None:
        """An attempt of the task took so long."""
        if task in self._sought:
            self._sought[task].seconds = seconds

    def settled(self, task: int, outcome: Any) -> None:
        """A task is over: keep its value, and let its twins have it."""
        sought = self._sought.pop(task, None)
        if sought is None:
            return
        twins = self._twins.pop(sought.key)
        if not isinstance(outcome, Failure):
            self._jobs.put(lambda: self._keep(sought, outcome))
            for twin in twins:
                self._finish(twin, outcome)
            return
        for twin in twins:  # the first of them tries for itself, the others wait for it
            self._looked(twin, sought.key, None)

    def _keep(self, sought: _Sought, outcome: Any) -> None:
        try:
            payload = payload_of(outcome)
            if payload.inputs:  # a memo keeps whole values
                whole = unpack(payload, self._host.arena, resolve=self._host.kept_value)
                payload = pack(whole, None, subject=sought.name)[0]
            data, views = inband(payload, self._host.arena, self._host.kept_value)
        except Exception:
            return  # what cannot travel cannot be kept
        self.memo.put(sought.key, data, views, name=sought.name, seconds=sought.seconds)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                logging.getLogger("heald").exception("the memo failed; the run goes on without it")

    def close(self) -> None:
        """Finish what is to be kept."""
        self._jobs.put(None)
        self._thread.join(30)


class _Sought(msgspec.Struct):
    """A task that runs since the memo does not know its value."""

    key: bytes
    name: str
    seconds: float = 0.0
