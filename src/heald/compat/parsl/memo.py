"""Memoisation and checkpoints as Parsl has them: by the name of the app and its arguments, in pickled files.

`heald.task(memo=True)` does more: the code counts too, and the memo lives on the disk across scripts.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import pickle
import threading
import types
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import IO, Any

from heald.compat.parsl.error import BadCheckpoint, ConfigurationError
from heald.compat.parsl.file import File
from heald.compat.parsl.remote import Bash, Timed
from heald.compat.parsl.state import TaskRecord
from heald.compat.parsl.tool import Timer, get_all_checkpoints

_logger = logging.getLogger("parsl.dataflow.memoization")


@functools.singledispatch
def id_for_memo(obj: object, output_ref: bool = False) -> bytes:
    """Bytes that are equal for equal values. Register your own types with `@id_for_memo.register`.

    >>> id_for_memo({"a": 1, "b": 2}) == id_for_memo({"b": 2, "a": 1})
    True

    Raises ValueError for types that are not registered.
    """
    raise ValueError(f"unknown type for memoization: {type(obj)}")


@id_for_memo.register(str | int | float | complex | bytes | None)
def _plain(obj: object, output_ref: bool = False) -> bytes:
    return pickle.dumps(obj, 4)


@id_for_memo.register(list | tuple | set | frozenset | dict)
def _container(obj: Any, output_ref: bool = False) -> bytes:
    kind = type(obj)
    if kind is list or kind is tuple:
        return pickle.dumps([kind.__name__, *(id_for_memo(part, output_ref) for part in obj)], 4)
    if kind is set or kind is frozenset:
        return pickle.dumps(["set", *sorted(id_for_memo(part, output_ref) for part in obj)], 4)
    if kind is dict:
        return pickle.dumps(["dict", *sorted((id_for_memo(key), id_for_memo(obj[key], output_ref)) for key in obj)], 4)
    raise ValueError(f"unknown type for memoization: {kind}")  # a subclass: it may hold more


@id_for_memo.register(types.FunctionType | types.BuiltinFunctionType | Bash | Timed)
def _function(obj: Any, output_ref: bool = False) -> bytes:
    return pickle.dumps(["function", obj.__name__, obj.__module__], 4)


@id_for_memo.register(File)
def _file(obj: File, output_ref: bool = False) -> bytes:
    return obj.url.encode()


def make_hash(task: TaskRecord) -> str:
    """The name of a call: of its function and its arguments, without those that the app ignores."""
    kwargs = {name: value for name, value in task["kwargs"].items() if name not in task["ignore_for_cache"]}
    outputs = id_for_memo(kwargs.pop("outputs", None), output_ref=True)
    parts = [outputs, *map(id_for_memo, (kwargs, task["func"], tuple(task["args"])))]
    return hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()


class Memoizer(ABC):
    """What knows results of earlier calls. Make your own, and pass it as `Config(memoizer=…)`."""

    @abstractmethod
    def start(self, *, run_dir: str, config_run_dir: str) -> None:
        """The run begins: its own folder, and that of all runs."""

    @abstractmethod
    def check_memo(self, task: TaskRecord) -> Future[Any] | None:
        """A future with the known result of a task, or None to run it."""

    @abstractmethod
    def update_memo_result(self, task: TaskRecord, r: Any) -> None:
        """A task has its result."""

    @abstractmethod
    def update_memo_exception(self, task: TaskRecord, e: BaseException) -> None:
        """A task failed for good."""

    @abstractmethod
    def close(self) -> None:
        """The run is over."""


@dataclass(kw_only=True, eq=False)
class BasicMemoizer(Memoizer):
    """Remembers results of `cache=True` apps in memory, and in `run_dir/checkpoint/tasks.pkl` when there is a mode.

    A call that equals one under way waits for it. Arguments of types that `id_for_memo` does not know make the call
    run; they do not fail it.
    """

    checkpoint_files: Sequence[str] | None = None
    checkpoint_period: str | None = None
    checkpoint_mode: str | None = None
    memoize: bool = True

    def __post_init__(self) -> None:
        if self.checkpoint_mode not in (None, "task_exit", "periodic", "dfk_exit", "manual"):
            raise TypeError(
                f"checkpoint_mode={self.checkpoint_mode!r}: must be task_exit, periodic, dfk_exit or manual"
            )
        self.memo_lookup_table: dict[str, Future[Any]] = {}
        self._folder = "checkpoint"
        self._waiting: dict[str, Any] = {}  # results by the names of calls
        self._written: set[str] = set()  # what this run's file has, of earlier runs too: it stands for them all
        self._guard = threading.Lock()
        self._timer: Timer | None = None

    def start(self, *, run_dir: str, config_run_dir: str) -> None:
        """Load the checkpoints. Raises BadCheckpoint for one that cannot be read."""
        self._folder = os.path.join(run_dir, "checkpoint")
        files = self.checkpoint_files
        if files is None:
            files = get_all_checkpoints(config_run_dir) if self.checkpoint_mode else []
        found = self.load_checkpoints(files)
        self.memo_lookup_table = found if self.memoize else {}
        if self.checkpoint_mode == "periodic":
            self._timer = Timer(self.checkpoint, interval=_seconds(self.checkpoint_period), name="Checkpoint")

    def load_checkpoints(self, checkpointDirs: Sequence[str] | None) -> dict[str, Future[Any]]:
        """Futures of the results in the files of those folders, by the name of the call."""
        table: dict[str, Future[Any]] = {}
        for folder in checkpointDirs or ():
            path = os.path.join(folder, "tasks.pkl")
            if not os.path.exists(path) and os.path.isdir(folder):
                continue  # a run that had nothing to write
            try:
                with open(path, "rb") as file:
                    for entry in _entries(file):
                        future: Future[Any] = Future()
                        table[entry["hash"]] = future
                        future.set_result(entry["result"])
            except Exception as raised:
                raise BadCheckpoint(f"checkpoint {path} cannot be read: {raised}") from raised
        return table

    def check_memo(self, task: TaskRecord) -> Future[Any] | None:
        """The future of an equal call, over or under way; None when there is none."""
        if not self.memoize or not task["memoize"]:
            return None
        try:
            name = task["hashsum"] = make_hash(task)
        except ValueError as raised:
            if "unknown type for memoization" not in str(raised):
                raise
            _logger.warning("%s is run without its cache: %s", task["func_name"], raised)
            return None
        found = self.memo_lookup_table.setdefault(name, task["app_fu"])
        return None if found is task["app_fu"] else found

    def update_memo_result(self, task: TaskRecord, r: Any) -> None:
        """Write it down, now or later."""
        if self.checkpoint_mode is not None and task["hashsum"]:
            with self._guard:
                self._waiting[task["hashsum"]] = r
        if self.checkpoint_mode == "task_exit":
            self.checkpoint()

    def update_memo_exception(self, task: TaskRecord, e: BaseException) -> None:
        """Failures are remembered in this run only."""

    def checkpoint(self) -> None:
        """Write down what is not yet."""
        with self._guard:
            waiting, self._waiting = self._waiting, {}
            fresh = waiting.keys() - self._written
            self._written |= fresh
            entries = [pickle.dumps({"hash": name, "exception": None, "result": waiting[name]}) for name in fresh]
            os.makedirs(self._folder, exist_ok=True)
            with open(os.path.join(self._folder, "tasks.pkl"), "ab") as file:
                file.write(b"".join(entries))
        _logger.info(f"Done checkpointing {len(fresh)} tasks" if fresh else "No tasks checkpointed in this pass")

    def close(self) -> None:
        """Write down the rest."""
        if self._timer is not None:
            self._timer.close()
        if self.checkpoint_mode is not None:
            self.checkpoint()


def _entries(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    while True:
        try:
            yield pickle.load(file)
        except EOFError:
            return


def _seconds(period: str | None) -> float:
    """The length of a period such as "00:30:00"."""
    try:
        hours, minutes, seconds = map(int, (period or "").split(":"))
    except ValueError:
        raise ConfigurationError(f"checkpoint_period={period!r}: must be HH:MM:SS") from None
    return hours * 3600 + minutes * 60 + seconds
