"""Parsl's futures: of an app, and of a file that an app writes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from heald.compat.parsl.file import File
from heald.compat.parsl.state import TaskRecord

T = TypeVar("T")


class _Future(Future[T]):
    """Parsl's futures cannot be cancelled; `heald.Future.cancel` stops tasks."""

    def cancel(self) -> bool:
        """Raises NotImplementedError."""
        raise NotImplementedError("Parsl's futures cannot be cancelled; those of heald.task(...).submit can")

    def cancelled(self) -> bool:
        """Never."""
        return False


class AppFuture(_Future[Any]):
    """The result of an app, now or later. `future[key]` and `future.name` are futures of parts of it."""

    def __init__(self, task_record: TaskRecord) -> None:
        super().__init__()
        self.task_record = self.task_def = task_record  # by the name that it had once, too
        self.tid: int = task_record["id"]
        self._outputs: list[DataFuture] = []
        self._stdout_future: DataFuture | None = None
        self._stderr_future: DataFuture | None = None

    @property
    def outputs(self) -> Sequence[DataFuture]:
        """Futures of the files in `outputs=`."""
        return self._outputs

    @property
    def stdout(self) -> Any:
        """Where standard output goes, as it was given; a DataFuture for a File."""
        return self._stdout_future or self.task_record["kwargs"].get("stdout")

    @property
    def stderr(self) -> Any:
        """Where standard error goes, as it was given; a DataFuture for a File."""
        return self._stderr_future or self.task_record["kwargs"].get("stderr")

    def task_status(self) -> str:
        """The name of the state of the task."""
        return self.task_record["status"].name  # type: ignore[no-any-return]

    def __getitem__(self, key: Any) -> AppFuture:
        return self._lifted(operator.getitem, key)

    __iter__ = None  # it would never end

    def __getattr__(self, name: str) -> AppFuture:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._lifted(getattr, name)

    def _lifted(self, part: Any, key: Any) -> AppFuture:
        kernel = self.task_record["dfk"]
        return kernel.submit(part, (self, key), ["_parsl_internal"], False, None, {})  # type: ignore[no-any-return]


class DataFuture(_Future[File]):
    """A file, once the task that writes it (or the staging of it) is done; `tid` is the id of that."""

    def __init__(self, fut: Future[Any], file_obj: File, tid: int) -> None:
        super().__init__()
        self.parent = fut
        self.file_obj = file_obj
        self.tid = tid
        fut.add_done_callback(self.parent_callback)

    def parent_callback(self, parent_fu: Future[Any]) -> None:
        """The parent is over: so is this."""
        raised = parent_fu.exception()
        if raised is not None:
            self.set_exception(raised)
        else:
            self.set_result(self.file_obj)

    @property
    def filepath(self) -> str:
        """The local path of the file."""
        return self.file_obj.filepath

    filename = filepath

    def running(self) -> bool:
        """Whether the task runs now."""
        return self.parent.running()

    def __repr__(self) -> str:
        done = "done" if self.done() else "not done"
        return f"<{type(self).__module__}.DataFuture object at {id(self):#x} representing {self.file_obj!r} {done}>"
