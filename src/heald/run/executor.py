"""What every executor is: settings for a session, and an executor of `concurrent.futures` of its own.

An executor holds no process or thread. A session makes what it needs from it, so the same one may serve many
sessions one after another, in a notebook for example. Used on its own (`executor.submit(pow, 2, 3)`) it opens a
session with nothing else in it.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import importlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar

from heald.core.errors import ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")


class Executor(concurrent.futures.Executor):
    """Settings of what runs tasks; `label` is how tasks name it.

    `far`: the host behind which they run, where they see none of this machine's files; empty when they do.
    """

    far = ""

    def __init__(self, label: str) -> None:
        if not isinstance(label, str) or not label or label == "join":
            raise ConfigurationError(f"label={label!r}: must be a name, and not 'join'")
        self.label = label
        self._lock = threading.Lock()
        self._session: Any = None
        self._shut = False

    def pool(self, host: Any) -> Any:
        """What carries its attempts out, for the engine `host`."""
        raise ConfigurationError(f"{type(self).__name__} runs nothing")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
        """A future of `fn(*args, **kwargs)`. Raises RuntimeError after `shutdown`, as in the standard library."""
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._session is None:
                self._session = self._open()
            session = self._session
        return session.submit(fn, *args, **kwargs)  # type: ignore[no-any-return]

    def _open(self) -> Any:
        # Sessions are a floor above: only an executor used on its own needs one.
        session = importlib.import_module("heald.flow.session").Session([self], memo=None, progress=False)
        atexit.register(self.shutdown)  # as in the standard library, what was submitted is run before the end
        return session.start(current=False)

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """The values of `fn` over the iterables, in order. `chunksize` is accepted: batches are made anyway."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        return super().map(fn, *iterables, timeout=timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; wait for those there are, unless told not to."""
        with self._lock:
            self._shut = True
            session, self._session = self._session, None
        if session is None:
            return
        atexit.unregister(self.shutdown)
        if cancel_futures:
            session.cancel_waiting()
        if wait:
            session.close()
        else:
            threading.Thread(target=session.close, name="heald-shutdown").start()

    def _arguments(self) -> dict[str, Any]:
        return {"label": self.label}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments().items())
        return f"heald.{type(self).__name__}({arguments})"

    def __getstate__(self) -> dict[str, Any]:
        return self._arguments()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
