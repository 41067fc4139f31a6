"""What another process of the user may ask a living run to do, to its tasks, to its nodes or altogether, and how the
engine does it.

Whoever asks has read the journal: it brings what the engine has forgotten of tasks that are over. Requests and answers
travel through `control`.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from heald.core.allocation import AllocationStatus
from heald.core.errors import UsageError
from heald.core.event import Cancelled, Due, Removed, Retried
from heald.core.graph import Node
from heald.core.state import State
from heald.core.task import FOREIGN, JOIN, Payload, Task
from heald.run.control import Control
from heald.run.engine import Engine
from heald.run.recorder import Earlier
from heald.store.folder import Folder

_NEXT = "the next time that the script comes to it"


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """Cancel these tasks, for this reason, until somebody retries them."""

    tasks: tuple[int, ...]
    reason: str


class Again(msgspec.Struct, frozen=True, array_like=True):
    """A task that is over, its last attempt, and the values of its inputs that are not to be made again."""

    task: Task
    attempt: int
    given: dict[int, Payload]


class Retry(msgspec.Struct, frozen=True, array_like=True, tag="retry"):
    """Run these tasks again; those that others need come first."""

    tasks: tuple[Again, ...]


class Remove(msgspec.Struct, frozen=True, array_like=True, tag="remove"):
    """Forget these tasks."""

    tasks: tuple[int, ...]


class Stop(msgspec.Struct, frozen=True, array_like=True, tag="stop"):
    """Begin no more tasks, and interrupt the script once those that run are over; `now`: cancel these, at once."""

    now: bool


class Holdings(msgspec.Struct, frozen=True, array_like=True, tag="holdings"):
    """Tell of the allocations."""


class Acquire(msgspec.Struct, frozen=True, array_like=True, tag="acquire"):
    """Ask the scheduler for so many more blocks; an empty `executor` is the only one."""

    blocks: int
    executor: str


class Release(msgspec.Struct, frozen=True, array_like=True, tag="release"):
    """Give this allocation back; an empty `executor` is the only one."""

    allocation: str
    executor: str


TaskRequest = Cancel | Retry | Remove | Stop
NodeRequest = Holdings | Acquire | Release
Request = TaskRequest | NodeRequest


class Changed(msgspec.Struct, frozen=True, array_like=True):
    """Whether it was done, and what follows from that, or why it was not."""

    done: bool
    note: str = ""


encode = msgspec.msgpack.Encoder().encode
request = msgspec.msgpack.Decoder(Request).decode
answer = msgspec.msgpack.Decoder(dict[int, Changed]).decode  # to a TaskRequest
allocations = msgspec.msgpack.Decoder(list[AllocationStatus]).decode  # to a NodeRequest


def listen(engine: Engine, folder: Folder) -> Control | None:
    """Let others ask the run from now on; None, with a warning, where the system has no sockets at all."""
    owner = folder.owner
    assert owner is not None
    try:
        return Control(owner.nonce, engine, lambda body: serve(engine, body))
    except OSError as error:
        logging.getLogger("heald").warning("tasks of this run cannot be cancelled from outside: %s", error)
        return None


def serve(engine: Engine, body: bytes) -> bytes:
    """Do what is asked: the answer has a Changed for each task, or the status of each allocation, that it concerns.

    Raises UsageError for no request.
    """
    try:
        asked = request(body)
    except msgspec.DecodeError as error:
        raise UsageError(f"this is no request that the run knows: {error}") from error
    return encode(_ACTS[type(asked)](engine, asked))


def _cancel(engine: Engine, asked: Cancel) -> dict[int, Changed]:
    found = {}
    going = {task for task in asked.tasks if engine.node(task) is not None}  # before one of them takes others with it
    for task in asked.tasks:
        event = Cancelled(task, engine.now(), asked.reason, final=True)
        earlier = engine.recorder.revise(task, event.failure)
        if task in going or (earlier is not None and earlier.outcome is None):
            engine.happened(event)
            found[task] = Changed(True)
        else:
            found[task] = Changed(False, "it is over")
    return found


def _retry(engine: Engine, asked: Retry) -> dict[int, Changed]:
    return {one.task.id: _again(engine, one) for one in asked.tasks}


def _again(engine: Engine, asked: Again) -> Changed:
    task = asked.task
    node = engine.node(task.id)
    if node is not None:
        return _hurry(engine, node)
    if engine.recorder.revise(task.id, None) is not None:
        engine.recorder.record(Retried(task.id, engine.now()))
        return Changed(True, _NEXT)
    renewed = engine.outcomes(engine.renewed[one] for one in task.inputs if one in engine.renewed)
    given: dict[int, Any] = {**asked.given, **renewed}
    if obstacle := _obstacle(engine, task, given):
        engine.recorder.record(Retried(task.id, engine.now()))
        return Changed(True, f"{_NEXT}: {obstacle}")
    if not engine.again(task, given, Earlier(asked.attempt, afresh=True)):
        return Changed(False, "its last attempt is still ending: try again in a moment")
    return Changed(True, "now")


def _hurry(engine: Engine, node: Node) -> Changed:
    """End the pause before the next attempt of a task, if it is in one."""
    if node.state is State.waiting and not node.missing and node.join is None:
        engine.happened(Due(node.record.id, engine.now(), node.attempt))
        return Changed(True, "now, without its pause")
    return Changed(False, f"it is {node.state.name}, not over")


def _obstacle(engine: Engine, task: Task, given: dict[int, Any]) -> str:
    """Why a task that is over cannot be run again in this process."""
    if task.work not in engine.functions:
        return "this process has not come to its function"
    if engine.definition(task.work).work.kind in (JOIN, FOREIGN):
        return "only the script can run it"
    if not task.arguments.data:
        return "its arguments never left the script"
    if any(one not in given and engine.node(one) is None for one in task.inputs):
        return "what it needs is not there yet"
    return ""


def _remove(engine: Engine, asked: Remove) -> dict[int, Changed]:
    found = {}
    for task in asked.tasks:
        if engine.node(task) is not None:
            found[task] = Changed(False, "it is not over")
            continue
        engine.recorder.forget(task)
        engine.recorder.record(Removed(task, engine.now()))
        found[task] = Changed(True)
    return found


def _stop(engine: Engine, asked: Stop) -> dict[int, Changed]:
    """Stop the run as Ctrl-C in its terminal would; `heald.cli.script` says what scripts make of that."""
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, signal.SIG_DFL, None):
        raise UsageError("the script cannot be interrupted: it ignores SIGINT", hint=f"end it: kill {os.getpid()}")
    running = engine.at_work()
    engine.halt(None if asked.now else _interrupt)
    if asked.now:
        _interrupt()  # before any future is told: the script sees the interrupt, and not cancelled tasks
        engine.cancel_all("the run was stopped")
    return {task: Changed(asked.now) for task in running}


def _interrupt() -> None:
    """Wake the main thread, whatever it waits for, by KeyboardInterrupt."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def _nodes(engine: Engine, asked: NodeRequest) -> list[AllocationStatus]:
    from heald.run.cluster import holding  # which runs without nodes do not need

    if isinstance(asked, Acquire):
        return holding.acquire(engine, asked.blocks, asked.executor)
    if isinstance(asked, Release):
        return holding.release(engine, asked.allocation, asked.executor)
    return holding.allocations(engine)


_ACTS: dict[type, Callable[[Engine, Any], dict[int, Changed] | list[AllocationStatus]]] = {
    Cancel: _cancel,
    Retry: _retry,
    Remove: _remove,
    Stop: _stop,
    Holdings: _nodes,
    Acquire: _nodes,
    Release: _nodes,
}
