from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from heald.compat.parsl.app import python_app
from heald.compat.parsl.error import BadStateException, InvalidResourceSpecification
from heald.compat.parsl.executor import ParslExecutor, ThreadPoolExecutor
from heald.compat.parsl.kernel import DataFlowKernel


@python_app
def thread(parsl_resource_specification: Any = None) -> str:
    import threading

    return threading.current_thread().name


def test_threads_of_this_process(load: Callable[..., DataFlowKernel]) -> None:
    load(executors=[ThreadPoolExecutor(max_threads=1)])
    assert thread().result() != threading.current_thread().name
    assert isinstance(thread(parsl_resource_specification={"cores": 1}).exception(), InvalidResourceSpecification)


def test_one_that_does_not_run() -> None:
    with pytest.raises(BadStateException):
        ThreadPoolExecutor().submit(len, {}, [])


def test_one_of_your_own(load: Callable[..., DataFlowKernel]) -> None:
    class Here(ParslExecutor):
        label = "here"

        def start(self) -> None: ...

        def shutdown(self) -> None: ...

        def submit(self, func: Any, resource_specification: dict[str, Any], *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(func(*args, **kwargs))
            return future

    load(executors=[Here()])
    assert thread().result() == threading.current_thread().name
