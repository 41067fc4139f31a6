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
from functools import wraps
from types import TracebackType
from typing import Any

import heald


class ParslError(Exception):
    """What Parsl itself reports."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[ParslError], args: tuple[Any, ...], state: dict[str, Any]) -> ParslError:
    # Constructors take other arguments than Exception keeps: go round them.
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(ParslError):
    """A configuration that cannot be."""


class OptionalModuleMissing(ParslError):
    """A module that a feature needs is not installed."""

    def __init__(self, module_names: list[str], reason: str) -> None:
        super().__init__(module_names, reason)
        self.module_names = module_names
        self.reason = reason

    def __str__(self) -> str:
        return f"modules {self.module_names} are needed: {self.reason}"


class InternalConsistencyError(ParslError):
    """Something that should not be possible."""


class NoDataFlowKernelError(ParslError):
    """Nothing was loaded, or it was cleaned up already."""


# -- apps --------------------------------------------------------------------------------------------------------------


class AppException(ParslError):
    """An app failed."""


class AppBadFormatting(ParslError):
    """The command line of a bash app could not be made."""


class BashExitFailure(AppException):
    """The command of a bash app ended with a status other than 0."""

    def __init__(self, app_name: str, exitcode: int) -> None:
        super().__init__(app_name, exitcode)
        self.app_name = app_name
        self.exitcode = exitcode

    def __str__(self) -> str:
        return f"bash_app {self.app_name} failed with unix exit code {self.exitcode}"


class AppTimeout(AppException):
    """An app ran longer than its walltime."""


class _Reasoned(ParslError):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class BashAppNoReturn(_Reasoned, AppException):
    """A bash app returned no command line."""


class MissingOutputs(ParslError):
    """A bash app ended well but did not write what it promised."""

    def __init__(self, reason: str, outputs: list[Any]) -> None:
        super().__init__(reason, outputs)
        self.reason = reason
        self.outputs = outputs

    def __str__(self) -> str:
        return f"Missing Outputs: {self.outputs}, Reason: {self.reason}"


class BadStdStreamFile(_Reasoned):
    """A file for standard output or error that cannot be."""

    def __str__(self) -> str:
        return f"Bad Stream File: {self.reason}"


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

    failure = "Failure"

    def __init__(self, dependent_exceptions_tids: Sequence[tuple[BaseException, str]], task_id: int) -> None:
        super().__init__(dependent_exceptions_tids, task_id)
        self.dependent_exceptions_tids = dependent_exceptions_tids
        self.task_id = task_id
        self._trail: list[str] = []
        error: BaseException = self
        while isinstance(error, PropagatedException) and error.dependent_exceptions_tids:
            others = " (+ others)" if len(error.dependent_exceptions_tids) > 1 else ""
            cause, name = error.dependent_exceptions_tids[0]
            self._trail.append(name + others)
            error = cause
        self.__cause__ = error if error is not self else None

    def __str__(self) -> str:
        trail = " <- ".join(self._trail)
        return f"{self.failure} failure for task {self.task_id}. The representative cause is via {trail}"


class DependencyError(PropagatedException):
    """A task that this one needed failed."""

    failure = "Dependency"


class JoinError(PropagatedException):
    """A task that a join app returned failed."""

    failure = "Join"


# -- executors and what is below ---------------------------------------------------------------------------------------


class ExecutorError(ParslError):
    """An executor failed."""

    def __init__(self, executor: Any, reason: str) -> None:
        super().__init__(executor, reason)
        self.executor = executor
        self.reason = reason

    def __str__(self) -> str:
        return f"Executor {getattr(self.executor, 'label', self.executor)} failed due to: {self.reason}"


class BadStateException(ExecutorError):
    """An executor can run nothing any more."""

    def __init__(self, executor: Any, exception: Any) -> None:
        super().__init__(executor, str(exception))


class UnsupportedFeatureError(ExecutorError):
    """An executor was asked for what it does not do."""

    def __init__(self, feature: str, current_executor: str, target_executor: str | None) -> None:
        super().__init__(current_executor, f"the {feature} feature is unsupported in {current_executor}")
        self.feature = feature
        self.current_executor = current_executor
        self.target_executor = target_executor


class InvalidResourceSpecification(ExecutorError):
    """A `parsl_resource_specification` that the executor does not take."""

    def __init__(self, invalid_keys: Iterable[str], message: str = "") -> None:
        super().__init__("", message)
        self.invalid_keys = set(invalid_keys)
        self.message = message

    def __str__(self) -> str:
        return f"Invalid Resource Specification Supplied: {self.invalid_keys}. {self.message}"


class ScalingFailed(ExecutorError):
    """Blocks could not be started."""


class BadMessage(_Reasoned):
    """A message that nobody understands."""


class ManagerLost(Exception):
    """The node that ran the task is gone."""

    def __init__(self, manager_id: Any, hostname: str) -> None:
        super().__init__(manager_id, hostname)
        self.manager_id = manager_id
        self.hostname = hostname

    def __str__(self) -> str:
        return f"Task failure due to loss of manager {self.manager_id} on host {self.hostname}"


class WorkerLost(Exception):
    """The process that ran the task died under it."""

    def __init__(self, worker_id: Any, hostname: str) -> None:
        super().__init__(worker_id, hostname)
        self.worker_id = worker_id
        self.hostname = hostname

    def __str__(self) -> str:
        return f"Task failure due to loss of worker {self.worker_id} on host {self.hostname}"


class VersionMismatch(Exception):
    """Two sides that cannot talk. heald's workers are always of the version of their driver."""


class SerializationError(ParslError):
    """A function, an argument or a value that cannot travel."""

    def __init__(self, fname: str) -> None:
        super().__init__(fname)
        self.fname = fname
        self.troubleshooting = "make what cannot travel inside of the app"

    def __str__(self) -> str:
        return f"Failed to serialize {self.fname}"


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


class SubmitException(ExecutionProviderException):
    """A job could not be submitted."""

    def __init__(
        self, job_name: str, message: str, stdout: str | None = None, stderr: str | None = None, retcode: int = 0
    ) -> None:
        super().__init__(job_name, message)
        self.job_name = job_name
        self.message = message
        self.stdout = stdout
        self.stderr = stderr
        self.retcode = retcode


class BadLauncher(ExecutionProviderException, TypeError):
    """No launcher."""

    def __init__(self, launcher: Any) -> None:
        super().__init__(launcher)
        self.launcher = launcher

    def __str__(self) -> str:
        return f"Bad Launcher provided: {self.launcher}, expecting callable"


class TooManyJobFailuresError(ParslError):
    """All blocks failed."""


class ZipAuthorityError(ParslError):
    """A zip URL that names a host."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.file = file

    def __str__(self) -> str:
        return f"ZipFileStaging cannot stage {self.file.url}: it names a host ({self.file.netloc})"


def translated(raised: BaseException) -> BaseException:
    """What Parsl would have raised in place of an error of heald; anything else as it is."""
    found: BaseException
    if isinstance(raised, heald.WalltimeExceeded):
        found = AppTimeout(raised.message)
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
