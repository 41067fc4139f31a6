"""Parsl's exceptions, and which of them stands for which error of heald.

ParslError
├── ConfigurationError, OptionalModuleMissing, InternalConsistencyError, NoDataFlowKernelError
├── AppException ── BashExitFailure, AppTimeout, BashAppNoReturn
├── AppBadFormatting, MissingOutputs, BadStdStreamFile
├── DataFlowException ── BadCheckpoint, PropagatedException ── DependencyError, JoinError
├── ExecutorError ── BadStateException, UnsupportedFeatureError, InvalidResourceSpecification, ScalingFailed
├── BadMessage, SerializationError, DeserializationError, BadLauncher, TooManyJobFailuresError, ZipAuthorityError
└── ExecutionProviderException ── ScaleOutFailed, SchedulerMissingArgs, ScriptPathError, SubmitException
Exception ── ManagerLost, WorkerLost, VersionMismatch
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from types import TracebackType
from typing import Any

import heald


class ParslError(Exception):
    """What Parsl itself reports. `text` tells it, where what it was made with does not by itself."""

    text = ""

    def __str__(self) -> str:
        return self.text.format(self) or super().__str__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[ParslError], args: tuple[Any, ...], state: dict[str, Any]) -> ParslError:
    # Constructors take other arguments than Exception keeps: go round them.
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


@dataclass(eq=False, repr=False)
class _Reasoned(ParslError):
    reason: str
    text = "{0.reason}"


class ConfigurationError(ParslError):
    """A configuration that cannot be."""


class OptionalModuleMissing(ParslError):
    """A module that a feature needs is not installed."""


class InternalConsistencyError(ParslError):
    """Something that should not be possible."""


class NoDataFlowKernelError(ParslError):
    """Nothing was loaded, or it was cleaned up already."""


# -- apps --------------------------------------------------------------------------------------------------------------


class AppException(ParslError):
    """An app failed."""


class AppBadFormatting(ParslError):
    """The command line of a bash app could not be made."""


@dataclass(eq=False, repr=False)
class BashExitFailure(AppException):
    """The command of a bash app ended with a status other than 0."""

    app_name: str
    exitcode: int
    text = "bash_app {0.app_name} failed with unix exit code {0.exitcode}"


class AppTimeout(AppException):
    """An app ran longer than its walltime."""


class BashAppNoReturn(_Reasoned, AppException):
    """A bash app returned no command line."""


@dataclass(eq=False, repr=False)
class MissingOutputs(ParslError):
    """A bash app ended well but did not write what it promised."""

    reason: str
    outputs: list[Any]
    text = "Missing Outputs: {0.outputs}, Reason: {0.reason}"


class BadStdStreamFile(_Reasoned):
    """A file for standard output or error that cannot be."""

    text = "Bad Stream File: {0.reason}"


class RemoteExceptionWrapper:
    """An exception as a value. heald sends exceptions themselves: this is for code that makes one."""

    def __init__(self, e_type: type, e_value: BaseException, traceback: TracebackType | None) -> None:
        self.e_type = e_type
        self.e_value = e_value
        self.e_traceback = traceback

    def get_exception(self) -> BaseException:
        """The exception, with its traceback."""
        return self.e_value.with_traceback(self.e_traceback)

    def reraise(self) -> None:
        """Raise it."""
        raise self.get_exception()

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteExceptionWrapper, (self.e_type, self.e_value, None)


def wrap_error(func: Callable[..., Any]) -> Callable[..., Any]:
    """`func`, returning what it raises as a RemoteExceptionWrapper."""

    @wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return func(*args, **kwargs)
        except Exception as raised:
            return RemoteExceptionWrapper(type(raised), raised, raised.__traceback__)

    return wrapped


# -- dataflow ----------------------------------------------------------------------------------------------------------


class DataFlowException(ParslError):
    """The graph cannot go on."""


class BadCheckpoint(_Reasoned, DataFlowException):
    """A checkpoint that cannot be read."""


class PropagatedException(DataFlowException):
    """A task failed because others did: `dependent_exceptions_tids` has their exceptions, and what they are called."""

    text = "{0.failure} failure for task {0.task_id}. The representative cause is via {0._trail}"
    failure = "Failure"

    def __init__(self, dependent_exceptions_tids: Sequence[tuple[BaseException, str]], task_id: int) -> None:
        super().__init__(dependent_exceptions_tids, task_id)
        self.dependent_exceptions_tids = dependent_exceptions_tids
        self.task_id = task_id
        trail: list[str] = []
        error: BaseException = self
        while isinstance(error, PropagatedException) and error.dependent_exceptions_tids:
            others = " (+ others)" if len(error.dependent_exceptions_tids) > 1 else ""
            cause, name = error.dependent_exceptions_tids[0]
            trail.append(name + others)
            error = cause
        self._trail = " <- ".join(trail)
        self.__cause__ = error if error is not self else None


class DependencyError(PropagatedException):
    """A task that this one needed failed."""

    failure = "Dependency"


class JoinError(PropagatedException):
    """A task that a join app returned failed."""

    failure = "Join"


# -- executors and what is below ---------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class ExecutorError(ParslError):
    """An executor failed."""

    executor: Any
    reason: Any
    text = "Executor {0.executor.label} failed due to: {0.reason}"


class BadStateException(ExecutorError):
    """An executor can run nothing any more."""


class UnsupportedFeatureError(ExecutorError):
    """An executor was asked for what it does not do."""


class InvalidResourceSpecification(ExecutorError):
    """A `parsl_resource_specification` that the executor does not take."""

    text = "Invalid Resource Specification Supplied: {0.invalid_keys}. {0.message}"

    def __init__(self, invalid_keys: Iterable[str], message: str = "") -> None:
        super().__init__(None, message)
        self.invalid_keys = set(invalid_keys)
        self.message = message


class ScalingFailed(ExecutorError):
    """Blocks could not be started."""


class BadMessage(_Reasoned):
    """A message that nobody understands."""


@dataclass(eq=False, repr=False)
class _Lost(Exception):
    worker_id: Any
    hostname: str
    what = ""

    def __str__(self) -> str:
        return f"Task failure due to loss of {self.what} {self.worker_id} on host {self.hostname}"


class ManagerLost(_Lost):
    """The node that ran the task is gone."""

    what = "manager"


class WorkerLost(_Lost):
    """The process that ran the task died under it."""

    what = "worker"


class VersionMismatch(Exception):
    """Two sides that cannot talk. heald's workers are always of the version of their driver."""


