"""Parsl's futures: of an app, and of a file that an app writes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from heald.compat.parsl.file import File
from heald.compat.parsl.state import TaskRecord


class AppFuture(Future[Any]):
    """The result of an app, now or later. `future[key]` and `future.name` are futures of parts of it."""

    def __init__(self, task_record: TaskRecord) -> None:
        super().__init__()
        self.task_record = task_record
        self._outputs: list[DataFuture] = []
        self._stdout_future: DataFuture | None = None
        self._stderr_future: DataFuture | None = None

    @property
    def tid(self) -> int:
        """The id of the task."""
        return self.task_record["id"]  # type: ignore[no-any-return]

    @property
    def task_def(self) -> TaskRecord:
        """The record of the task, by the name that it had once."""
        return self.task_record

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

    def cancel(self) -> bool:
        """Not possible in Parsl: raises NotImplementedError. `heald.Future.cancel` stops tasks."""
        raise NotImplementedError("Parsl's futures cannot be cancelled; those of heald.task(...).submit can")

    def cancelled(self) -> bool:
        """Never."""
        return False

    def __getitem__(self, key: Any) -> AppFuture:
        return self._lifted(operator.getitem, key)

    def __getattr__(self, name: str) -> AppFuture:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._lifted(getattr, name)

    def _lifted(self, part: Any, key: Any) -> AppFuture:
        kernel = self.task_record["dfk"]
        return kernel.submit(part, (self, key), ["_parsl_internal"], False, None, {})  # type: ignore[no-any-return]


class DataFuture(Future[File]):
    """A file, once the task that writes it (or the staging of it) is done."""

    def __init__(self, fut: Future[Any], file_obj: File, tid: int) -> None:
        super().__init__()
        self.parent = fut
        self.file_obj = file_obj
        self._tid = tid
        fut.add_done_callback(self.parent_callback)

    def parent_callback(self, parent_fu: Future[Any]) -> None:
        """The parent is over: so is this."""
        raised = parent_fu.exception()
        if raised is not None:
            self.set_exception(raised)
        else:
            self.set_result(self.file_obj)

    @property
    def tid(self) -> int:
        """The id of the task that writes it."""
        return self._tid

    @property
    def filepath(self) -> str:
        """The local path of the file."""
        return self.file_obj.filepath

    filename = filepath

    def running(self) -> bool:
        """Whether the task runs now."""
        return self.parent.running()

    def cancel(self) -> bool:
        """Not possible in Parsl: raises NotImplementedError."""
        raise NotImplementedError("Parsl's futures cannot be cancelled")

    def cancelled(self) -> bool:
        """Never."""
        return False

    def __repr__(self) -> str:
        done = "done" if self.done() else "not done"
        return f"<{type(self).__module__}.DataFuture object at {id(self):#x} representing {self.file_obj!r} {done}>"
