"""ParslPoolExecutor: a `concurrent.futures` executor on a DataFlowKernel."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

from heald.compat.parsl.app import PythonApp
from heald.compat.parsl.config import Config
from heald.compat.parsl.kernel import DataFlowKernel, DataFlowKernelLoader


class ParslPoolExecutor(Executor):
    """Runs functions on a loaded DataFlowKernel, or on one of its own made from `config`."""

    def __init__(
        self, config: Config | None = None, dfk: DataFlowKernel | None = None, executors: list[str] | str = "all"
    ) -> None:
        if (config is None) == (dfk is None):
            raise ValueError("Specify only one of config or dfk" if config else "Must specify one of config or dfk")
        self.executors = executors
        self._own = config is not None
        self._dfk = DataFlowKernelLoader.load(config) if config is not None else dfk
        self._apps: dict[Callable[..., Any], PythonApp] = {}

    @property
    def app_count(self) -> int:
        """How many functions it has seen."""
        return len(self._apps)

    def get_app(self, fn: Callable[..., Any]) -> PythonApp:
        """The app of a function, made once."""
        if fn not in self._apps:
            self._apps[fn] = PythonApp(fn, data_flow_kernel=self._dfk, executors=self.executors)
        return self._apps[fn]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future of `fn(*args, **kwargs)`. Raises RuntimeError after `shutdown`."""
        if self._dfk is None:
            raise RuntimeError("Executor has been shut down.")
        return self.get_app(fn)(*args, **kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """The results of the calls, in order; all are submitted at once."""
        end = None if timeout is None else time.monotonic() + timeout
        futures = [self.submit(fn, *args) for args in zip(*iterables, strict=False)]
        return (future.result(None if end is None else end - time.monotonic()) for future in futures)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; wait for what there is; end the DataFlowKernel when it is its own."""
        kernel, self._dfk = self._dfk, None
        if kernel is None:
            return
        if cancel_futures:
            warnings.warn("Canceling on-going tasks is not supported in Parsl", stacklevel=2)
        if wait:
            kernel.wait_for_current_tasks()
        if self._own:
            kernel.cleanup()

    def __exit__(self, *raised: object) -> None:
        if self._own:
            self.shutdown()
