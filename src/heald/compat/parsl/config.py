"""Parsl's Config: which executors run tasks, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from heald.compat.parsl.dependency import DependencyResolver
from heald.compat.parsl.error import ConfigurationError
from heald.compat.parsl.executor import ParslExecutor, ThreadPoolExecutor
from heald.compat.parsl.log import LogConfig
from heald.compat.parsl.memo import BasicMemoizer, Memoizer
from heald.compat.parsl.monitoring import MonitoringHub
from heald.compat.parsl.representation import RepresentationMixin, retired


def _older_memoizer(given: dict[str, Any]) -> None:
    """What Parsl had in its Config until 2025, and has in a memoizer since."""
    names = ("checkpoint_files", "checkpoint_mode", "checkpoint_period")
    older = {name: given.pop(name) for name in names if name in given}
    memoize = given.pop("app_cache", True)
    if older or not memoize:
        given.setdefault("memoizer", BasicMemoizer(memoize=memoize, **older))


@retired("lazy_errors data_management_max_threads tasks_per_node app_cache_enabled", change=_older_memoizer)
@dataclass(repr=False, eq=False)
class Config(RepresentationMixin):
    """What `parsl.load` takes; spellings that Parsl had once (`app_cache`, `checkpoint_mode`) count too."""

    executors: Sequence[ParslExecutor] = ()
    memoizer: Memoizer | None = None
    dependency_resolver: DependencyResolver | None = None
    exit_mode: str = "cleanup"
    garbage_collect: bool = True
    internal_tasks_max_threads: int = 10
    retries: int = 0
    retry_handler: Callable[[BaseException, dict[str, Any]], float] | None = None
    run_dir: str = "runinfo"
    std_autopath: Callable[..., Any] | None = None
    strategy: str | None = "simple"
    strategy_period: float = 5
    max_idletime: float = 120.0
    monitoring: MonitoringHub | None = None
    usage_tracking: int = 0
    project_name: str | None = None
    initialize_logging: bool | LogConfig = True

    def __post_init__(self) -> None:
        self.executors = tuple(self.executors or ()) or (ThreadPoolExecutor(),)
        for executor in self.executors:
            if not isinstance(executor, ParslExecutor):
                raise TypeError(f"{executor!r} is no executor")
        labels = [executor.label for executor in self.executors]
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        if repeated:
            raise ConfigurationError(f"Executors must have unique labels ({', '.join(map(repr, repeated))})")
        if self.strategy not in (None, "none", "simple", "htex_auto_scale"):
            raise ValueError(f"strategy={self.strategy!r}: must be 'none', 'simple' or 'htex_auto_scale'")
        if self.exit_mode not in ("cleanup", "skip", "wait"):
            raise TypeError(f"exit_mode={self.exit_mode!r}: must be 'cleanup', 'skip' or 'wait'")
        if not isinstance(self.usage_tracking, int) or not isinstance(self.project_name, str | None):
            raise TypeError(f"{self.usage_tracking=}, {self.project_name=}: must be a whole number, and text")
        if not 0 <= self.usage_tracking <= 3:
            raise ConfigurationError(f"Usage Tracking values must be 0, 1, 2, or 3 and not {self.usage_tracking}")
