from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heald.compat import NotServed
from heald.compat.parsl.app import python_app
from heald.compat.parsl.error import InvalidResourceSpecification, WorkerLost
from heald.compat.parsl.executor import HighThroughputExecutor, MPIExecutor
from heald.compat.parsl.kernel import DataFlowKernel
from heald.compat.parsl.provider import ExecutionProvider, LocalProvider, SimpleLauncher


@python_app
def variables(prefix: str, parsl_resource_specification: Any = None) -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if name.startswith(prefix)}


def test_workers_know_themselves(load: Callable[..., DataFlowKernel]) -> None:
    provider = LocalProvider(worker_init="export GREETING=hello\necho noise")
    load(executors=[HighThroughputExecutor(max_workers=1, available_accelerators=["a"], provider=provider)])
    found = variables("").result()
    assert (found["GREETING"], found["CUDA_VISIBLE_DEVICES"]) == ("hello", "a")
    assert (found["PARSL_WORKER_RANK"], found["PARSL_WORKER_COUNT"]) == ("0", "1")


def test_a_worker_that_dies_frees_its_rank(load: Callable[..., DataFlowKernel]) -> None:
    @python_app
    def die() -> None:
        import os

        os._exit(1)

    load(executors=[HighThroughputExecutor(max_workers_per_node=1)])
    assert isinstance(die().exception(), WorkerLost)
    assert variables("PARSL").result()["PARSL_WORKER_RANK"] == "0"


def test_specifications(load: Callable[..., DataFlowKernel]) -> None:
    load(executors=[HighThroughputExecutor(max_workers_per_node=1)])
    assert variables("PARSL_PRIORITY", parsl_resource_specification={"priority": 3}).result() == {"PARSL_PRIORITY": "3"}
    assert variables("PARSL_PRIORITY").result() == {}
    refused = variables("", parsl_resource_specification={"cores": 2}).exception()
    assert isinstance(refused, InvalidResourceSpecification)


def test_the_lowest_priority_goes_first(load: Callable[..., DataFlowKernel], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")

    @python_app
    def note(
        name: str, order: str = str(tmp_path / "order"), gate: str = "", parsl_resource_specification: Any = None
    ) -> None:
        if gate:
            open(gate).close()
        with open(order, "a") as file:
            file.write(name)

    load(executors=[HighThroughputExecutor(max_workers_per_node=1)])
    futures = [note("first ", gate=str(tmp_path / "gate"))]
    futures += [note(f"{rank} ", parsl_resource_specification={"priority": rank}) for rank in (3, 1, 2)]
    open(tmp_path / "gate", "w").close()  # opened by both ends at once
    for future in futures:
        future.result()
    assert (tmp_path / "order").read_text() == "first 1 2 3 "


def test_mpi_prefix(load: Callable[..., DataFlowKernel]) -> None:
    load(executors=[MPIExecutor(provider=LocalProvider(launcher=SimpleLauncher()))])
    found = variables("PARSL", parsl_resource_specification={"ranks_per_node": 2}).result()
    assert found["PARSL_MPI_PREFIX"] == "mpiexec -n 2 -ppn 2"
    assert isinstance(variables("").exception(), InvalidResourceSpecification)


def test_bounds_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARSL_CORES", "8")
    assert HighThroughputExecutor(cores_per_worker=4).workers_per_node == 2
    assert HighThroughputExecutor(max_workers_per_node=3).workers_per_node == 3
    assert HighThroughputExecutor(available_accelerators=2).workers_per_node == 2


def test_other_providers_are_refused(load: Callable[..., DataFlowKernel]) -> None:
    class Cloud(ExecutionProvider):
        pass

    with pytest.raises(NotServed, match="Cloud"):
        load(executors=[HighThroughputExecutor(provider=Cloud())])
