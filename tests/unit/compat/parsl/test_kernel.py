from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from heald.compat.parsl import kernel as parsl
from heald.compat.parsl.app import bash_app, python_app
from heald.compat.parsl.error import (
    ConfigurationError,
    DataFlowException,
    DependencyError,
    JoinError,
    NoDataFlowKernelError,
)
from heald.compat.parsl.high_throughput import HighThroughputExecutor
from heald.compat.parsl.kernel import DataFlowKernel


@python_app
def identity(x: Any) -> Any:
    return x


@python_app
def fail() -> None:
    raise ValueError("on purpose")


def test_failure_travels_with_its_chain(threads: DataFlowKernel) -> None:
    first = fail()
    raised = identity(identity(first)).exception()
    assert isinstance(raised, DependencyError)
    assert raised.__cause__ is first.exception()
    assert "task 1 <- task 0" in str(raised)


def test_join_error(threads: DataFlowKernel) -> None:
    from heald.compat.parsl.app import join_app

    assert isinstance(join_app(lambda: [identity(1), fail()])().exception(), JoinError)


def test_foreign_futures_count(threads: DataFlowKernel) -> None:
    foreign: Future[int] = Future()
    future = identity(foreign)
    assert future.task_status() == "pending"
    foreign.set_result(3)
    assert future.result() == 3


def test_retries_and_their_cost(load: Callable[..., DataFlowKernel]) -> None:
    seen: list[str] = []

    def cost(raised: BaseException, record: dict[str, Any]) -> float:
        seen.append(record["func_name"])
        return 0.5

    load(retries=1, retry_handler=cost)
    assert isinstance(fail().exception(), ValueError)
    assert seen == ["fail"] * 3


def test_one_at_a_time() -> None:
    with pytest.raises(NoDataFlowKernelError):
        parsl.dfk()


def test_loading_twice(threads: DataFlowKernel) -> None:
    with pytest.raises(ConfigurationError, match="already"):
        parsl.load()
    threads.cleanup()
    with pytest.raises(NoDataFlowKernelError):
        threads.submit(abs, (1,), "all", False, None, {})


def test_no_future_stays_unresolved(load: Callable[..., DataFlowKernel], tmp_path: Path) -> None:
    @bash_app
    def endless(begun: str) -> str:
        return f"touch {begun}; sleep 600"

    with load(executors=[HighThroughputExecutor(max_workers_per_node=1)]):
        running = endless(str(tmp_path / "begun"))
        waiting = identity(Future())
        after = identity(running)
    assert running.exception() is not None
    assert isinstance(waiting.exception(), DataFlowException)
    assert after.exception() is not None


def test_exit_waits_when_told(load: Callable[..., DataFlowKernel]) -> None:
    release = threading.Event()
    with load(exit_mode="wait"):
        future = python_app(release.wait)(10)
        threading.Timer(0.01, release.set).start()
    assert future.result() is True


def test_long_chains(threads: DataFlowKernel) -> None:
    future = identity(0)
    for _ in range(2000):
        future = identity(future)
    assert future.result() == 0
    assert threads.tasks == {}


def test_numbered_folders(tmp_path: Path) -> None:
    root = str(tmp_path / "runs")
    assert [parsl._new_folder(root) for _ in range(2)] == [f"{root}/000", f"{root}/001"]
    (tmp_path / "runs" / "998").touch()
    assert parsl._new_folder(root).endswith("999")


def test_named_logs(threads: DataFlowKernel) -> None:
    @bash_app
    def hello(label: str = "x", stdout: Any = parsl.AUTO_LOGNAME) -> str:
        return "echo hello"

    future = hello()
    future.result()
    assert future.stdout.endswith("task_logs/0000/task_0000_hello_x.stdout")
    assert Path(future.stdout).read_text() == "hello\n"
