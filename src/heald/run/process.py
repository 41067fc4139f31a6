"""ProcessExecutor: this machine's cores, as warm worker processes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from heald.core.environment import PLAIN, Environment
from heald.core.errors import ConfigurationError, NotPicklable
from heald.core.resources import seconds, size
from heald.run.environment import environment as checked
from heald.run.executor import Executor

if TYPE_CHECKING:
    from heald.run.pool import Host, Pool


class ProcessExecutor(Executor):
    """Runs tasks in worker processes on this machine's cores; the default.

    `workers`: cores to use, by default all that this process may use; each runs one single-core task at a time.
    `gpus`: the names of devices, or their number. `memory`: what tasks may ask for in all; 0 to leave it uncounted.
    `bind`: pin each task to its cores. `grace`: time between the signal to stop and the kill. `initializer`: called
    with `initargs` in each worker when it starts; variables of the environment that it sets stay. `environment`: that
    of tasks, for what they do not say themselves: `{"modules": ["gcc/12"], "conda": "md"}`, see `Environment`.

    It is an executor of `concurrent.futures` too:

    >>> with ProcessExecutor(workers=1) as executor:
    ...     executor.submit(pow, 2, 10).result()
    1024

    Raises ConfigurationError for counts and sizes that cannot be.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        label: str = "process",
        gpus: int | Sequence[str] = 0,
        memory: int | str = 0,
        bind: bool = False,
        grace: timedelta | float | str = 5.0,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        environment: Mapping[str, Any] | Environment = PLAIN,
    ) -> None:
        super().__init__(label)
        available = sorted(os.sched_getaffinity(0))
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
            raise ConfigurationError(f"workers={workers!r}: must be a whole number, at least 1")
        self.workers = workers or len(available)
        if bind and self.workers > len(available):
            raise ConfigurationError(
                f"workers={self.workers} cannot be bound: there are {len(available)} cores here", hint="leave bind out"
            )
        self.gpus = devices(gpus)
        self.memory = size(memory)
        self.bind = bind
        self.grace = grace
        self.grace_seconds = seconds(grace)
        if initializer is not None and not callable(initializer):
            raise ConfigurationError(f"initializer={initializer!r}: must be a function")
        self.initializer = initializer
        self.initargs = tuple(initargs)
        self.environment = checked(environment)
        self.cores = tuple(available[: self.workers]) if bind else tuple(range(self.workers))

    def pool(self, host: Host) -> Pool:
        """What carries its attempts out."""
        from heald.run.pool import Pool

        return Pool(self, host)

    def pickled_initializer(self) -> bytes:
        """What each worker calls first, ready to travel; empty when there is nothing. Raises NotPicklable."""
        return pickled(self.initializer, self.initargs, self.label)

    def _arguments(self) -> dict[str, Any]:
        given: dict[str, Any] = {"initializer": self.initializer, "initargs": self.initargs} if self.initializer else {}
        if self.environment != PLAIN:
            given["environment"] = self.environment.said
        return {
            "workers": self.workers,
            "label": self.label,
            "gpus": self.gpus,
            "memory": self.memory,
            "bind": self.bind,
            "grace": self.grace_seconds,
            **given,
        }


def pickled(initializer: Callable[..., object] | None, initargs: tuple[Any, ...], label: str) -> bytes:
    """An initializer of workers, ready to travel; empty when there is none. Raises NotPicklable."""
    if initializer is None:
        return b""
    import cloudpickle

    try:
        found: bytes = cloudpickle.dumps(functools.partial(initializer, *initargs), 5)
    except Exception as raised:
        raise NotPicklable(f"the initializer of executor {label!r} cannot be pickled: {raised}") from raised
    return found


def devices(gpus: int | Sequence[str]) -> tuple[str, ...]:
    """Names of devices, from names or their number. Raises ConfigurationError."""
    if isinstance(gpus, int) and not isinstance(gpus, bool) and gpus >= 0:
        return tuple(map(str, range(gpus)))
    if isinstance(gpus, list | tuple) and len(set(map(str, gpus))) == len(gpus):
        return tuple(map(str, gpus))
    raise ConfigurationError(f"gpus={gpus!r}: must be a number of devices, or a list of their names, each once")