@dataclass(eq=False, repr=False)
class SerializationError(ParslError):
    """A function, an argument or a value that cannot travel."""

    fname: str
    text = "Failed to serialize {0.fname}"
    troubleshooting = "make what cannot travel inside of the app"


class DeserializationError(_Reasoned):
    """What travelled cannot be opened again."""


class ExecutionProviderException(ParslError):
    """A provider failed."""


class ScaleOutFailed(ExecutionProviderException):
    """Blocks could not be started."""


class SchedulerMissingArgs(ExecutionProviderException):
    """A provider lacks a setting."""


class ScriptPathError(ExecutionProviderException):
    """A script of a provider cannot be written."""


@dataclass(eq=False, repr=False)
class SubmitException(ExecutionProviderException):
    """A job could not be submitted."""

    job_name: str
    message: str
    stdout: str | None = None
    stderr: str | None = None
    retcode: int = 0


@dataclass(eq=False, repr=False)
class BadLauncher(ExecutionProviderException, TypeError):
    """No launcher."""

    launcher: Any
    text = "Bad Launcher provided: {0.launcher}, expecting callable"


class TooManyJobFailuresError(ParslError):
    """All blocks failed."""


@dataclass(eq=False, repr=False)
class ZipAuthorityError(ParslError):
    """A zip URL that names a host."""

    file: Any
    text = "ZipFileStaging cannot stage {0.file.url}: it names a host ({0.file.netloc})"


def translated(raised: BaseException, executor: Any = None) -> BaseException:
    """What Parsl would have raised in place of an error of heald on that executor; anything else as it is."""
    found: BaseException
    if isinstance(raised, heald.WalltimeExceeded):
        found = AppTimeout(raised.message)
    elif isinstance(raised, heald.WorkerLost) and not raised.attempt:  # nobody had it, and nobody will
        found = BadStateException(executor, raised)
    elif isinstance(raised, heald.WorkerLost | heald.OutOfMemory) or type(raised) is heald.TaskError:  # sys.exit
        found = WorkerLost(raised.task, raised.site or "localhost")
    elif isinstance(raised, heald.NotPicklable):
        found = SerializationError(raised.message)
    elif isinstance(raised, heald.ResultError):
        found = (DeserializationError if "unpickled" in raised.message else SerializationError)(raised.message)
    else:
        return raised
    found.__cause__ = raised
    for note in getattr(raised, "__notes__", ()):
        found.add_note(note)
    return found
