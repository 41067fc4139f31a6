from __future__ import annotations

from typing import Any

import pytest

from heald.compat.parsl.app import python_app
from heald.compat.parsl.error import DependencyError
from heald.compat.parsl.file import File
from heald.compat.parsl.kernel import DataFlowKernel


@python_app
def make(outputs: Any = ()) -> dict[str, complex]:
    return {"a": 1 + 2j}


def test_parts_are_futures(threads: DataFlowKernel) -> None:
    future = make()
    assert future["a"].imag.result() == 2
    assert isinstance(future["b"].real.exception(), DependencyError)


def test_outputs(threads: DataFlowKernel) -> None:
    future = make(outputs=[File("/tmp/x")])
    (data,) = future.outputs
    assert (data.filepath, data.tid, data.result().path) == ("/tmp/x", future.tid, "/tmp/x")
    assert future.task_def is future.task_record
    assert future.task_status() == "exec_done"


def test_cancel_is_refused(threads: DataFlowKernel) -> None:
    future = make()
    with pytest.raises(NotImplementedError, match="heald"):
        future.cancel()
    future.result()
