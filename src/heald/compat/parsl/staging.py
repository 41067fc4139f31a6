"""How files named by URL come to a task and go from it, as Parsl's staging providers do it."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
import zipfile
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heald.compat.parsl.error import ZipAuthorityError
from heald.compat.parsl.file import File
from heald.compat.parsl.future import AppFuture, DataFuture
from heald.compat.parsl.remote import Around
from heald.compat.parsl.representation import RepresentationMixin
from heald.compat.parsl.state import TaskRecord

_Function = Callable[..., Any]
_TIMEOUT = 60.0  # seconds without a byte from the far side


class Staging:
    """What can bring some files, or take them away. This one takes none: override what you need."""

    def can_stage_in(self, file: File) -> bool:
        """Whether it brings that file."""
        return False

    def can_stage_out(self, file: File) -> bool:
        """Whether it takes that file away."""
        return False

    def stage_in(self, dm: DataManager, executor: str, file: File, parent_fut: Future[Any] | None) -> Any:
        """A DataFuture that the task is to wait for, or None."""

    def stage_out(self, dm: DataManager, executor: str, file: File, app_fu: Future[Any]) -> Any:
        """A future that the file is to wait for, or None."""

    def replace_task(self, dm: DataManager, executor: str, file: File, func: _Function) -> _Function | None:
        """The function to run in place of `func`, which brings the file first, or None."""

    def replace_task_stage_out(self, dm: DataManager, executor: str, file: File, func: _Function) -> _Function | None:
        """The function to run in place of `func`, which takes the file away afterwards, or None."""


class NoOpFileStaging(Staging, RepresentationMixin):
    """Files that are where they are named, for everybody."""

    def can_stage_in(self, file: File) -> bool:
        """Whether it brings that file."""
        return file.scheme == "file"

    can_stage_out = can_stage_in


class _Around(Around):
    """A function with something before it and something after."""

    def __init__(self, function: _Function, before: Any = None, after: Any = None) -> None:
        super().__init__(function)
        self.before, self.after = before, after

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.before is not None:
            _fetch(*self.before)
        value = self.function(*args, **kwargs)
        if self.after is not None:
            subprocess.run(self.after, check=True)
        return value


def _place(dm: DataManager, executor: str, file: File) -> None:
    folder = dm.dfk.executors[executor].working_dir
    file.local_path = os.path.join(folder, file.filename) if folder else file.filename


def _fetch(source: str | list[str], path: str) -> None:
    """Bring a URL (or run the command that does) to `path`. A page that says "not found" is an error."""
    if os.path.dirname(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    if isinstance(source, list):
        subprocess.run(source, check=True)
        return
    part = f"{path}.part-{os.getpid()}"
    with urllib.request.urlopen(source, timeout=_TIMEOUT) as far, open(part, "wb") as near:
        shutil.copyfileobj(far, near, 1 << 20)
    os.replace(part, path)


def _fetch_task(url: str, parent_fut: object = None, outputs: list[File] = [], **_: object) -> None:  # noqa: B006
    _fetch(url, outputs[0].filepath)


class _Fetching(Staging, RepresentationMixin):
    schemes: tuple[str, ...] = ()
    inside = False  # of the task, or by a task before it

    def can_stage_in(self, file: File) -> bool:
        """Whether it brings that file."""
        return file.scheme in self.schemes

    def stage_in(self, dm: DataManager, executor: str, file: File, parent_fut: Future[Any] | None) -> Any:
        """Say where the file will be, and bring it there when that is a task."""
        _place(dm, executor, file)
        if not self.inside:
            return dm.task(_fetch_task, executor, file.url, outputs=[file], parent_fut=parent_fut)._outputs[0]
        return None

    def replace_task(self, dm: DataManager, executor: str, file: File, func: _Function) -> _Function | None:
        """The function with the bringing before it."""
        return _Around(func, before=(file.url, file.filepath)) if self.inside else None


class HTTPSeparateTaskStaging(_Fetching):
    """http and https, as a task before the task."""

    schemes = ("http", "https")


class HTTPInTaskStaging(HTTPSeparateTaskStaging):
    """http and https, inside of the task."""

    inside = True


class FTPSeparateTaskStaging(_Fetching):
    """ftp, as a task before the task."""

    schemes = ("ftp",)


class FTPInTaskStaging(FTPSeparateTaskStaging):
    """ftp, inside of the task."""

    inside = True


class RSyncStaging(Staging, RepresentationMixin):
    """Files of another host, brought and taken away with rsync inside of the task."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname

    def can_stage_in(self, file: File) -> bool:
        """Whether it brings that file."""
        return file.scheme == "file"

    can_stage_out = can_stage_in

    def stage_in(self, dm: DataManager, executor: str, file: File, parent_fut: Future[Any] | None) -> Any:
        """Say where the file will be, and bring it there when that is a task."""
        file.path = os.path.abspath(file.path)
        _place(dm, executor, file)

    def stage_out(self, dm: DataManager, executor: str, file: File, app_fu: Future[Any]) -> Any:
        """Say where the file will be, and take it away when that is a task."""
        self.stage_in(dm, executor, file, app_fu)

    def replace_task(self, dm: DataManager, executor: str, file: File, func: _Function) -> _Function | None:
        """The function with the bringing before it."""
        line = ["rsync", "--", f"{self.hostname}:{file.path}", file.filepath]
        return _Around(func, before=(line, file.filepath))

    def replace_task_stage_out(self, dm: DataManager, executor: str, file: File, func: _Function) -> _Function | None:
        """The function with the taking away after it."""
        return _Around(func, after=["rsync", "--", file.filepath, f"{self.hostname}:{file.path}"])


