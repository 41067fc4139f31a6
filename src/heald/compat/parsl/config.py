"""Parsl's Config: which executors run tasks, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from heald.compat.parsl.error import ConfigurationError
from heald.compat.parsl.executor import ParslExecutor, ThreadPoolExecutor
from heald.compat.parsl.log import LogConfig
from heald.compat.parsl.memo import BasicMemoizer, Memoizer
from heald.compat.parsl.monitoring import MonitoringHub
from heald.compat.parsl.representation import RepresentationMixin, retired

_CACHE = ("checkpoint_files", "checkpoint_mode", "checkpoint_period")


class Config(RepresentationMixin):
    """What `parsl.load` takes. The spellings that Parsl had until 2025 (`app_cache`, `checkpoint_mode`) count too."""

    @retired("lazy_errors", "data_management_max_threads", "tasks_per_node", "app_cache_enabled")
    def __init__(
        self,
        executors: Iterable[ParslExecutor] | None = None,
        memoizer: Memoizer | None = None,
        dependency_resolver: Any = None,
        exit_mode: str = "cleanup",
        garbage_collect: bool = True,
        internal_tasks_max_threads: int = 10,
        retries: int = 0,
        retry_handler: Callable[[BaseException, dict[str, Any]], float] | None = None,
        run_dir: str = "runinfo",
        std_autopath: Callable[..., Any] | None = None,
        strategy: str | None = "simple",
        strategy_period: float = 5,
        max_idletime: float = 120.0,
        monitoring: MonitoringHub | None = None,
        usage_tracking: int = 0,
        project_name: str | None = None,
        initialize_logging: bool | LogConfig = True,
        **older: Any,
    ) -> None:
        self._executors = tuple(executors or ()) or (ThreadPoolExecutor(),)
        _check(self._executors, exit_mode, usage_tracking, project_name)
        self.memoizer = memoizer or _older_memoizer(older)
        if older:
            raise TypeError(f"Config has no setting {next(iter(older))!r}")
        self.dependency_resolver = dependency_resolver
        self.exit_mode = exit_mode
        self.garbage_collect = garbage_collect
        self.internal_tasks_max_threads = internal_tasks_max_threads
        self.retries = retries
        self.retry_handler = retry_handler
        self.run_dir = run_dir
        self.std_autopath = std_autopath
        self.strategy = strategy
        self.strategy_period = strategy_period
        self.max_idletime = max_idletime
        self.monitoring = monitoring
        self.usage_tracking = usage_tracking
        self.project_name = project_name
        self.initialize_logging = initialize_logging

    @property
    def executors(self) -> Sequence[ParslExecutor]:
        """What runs tasks."""
        return self._executors


def _check(executors: Sequence[Any], exit_mode: str, usage_tracking: int, project_name: str | None) -> None:
    for executor in executors:
        if not isinstance(executor, ParslExecutor):
            raise TypeError(f"{executor!r} is no executor")
    labels = [executor.label for executor in executors]
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise ConfigurationError(f"Executors must have unique labels ({', '.join(map(repr, repeated))})")
    if exit_mode not in ("cleanup", "skip", "wait"):
        raise TypeError(f"exit_mode={exit_mode!r}: must be 'cleanup', 'skip' or 'wait'")
    if not isinstance(usage_tracking, int) or not isinstance(project_name, str | None):
        raise TypeError(f"{usage_tracking=}, {project_name=}: must be a whole number, and text")
    if not 0 <= usage_tracking <= 3:
        raise ConfigurationError(f"Usage Tracking values must be 0, 1, 2, or 3 and not {usage_tracking}")


def _older_memoizer(older: dict[str, Any]) -> Memoizer | None:
    given = {name: older.pop(name) for name in _CACHE if name in older}
    memoize = older.pop("app_cache", True)
    return BasicMemoizer(memoize=memoize, **given) if given or not memoize else None
