from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heald.compat.parsl.app import bash_app, join_app, python_app
from heald.compat.parsl.error import AppTimeout, BashExitFailure, MissingOutputs, NoDataFlowKernelError
from heald.compat.parsl.file import File
from heald.compat.parsl.kernel import DataFlowKernel


@python_app
def double(x: int) -> int:
    return 2 * x


@bash_app
def shell(line: str, stdout: Any = None, stderr: Any = None, outputs: Any = ()) -> str:
    return line


@pytest.fixture(params=["threads", "processes"])
def kernel(request: pytest.FixtureRequest) -> DataFlowKernel:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def test_python_app_waits_for_futures(kernel: DataFlowKernel) -> None:
    assert double(double(3)).result() == 12


def test_without_kernel() -> None:
    with pytest.raises(NoDataFlowKernelError):
        double(1)


def test_join_app(kernel: DataFlowKernel) -> None:
    @join_app
    def both(x: int) -> Any:
        return [double(x), double(x + 1)]

    assert both(1).result() == [2, 4]


def test_join_of_something_else(threads: DataFlowKernel) -> None:
    @join_app
    def wrong() -> Any:
        return 3

    with pytest.raises(TypeError, match="Future or list of Futures"):
        wrong().result()


def test_bash_app_writes_streams_and_outputs(kernel: DataFlowKernel, tmp_path: Path) -> None:
    out, err, made = tmp_path / "logs" / "out", tmp_path / "err", tmp_path / "made"
    future = shell(f"echo hello; touch {made}", stdout=str(out), stderr=(str(err), "w"), outputs=[File(made)])
    assert future.result() == 0
    assert out.read_text() == "hello\n"
    assert err.read_text().startswith("--> executable follows <--\necho hello")
    assert future.outputs[0].result().filepath == str(made)


def test_bash_app_fails(kernel: DataFlowKernel, tmp_path: Path) -> None:
    failed = shell("exit 3").exception()
    assert isinstance(failed, BashExitFailure)
    assert (failed.app_name, failed.exitcode) == ("shell", 3)
    assert isinstance(shell("true", outputs=[File(tmp_path / "nothing")]).exception(), MissingOutputs)


def test_walltime_ends_all_that_a_command_started(kernel: DataFlowKernel) -> None:
    @bash_app
    def late(walltime: float = 0.2) -> str:
        return "sleep 60 & wait"

    assert isinstance(late().exception(), AppTimeout)


def test_walltime_of_python(kernel: DataFlowKernel) -> None:
    @python_app
    def late(walltime: float = 0.2) -> None:
        while True:
            pass

    assert isinstance(late().exception(), AppTimeout)


def test_python_app_keeps_its_output_in_processes(processes: DataFlowKernel, tmp_path: Path) -> None:
    @python_app
    def talk(stdout: Any = None) -> None:
        print("hello")

    talk(stdout=str(tmp_path / "out")).result()
    assert (tmp_path / "out").read_text() == "hello\n"


def test_lists_of_the_caller_stay(threads: DataFlowKernel) -> None:
    @python_app
    def total(inputs: Any = ()) -> int:
        return sum(inputs)

    given = [double(1), double(2)]
    future = total(inputs=given)
    given.append(double(50))
    assert future.result() == 6
    assert given[0].tid == 0