class ZipFileStaging(Staging):
    """Members of zip files: `zip:/folder/file.zip/inner/name`."""

    def can_stage_in(self, file: File) -> bool:
        """Whether it brings that file."""
        if file.scheme == "zip" and file.netloc:
            raise ZipAuthorityError(file)
        return file.scheme == "zip"

    can_stage_out = can_stage_in

    def _split(self, dm: DataManager, executor: str, file: File) -> tuple[str, str]:
        archive, inner = zip_path_split(file.path)
        folder = dm.dfk.executors[executor].working_dir
        if not folder:
            raise RuntimeError("zip file staging requires a working_dir to be specified")
        file.local_path = os.path.join(folder, inner)
        os.makedirs(os.path.dirname(file.local_path), exist_ok=True)
        return archive, inner

    def stage_in(self, dm: DataManager, executor: str, file: File, parent_fut: Future[Any] | None) -> Any:
        """Say where the file will be, and bring it there when that is a task."""
        names = self._split(dm, executor, file)
        return dm.task(_unzip, "_parsl_internal", *names, outputs=[file], parent_fut=parent_fut)._outputs[0]

    def stage_out(self, dm: DataManager, executor: str, file: File, app_fu: Future[Any]) -> Any:
        """Say where the file will be, and take it away when that is a task."""
        names = self._split(dm, executor, file)
        return dm.task(_zip, "_parsl_internal", *names, inputs=[file], parent_fut=app_fu)


def zip_path_split(path: str) -> tuple[str, str]:
    """The zip file, and the name in it.

    >>> zip_path_split("/tmp/a.zip/inner/name.txt")
    ('/tmp/a.zip', 'inner/name.txt')
    """
    archive, _, inner = path.partition(".zip/")
    return f"{archive}.zip", inner


@contextmanager
def _locked(archive: str) -> Any:
    import fcntl

    os.makedirs(os.path.dirname(archive) or ".", exist_ok=True)
    with open(archive + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _zip(archive: str, inner: str, *, inputs: list[File], **_: object) -> None:
    with _locked(archive), zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
        file.write(inputs[0].filepath, inner)
    os.remove(inputs[0].filepath)


def _unzip(archive: str, inner: str, *, outputs: list[File], **_: object) -> None:
    with _locked(archive), zipfile.ZipFile(archive) as file:
        Path(outputs[0].filepath).write_bytes(file.read(inner))


default_staging = [NoOpFileStaging(), FTPSeparateTaskStaging(), HTTPSeparateTaskStaging(), ZipFileStaging()]


class DataManager:
    """Asks the staging providers of an executor for the files of a task. The first that says yes has the file."""

    def __init__(self, dfk: Any) -> None:
        self.dfk = dfk

    def task(self, function: _Function, executor: str, *args: Any, **kwargs: Any) -> AppFuture:
        """Run a task that moves files, which nobody moves files for."""
        kwargs["_parsl_staging_inhibit"] = True
        return self.dfk.submit(function, args, [executor], False, None, kwargs)  # type: ignore[no-any-return]

    def stage(self, record: TaskRecord) -> None:
        """Put what is to be waited for in the places of files, and what moves files around the function."""
        kwargs = record["kwargs"]
        for name, value in kwargs.items():
            if isinstance(value, File | DataFuture) and name not in ("stdout", "stderr"):
                kwargs[name] = self._stage_in(record, value)
        if any(isinstance(value, File | DataFuture) for value in record["args"]):
            record["args"] = tuple(self._stage_in(record, value) for value in record["args"])
        if kwargs.get("inputs"):
            kwargs["inputs"] = [self._stage_in(record, value) for value in kwargs["inputs"]]
        future = record["app_fu"]
        for place, value in enumerate(kwargs.get("outputs", ())):
            kwargs["outputs"][place], data = self._stage_out(record, value)
            future._outputs.append(data)
        if isinstance(kwargs.get("stdout"), File):
            kwargs["stdout"], future._stdout_future = self._stage_out(record, kwargs["stdout"])
        if isinstance(kwargs.get("stderr"), File):
            kwargs["stderr"], future._stderr_future = self._stage_out(record, kwargs["stderr"])

    def _provider(self, record: TaskRecord, file: File, question: str) -> Staging:
        label = record["executor"]
        providers: Any = getattr(self.dfk.executors[label], "storage_access", None)
        for provider in default_staging if providers is None else providers:
            if getattr(provider, question)(file):
                return provider
        raise ValueError(f"Executor {label} cannot stage file {file!r}")

    def _stage_in(self, record: TaskRecord, value: Any) -> Any:
        if not isinstance(value, File | DataFuture):
            return value
        parent = value if isinstance(value, DataFuture) else None
        file = (value.file_obj if isinstance(value, DataFuture) else value).cleancopy()
        given = DataFuture(parent, file, tid=parent.tid) if parent else file
        provider = self._provider(record, file, "can_stage_in")
        staged = provider.stage_in(self, record["executor"], file, parent_fut=parent)
        replaced = provider.replace_task(self, record["executor"], file, record["func"])
        record["func"] = replaced or record["func"]
        return staged or given

    def _stage_out(self, record: TaskRecord, file: File) -> tuple[File, DataFuture]:
        copy = file.cleancopy()
        provider = self._provider(record, copy, "can_stage_out")
        staged = provider.stage_out(self, record["executor"], copy, record["app_fu"])
        replaced = provider.replace_task_stage_out(self, record["executor"], copy, record["func"])
        record["func"] = replaced or record["func"]
        return copy, DataFuture(staged or record["app_fu"], file, tid=record["id"])
