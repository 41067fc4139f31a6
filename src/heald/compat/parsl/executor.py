"""What Parsl's executors are here: sessions of heald, each with one executor in it. Threads; others build on it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import heald
from heald.compat.parsl import remote
from heald.compat.parsl.error import BadStateException, InvalidResourceSpecification
from heald.compat.parsl.representation import RepresentationMixin

Specification = dict[str, Any]


class ParslExecutor(ABC):
    """What runs tasks; one of your own needs `start`, `submit` and `shutdown`, and a `label`."""

    label: str = "undefined"
    storage_access: Sequence[Any] | None = None
    working_dir: str | os.PathLike[str] | None = None
    run_dir: str = "."
    run_id: str | None = None
    max_idletime: float | None = None  # seconds after which blocks go; None: they neither come nor go with the work
    remote_monitoring_radio: Any = None

    @abstractmethod
    def start(self) -> None:
        """Get ready for tasks."""

    @abstractmethod
    def submit(
        self, func: Callable[..., Any], resource_specification: Specification, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """A future of `func(*args, **kwargs)`."""

    @abstractmethod
    def shutdown(self) -> None:
        """End everything."""

    def monitor_resources(self) -> bool:
        """Whether resources are to be sampled."""
        return True

    def __enter__(self) -> ParslExecutor:
        return self

    def __exit__(self, *raised: object) -> None:
        self.shutdown()


class SessionExecutor(ParslExecutor, RepresentationMixin):
    """An executor that is a session of heald."""

    _body: type[remote.Body] = remote.Body
    _session: heald.Session | None = None
    _functions: WeakKeyDictionary[Any, dict[Any, heald.Function[..., Any]]]  # by what the app is made of, by options

    @abstractmethod
    def _workers(self) -> Any:
        """The executor of heald behind it."""

    def start(self) -> None:
        """Get ready for tasks."""
        self._functions = WeakKeyDictionary()
        self._session = heald.Session([self._workers()], memo=None, progress=False).start(current=False)

    def submit(
        self, func: Callable[..., Any], resource_specification: Specification, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """A future of `func(*args, **kwargs)`."""
        self.validate_resource_spec(resource_specification)
        if self._session is None:
            raise BadStateException(self, "it does not run")
        return self._session.call(self._function(func, resource_specification), (args, kwargs), {})

    def validate_resource_spec(self, resource_specification: Specification) -> None:
        """Raises InvalidResourceSpecification for what it does not take."""
        if resource_specification:
            raise InvalidResourceSpecification(
                resource_specification.keys(), f"{type(self).__name__} takes no resource specification"
            )

    def _function(self, func: Any, specification: Specification) -> heald.Function[..., Any]:
        """heald's function for `func`, made once for each set of options."""
        try:
            known = self._functions.setdefault(func, {})
        except TypeError:  # it cannot be hashed or referred to weakly
            known = {}
        options = self._options(func, specification)
        key = (*options.items(), repr(specification))
        if key not in known:
            inner = func.function if "walltime" in options else func
            known[key] = heald.task(**options)(self._made(inner, specification))
        return known[key]

    def _options(self, func: Any, specification: Specification) -> dict[str, Any]:
        return {}

    def _made(self, function: Any, specification: Specification) -> remote.Body:
        return self._body(function)

    def outstanding(self) -> int:
        """How many tasks are not over."""
        return int(self._session.tally.open) if self._session else 0

    def shutdown(self, *, wait: bool = False) -> None:
        """End everything."""
        session, self._session = self._session, None
        if session is not None:
            session.close(cancel=not wait)


@dataclass(repr=False, eq=False)
class ThreadPoolExecutor(SessionExecutor):
    """Threads of this process. It ends when all that it was given is done."""

    label: str = "threads"
    max_threads: int = 2
    thread_name_prefix: str | None = None
    storage_access: Sequence[Any] | None = None
    working_dir: str | os.PathLike[str] | None = None
    remote_monitoring_radio: Any = None

    _body = remote.LiveBody

    def _workers(self) -> heald.ThreadExecutor:
        return heald.ThreadExecutor(self.max_threads, label=self.label)

    def shutdown(self, block: bool = True, *, wait: bool = True) -> None:
        """End everything."""
        super().shutdown(wait=block and wait)

    def monitor_resources(self) -> bool:
        """Threads share the process: there is nothing to tell apart."""
        return False
