"""Every error that heald raises, as one tree.

    HealdError                      code, hint
    ├── UsageError (ValueError)     the call is wrong; nothing was started
    │   ├── NotPicklable (also TypeError)
    │   ├── CycleError
    │   └── ConfigurationError
    ├── JournalError                the record of a run cannot be used
    │   ├── JournalLocked
    │   └── JournalCorrupt
    ├── StagingError (OSError)      a file could not be brought, checked or delivered
    ├── Requeue                     raised by a task that was told of its end, to be run again
    ├── SiteError                   a machine or its scheduler did not do what was asked
    │   ├── SubmitFailed            the scheduler refused a job
    │   └── SchedulerUnreachable    nobody answers there; ask again later
    └── TaskError                   one task failed for a reason other than its own exception
        ├── DependencyError         a task that it needed failed; the chain is named
        ├── WorkerLost              its process died under it
        ├── OutOfMemory
        ├── WalltimeExceeded
        ├── CommandFailed           the command ended with a status other than 0
        ├── OutputMissing           it ended well but did not write what it promised
        ├── ResultError             its value could not be pickled, or not unpickled
        └── TaskCancelled (concurrent.futures.CancelledError)

A task that raises an exception of its own fails with that very exception; the task, the attempt, the log
paths and a hint are added to it as notes. All of these pickle.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any


class HealdError(Exception):
    """What heald itself reports: `code` is stable and can be matched, `hint` says what to do next."""

    code = "heald"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.__dict__, self.args)


def _rebuild(cls: type[HealdError], state: dict[str, Any], args: tuple[Any, ...]) -> HealdError:
    error = cls.__new__(cls, *args)
    error.args = args  # which OSError leaves to its constructor
    error.__dict__.update(state)
    return error


class UsageError(HealdError, ValueError):
    """The call is wrong as it stands; nothing was started."""

    code = "usage"


class NotPicklable(UsageError, TypeError):
    """A function or an argument that cannot travel to another process."""

    code = "not-picklable"


class CycleError(UsageError):
    """A task that would wait for itself."""

    code = "cycle"


class ConfigurationError(UsageError):
    """A session, an executor or a file of settings that cannot be."""

    code = "configuration"


class JournalError(HealdError):
    """The record of a run cannot be read or written."""

    code = "journal"


class JournalLocked(JournalError):
    """Another living run writes this journal."""

    code = "journal-locked"


class JournalCorrupt(JournalError):
    """The journal is damaged before its end, where no crash of a writer can explain it."""

    code = "journal-corrupt"


class StagingError(HealdError, OSError):
    """A file could not be brought in, checked or delivered."""

    code = "staging"


class Requeue(HealdError):
    """Raised by a task that was told that its time ends: run it again, at no charge. See `notice` of a task."""

    code = "requeue"

    def __init__(self, message: str = "its time ends, and it asks to be run again", *, hint: str = "") -> None:
        super().__init__(message, hint=hint)


class SiteError(HealdError):
    """A machine, its scheduler or its launcher did not do what was asked of it."""

    code = "site"


class SubmitFailed(SiteError):
    """The scheduler refused a job; the message has its own words."""

    code = "submit"


class SchedulerUnreachable(SiteError):
    """The scheduler did not answer. That says nothing about its jobs: ask again later."""

    code = "scheduler-unreachable"


class TaskError(HealdError):
    """One task failed for a reason other than an exception of its own.

    `task` is its id, `name` its name, `attempt` the try that failed (from 1), `site` the machine it ran on,
    `stdout` and `stderr` the paths of what it printed (empty when there is nothing).
    """

    code = "task"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        task: int = 0,
        name: str = "",
        attempt: int = 0,
        site: str = "",
        stdout: str = "",
        stderr: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.task = task
        self.name = name
        self.attempt = attempt
        self.site = site
        self.stdout = stdout
        self.stderr = stderr


class DependencyError(TaskError):
    """A task that this one needed did not end well; `chain` names the tasks from this one to the one that failed."""

    code = "dependency"
    chain: tuple[str, ...] = ()


class WorkerLost(TaskError):
    """The process that ran the task died under it."""

    code = "worker-lost"


class OutOfMemory(TaskError):
    """The task used more memory than it asked for, or than there was."""

    code = "out-of-memory"


class WalltimeExceeded(TaskError):
    """The task ran longer than its walltime and was stopped."""

    code = "walltime"


class CommandFailed(TaskError):
    """The command ended with a status other than 0; `returncode` is negative for a signal, as in `subprocess`."""

    code = "command-failed"
    returncode: int = 0


class OutputMissing(TaskError):
    """The task ended well but did not write a file that it promised in `outputs`."""

    code = "output-missing"


class ResultError(TaskError):
    """The value that the task returned could not be pickled there, or not unpickled here."""

    code = "result"


class TaskCancelled(TaskError, CancelledError):
    """The task was cancelled, with the reason."""

    code = "cancelled"
