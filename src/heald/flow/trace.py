"""Traces of real workflow executions, as the WfCommons collection keeps them: who ran how long, after whom, on what.

Reads WfFormat 1.0 to 1.6 (https://github.com/wfcommons/WfFormat). From 1.5 on, `workflow.specification` holds the
graph and the files, and `workflow.execution` what was measured; tasks refer to each other by id. Before, one list had
it all, and tasks referred to each other by name. Here is no running: that is `replay`.
"""

from __future__ import annotations

import math
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from heald.core.errors import CycleError, UsageError

if TYPE_CHECKING:
    from heald.flow.replay import Replay
    from heald.flow.session import Session

VERSIONS = ("1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6")
_WHERE = "take one from github.com/wfcommons/WfInstances, or make one with the package wfcommons"
_INCOMPLETE = "the trace is incomplete: take the whole one, or correct it"
_NUMBER = re.compile(r"[_.-]*(ID)?\d+$")
_SHOWN = 8  # tasks of a cycle that are named

T = TypeVar("T")


class TracedTask(msgspec.Struct, frozen=True):
    """One task of a trace: it took `seconds` on `cores`, after `parents`, and used the files `reads` and `writes`."""

    id: str
    name: str
    parents: tuple[str, ...] = ()
    seconds: float = 0.0
    cores: int = 1
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Its name without the number that tells it from others of its kind.

        >>> TracedTask("3", "mProject_ID0000003").kind
        'mProject'
        """
        return _NUMBER.sub("", self.name) or self.name


class Trace(msgspec.Struct, frozen=True):
    """A workflow as it once ran: `tasks`, each after its parents, `sizes` of files in bytes, `makespan` in seconds."""

    name: str
    version: str
    tasks: tuple[TracedTask, ...]
    sizes: Mapping[str, int]
    makespan: float = 0.0

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Trace:
        """The trace in a file. Raises UsageError (CycleError for a cycle), which names the file and what is wrong."""
        file = Path(path)
        try:
            return _trace(file.read_bytes())
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}", hint=_WHERE) from error
        except UsageError as error:
            raise type(error)(f"{file}: {error.message}", hint=error.hint) from error

    @property
    def dependencies(self) -> int:
        """How many pairs of parent and child there are."""
        return sum(len(task.parents) for task in self.tasks)

    @property
    def critical_path(self) -> float:
        """Seconds of the longest chain of tasks, each after the one before: no number of cores makes it shorter."""
        ends: dict[str, float] = {}
        for task in self.tasks:
            ends[task.id] = task.seconds + max((ends[parent] for parent in task.parents), default=0.0)
        return max(ends.values())

    def replay(
        self, session: Session | None = None, *, speed: float = 0.01, size: float = 0.0, cores: bool = False
    ) -> Replay:
        """Run tasks that take as long, one for each of the trace; see `heald.flow.replay.replay`."""
        from heald.flow.replay import replay

        return replay(self, session, speed=speed, size=size, cores=cores)


# -- the two shapes, as far as they are of use here; a field that is None was not measured ---------------------------


class _Specified(msgspec.Struct):
    id: str
    name: str = ""
    parents: list[str] = []
    children: list[str] = []
    inputFiles: list[str] = []
    outputFiles: list[str] = []


class _Sized(msgspec.Struct):
    id: str
    sizeInBytes: float | None = None


class _Executed(msgspec.Struct):
    id: str
    runtimeInSeconds: float | None = None
    coreCount: float | None = None


class _Specification(msgspec.Struct):
    tasks: list[_Specified]
    files: list[_Sized] | None = None


class _Execution(msgspec.Struct):
    tasks: list[_Executed]
    makespanInSeconds: float | None = None


class _Workflow(msgspec.Struct):
    specification: _Specification
    execution: _Execution | None = None


class _EarlierFile(msgspec.Struct):
    name: str = ""
    path: str = ""
    link: str = ""
    size: float | None = None
    sizeInBytes: float | None = None


class _EarlierTask(msgspec.Struct):
    name: str
    id: str = ""
    parents: list[str] = []
    children: list[str] = []
    files: list[_EarlierFile] = []
    runtime: float | None = None
    runtimeInSeconds: float | None = None
    cores: float | None = None

    @property
    def key(self) -> str:
        return self.name if self.id in self.name else f"{self.name}_{self.id}"


class _EarlierWorkflow(msgspec.Struct):
    tasks: list[_EarlierTask]
    makespan: float | None = None
    makespanInSeconds: float | None = None


# -- from bytes to a trace -------------------------------------------------------------------------------------------


def _trace(data: bytes) -> Trace:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"it is no JSON: {error}", hint=_WHERE) from error
    workflow = document.get("workflow") if isinstance(document, dict) else None
    if not isinstance(workflow, dict):
        raise UsageError("it is no WfCommons trace: it has no object `workflow`", hint=_WHERE)
    stated = document.get("schemaVersion")
    version = str(stated) if stated is not None else ""
    if version and version not in VERSIONS:
        raise UsageError(
            f"schemaVersion is {version}, which is unknown here",
            hint=f"heald reads {VERSIONS[0]} to {VERSIONS[-1]}; wfcommons-migrate-instance.py changes one into another",
        )
    read = _specified if "specification" in workflow else _earlier
    tasks, sizes, makespan = read(workflow)
    if not tasks:
        raise UsageError("it has no tasks: nothing to replay", hint=_WHERE)
    _refuse_unlisted(tasks, sizes)
    return Trace(str(document.get("name") or "trace"), version, tuple(_ordered(tasks)), sizes, makespan)


def _specified(workflow: dict[str, Any]) -> tuple[list[TracedTask], dict[str, int], float]:
    """The shape from 1.5 on."""
    found = _convert(workflow, _Workflow)
    specified, files = found.specification.tasks, found.specification.files
    parents = _parents([(task.id, task.parents, task.children) for task in specified], {})
    executed: dict[str, _Executed] = {}
    if found.execution is not None:
        executed = _by_id(found.execution.tasks, "workflow.execution.tasks")
        there = "workflow.execution.tasks"
        _refuse_missing(executed.keys() - parents.keys(), there, "workflow.specification.tasks")
        _refuse_missing(parents.keys() - executed.keys(), "workflow.specification.tasks", there)
    tasks = [
        TracedTask(
            task.id,
            task.name or task.id,
            tuple(parents[task.id]),
            _measured(task.id, "runtimeInSeconds", executed[task.id].runtimeInSeconds) if executed else 0.0,
            max(1, math.ceil(_measured(task.id, "coreCount", executed[task.id].coreCount))) if executed else 1,
            tuple(dict.fromkeys(task.inputFiles)),
            tuple(dict.fromkeys(task.outputFiles)),
        )
        for task in specified
    ]
    if files is None:  # the format allows it: then nobody knows a size
        files = [_Sized(file) for task in tasks for file in (*task.reads, *task.writes)]
    sizes = {file.id: int(_measured(file.id, "sizeInBytes", file.sizeInBytes)) for file in files}
    return tasks, sizes, (found.execution.makespanInSeconds or 0.0) if found.execution else 0.0


def _earlier(workflow: dict[str, Any]) -> tuple[list[TracedTask], dict[str, int], float]:
    """The shape up to 1.4; tasks were called jobs up to 1.2."""
    if "jobs" in workflow:
        workflow = {**workflow, "tasks": workflow["jobs"]}
    if "tasks" not in workflow:
        raise UsageError("it has neither `workflow.specification` nor `workflow.tasks`", hint=_WHERE)
    found = _convert(workflow, _EarlierWorkflow)
    names: dict[str, str] = {}
    for task in found.tasks:
        names.setdefault(task.name, task.key)
    for task in found.tasks:
        names.setdefault(task.id, task.key)
    parents = _parents([(task.key, task.parents, task.children) for task in found.tasks], names)
    sizes: dict[str, int] = {}
    files: dict[str, tuple[list[str], list[str]]] = {}
    for task in found.tasks:
        reads, writes = files[task.key] = [], []
        for file in task.files:
            name = file.path + file.name
            size = file.sizeInBytes if file.sizeInBytes is not None else file.size
            sizes[name] = max(sizes.get(name, 0), int(_measured(name, "size", size)))
            (reads if file.link.lower() == "input" else writes).append(name)
    makers = {name: key for key, (_, writes) in files.items() for name in writes}
    tasks = []
    for task in found.tasks:
        reads, writes = files[task.key]
        seconds = task.runtimeInSeconds if task.runtimeInSeconds is not None else task.runtime
        # Who has no parents follows those who wrote what it reads, as the format's own migration takes it.
        needed = parents[task.key] or [makers[name] for name in reads if makers.get(name, task.key) != task.key]
        tasks.append(
            TracedTask(
                task.key,
                task.name,
                tuple(dict.fromkeys(needed)),
                _measured(task.key, "runtime", seconds),
                max(1, math.ceil(_measured(task.key, "cores", task.cores))),
                tuple(dict.fromkeys(reads)),
                tuple(dict.fromkeys(writes)),
            )
        )
    return tasks, sizes, found.makespanInSeconds or found.makespan or 0.0


def _convert(value: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        where = str(error).replace("$", "$.workflow", 1)
        raise UsageError(f"it is not as the format asks: {where}", hint=_WHERE) from error


def _measured(name: str, what: str, value: float | None) -> float:
    if value is None:
        return 0.0
    if not 0 <= value < math.inf:
        raise UsageError(f"{name}: {what} is {value:g}", hint="it must be a number, at least 0: correct the trace")
    return value


def _by_id(entries: Iterable[Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in entries:
        if entry.id in found:
            raise UsageError(f"{where} has {entry.id!r} twice", hint="ids must differ: correct the trace")
        found[entry.id] = entry
    return found


def _parents(edges: Sequence[tuple[str, list[str], list[str]]], names: Mapping[str, str]) -> dict[str, list[str]]:
    """The parents of each task: those that it names, and those that name it as a child.

    `names`: what else tasks are called by others.
    """
    found: dict[str, dict[str, None]] = {}
    for task, _, _ in edges:
        if task in found:
            raise UsageError(f"there are two tasks {task!r}", hint="ids must differ: correct the trace")
        found[task] = {}
    for task, parents, children in edges:
        for role, others in (("parent", parents), ("child", children)):
            for other in others:
                key = other if other in found else names.get(other, "")
                if key not in found:
                    raise UsageError(
                        f"task {task!r} names the {role} {other!r}, which is not among the tasks",
                        hint=_INCOMPLETE,
                    )
                child, parent = (task, key) if role == "parent" else (key, task)
                found[child][parent] = None
    return {task: list(parents) for task, parents in found.items()}


def _refuse_missing(missing: Iterable[str], there: str, here: str) -> None:
    names = sorted(missing)
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise UsageError(
            f"task {names[0]!r}{more} of {there} is missing in {here}",
            hint=_INCOMPLETE,
        )


def _refuse_unlisted(tasks: Iterable[TracedTask], sizes: Mapping[str, int]) -> None:
    for task in tasks:
        for verb, files in (("reads", task.reads), ("writes", task.writes)):
            for file in files:
                if file not in sizes:
                    raise UsageError(
                        f"task {task.id!r} {verb} the file {file!r}, which is missing in workflow.specification.files",
                        hint=_INCOMPLETE,
                    )


def _ordered(tasks: Sequence[TracedTask]) -> Iterator[TracedTask]:
    """The tasks, each after its parents, else as they stood. Raises CycleError."""
    missing = {task.id: len(task.parents) for task in tasks}
    children: dict[str, list[TracedTask]] = {}
    for task in tasks:
        for parent in task.parents:
            children.setdefault(parent, []).append(task)
    ready = deque(task for task in tasks if not task.parents)
    while ready:
        task = ready.popleft()
        del missing[task.id]
        yield task
        for child in children.get(task.id, ()):
            missing[child.id] -= 1
            if not missing[child.id]:
                ready.append(child)
    if missing:
        names = _cycle(
            {task.id: [one for one in task.parents if one in missing] for task in tasks if task.id in missing}
        )
        shown = names if len(names) <= _SHOWN else [*names[: _SHOWN - 1], "…", names[-1]]
        raise CycleError(
            f"tasks wait for each other in a cycle: {' -> '.join(shown)}", hint="remove one of these dependencies"
        )


def _cycle(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks of a cycle, from a parent to its child, the first one again at the end; every task has a parent."""
    walked: dict[str, None] = {}
    task = next(iter(parents))
    while task not in walked:
        walked[task] = None
        task = parents[task][0]
    path = list(walked)
    return [task, *reversed(path[path.index(task) :])]
