"""`python_app`, `bash_app`, `join_app`: functions whose calls are tasks of the loaded DataFlowKernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Any

from heald.compat.parsl.future import AppFuture
from heald.compat.parsl.kernel import DataFlowKernel, DataFlowKernelLoader
from heald.compat.parsl.remote import Bash, Timed

# Parameters that mean something to Parsl: their defaults count as if they were given.
_MAGIC = ("stdout", "stderr", "walltime", "parsl_resource_specification", "inputs", "outputs")


class AppBase:
    """A function whose calls are tasks."""

    def __init__(
        self,
        func: Callable[..., Any],
        data_flow_kernel: DataFlowKernel | None = None,
        executors: list[str] | str = "all",
        cache: bool = False,
        ignore_for_cache: Sequence[str] | None = None,
    ) -> None:
        if not callable(func):
            raise TypeError(f"an app is made of a function, not of {func!r}")
        if not isinstance(executors, list) and executors != "all":
            raise TypeError(f"executors={executors!r}: must be 'all' or a list of labels")
        self.__name__: str = getattr(func, "__name__", type(func).__name__)
        self.__doc__ = func.__doc__
        self.func = func
        self.data_flow_kernel = data_flow_kernel
        self.executors = executors
        self.cache = cache
        self.ignore_for_cache = ignore_for_cache
        parameters = signature(func).parameters.values()
        self.kwargs = {one.name: one.default for one in parameters if one.default is not Parameter.empty}

    def _submit(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], *, join: bool = False) -> AppFuture:
        kernel = self.data_flow_kernel or DataFlowKernelLoader.dfk()
        return kernel.submit(func, args, self.executors, self.cache, self.ignore_for_cache, kwargs, join)


class PythonApp(AppBase):
    """A Python function whose calls are tasks; with `join`, one that returns the futures of others."""

    def __init__(self, func: Callable[..., Any], *args: Any, join: bool = False, **kwargs: Any) -> None:
        super().__init__(func, *args, **kwargs)
        self.kwargs = {name: value for name, value in self.kwargs.items() if name in _MAGIC}
        self.join = join

    def __call__(self, *args: Any, **kwargs: Any) -> AppFuture:
        """Make this call a task."""
        kwargs = {**self.kwargs, **kwargs}
        walltime = kwargs.get("walltime")
        func = self.func if walltime is None else Timed(self.func, walltime)
        return self._submit(func, args, kwargs, join=self.join)


class BashApp(AppBase):
    """A function that returns a command line, whose calls are tasks that run it."""

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(func, *args, **kwargs)
        self.wrapped_remote_function = Bash(func)

    def __call__(self, *args: Any, **kwargs: Any) -> AppFuture:
        """Make this call a task."""
        return self._submit(self.wrapped_remote_function, args, {**self.kwargs, **kwargs})


def python_app(
    function: Callable[..., Any] | None = None,
    data_flow_kernel: DataFlowKernel | None = None,
    cache: bool = False,
    executors: list[str] | str = "all",
    ignore_for_cache: Sequence[str] | None = None,
    *,
    kind: Callable[..., Any] = PythonApp,
) -> Any:
    """Make a Python function's calls tasks."""
    settings = (data_flow_kernel, executors, cache, ignore_for_cache)
    return kind(function, *settings) if function is not None else lambda given: kind(given, *settings)


def bash_app(*args: Any, **kwargs: Any) -> Any:
    """Make tasks of a function that returns the command line to run with bash. Takes what `python_app` takes."""
    return python_app(*args, kind=BashApp, **kwargs)


def join_app(
    function: Callable[..., Any] | None = None,
    data_flow_kernel: DataFlowKernel | None = None,
    cache: bool = False,
    ignore_for_cache: Sequence[str] | None = None,
) -> Any:
    """Make tasks of a function that returns a future or a list of futures, whose results are the task's."""
    inner, join = ["_parsl_internal"], partial(PythonApp, join=True)
    return python_app(function, data_flow_kernel, cache, inner, ignore_for_cache, kind=join)
