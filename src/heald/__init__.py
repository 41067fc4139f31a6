"""Runs functions, commands and MPI programs as tasks: the public names.

Each name is loaded when it is first used, so that `import heald` costs next to nothing. The names stand twice below:
as imports for type checkers, as text for the interpreter. A test holds the two together.
"""

from importlib import import_module

from heald.core.version import __version__ as __version__

TYPE_CHECKING = False  # as `typing` has it, which alone takes longer to load than all of this

if TYPE_CHECKING:
    from heald.core.environment import Environment as Environment
    from heald.core.errors import CommandFailed as CommandFailed
    from heald.core.errors import ConfigurationError as ConfigurationError
    from heald.core.errors import CycleError as CycleError
    from heald.core.errors import DependencyError as DependencyError
    from heald.core.errors import HealdError as HealdError
    from heald.core.errors import JournalCorrupt as JournalCorrupt
    from heald.core.errors import JournalError as JournalError
    from heald.core.errors import JournalLocked as JournalLocked
    from heald.core.errors import NotPicklable as NotPicklable
    from heald.core.errors import OutOfMemory as OutOfMemory
    from heald.core.errors import OutputMissing as OutputMissing
    from heald.core.errors import Requeue as Requeue
    from heald.core.errors import ResultError as ResultError
    from heald.core.errors import SchedulerUnreachable as SchedulerUnreachable
    from heald.core.errors import SiteError as SiteError
    from heald.core.errors import StagingError as StagingError
    from heald.core.errors import SubmitFailed as SubmitFailed
    from heald.core.errors import TaskCancelled as TaskCancelled
    from heald.core.errors import TaskError as TaskError
    from heald.core.errors import UsageError as UsageError
    from heald.core.errors import WalltimeExceeded as WalltimeExceeded
    from heald.core.errors import WorkerLost as WorkerLost
    from heald.core.resources import Resources as Resources
    from heald.core.retry import Retry as Retry
    from heald.data.file import File as File
    from heald.flow.current import current_session as current_session
    from heald.flow.run import Run as Run
    from heald.flow.run import runs as runs
    from heald.flow.session import Session as Session
    from heald.flow.task import Function as Function
    from heald.flow.task import command as command
    from heald.flow.task import join as join
    from heald.flow.task import task as task
    from heald.run.cluster.executor import ClusterExecutor as ClusterExecutor
    from heald.run.command import CommandLine as CommandLine
    from heald.run.command import Completed as Completed
    from heald.run.current import current_attempt as current_attempt
    from heald.run.future import Future as Future
    from heald.run.future import as_completed as as_completed
    from heald.run.future import wait as wait
    from heald.run.guest.dask import DaskExecutor as DaskExecutor
    from heald.run.guest.ray import RayExecutor as RayExecutor
    from heald.run.process import ProcessExecutor as ProcessExecutor
    from heald.run.thread import ThreadExecutor as ThreadExecutor

_MODULES = {
    "heald.core.environment": "Environment",
    "heald.core.errors": (
        "CommandFailed ConfigurationError CycleError DependencyError HealdError JournalCorrupt JournalError "
        "JournalLocked NotPicklable OutOfMemory OutputMissing Requeue ResultError SchedulerUnreachable SiteError "
        "StagingError SubmitFailed TaskCancelled TaskError UsageError WalltimeExceeded WorkerLost"
    ),
    "heald.core.resources": "Resources",
    "heald.core.retry": "Retry",
    "heald.data.file": "File",
    "heald.flow.current": "current_session",
    "heald.flow.run": "Run runs",
    "heald.flow.session": "Session",
    "heald.flow.task": "Function command join task",
    "heald.run.cluster.executor": "ClusterExecutor",
    "heald.run.command": "CommandLine Completed",
    "heald.run.current": "current_attempt",
    "heald.run.future": "Future as_completed wait",
    "heald.run.guest.dask": "DaskExecutor",
    "heald.run.guest.ray": "RayExecutor",
    "heald.run.process": "ProcessExecutor",
    "heald.run.thread": "ThreadExecutor",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

if not TYPE_CHECKING:  # to a type checker, `__getattr__` would make every misspelt name right
    __all__ = sorted(_HOMES)

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value

    def __dir__() -> list[str]:
        return __all__
