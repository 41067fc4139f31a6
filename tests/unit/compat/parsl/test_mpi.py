from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import heald
from heald.compat.parsl.app import python_app
from heald.compat.parsl.error import InvalidResourceSpecification
from heald.compat.parsl.kernel import DataFlowKernel
from heald.compat.parsl.launcher import SimpleLauncher, SrunLauncher
from heald.compat.parsl.mpi import MPIExecutor
from heald.compat.parsl.provider import LocalProvider, SlurmProvider


@python_app
def variables(parsl_resource_specification: Any = None) -> dict[str, str]:
    import os

    return dict(os.environ)


def test_on_one_machine(load: Callable[..., DataFlowKernel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    load(executors=[MPIExecutor(provider=LocalProvider(launcher=SimpleLauncher()))])
    found = variables(parsl_resource_specification={"ranks_per_node": 2}).result()
    assert found["PARSL_MPI_PREFIX"] == "mpiexec -n 2 -ppn 2"
    assert not {"OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"} & found.keys()
    more = variables(parsl_resource_specification={"num_ranks": 3}).result()
    assert more["PARSL_SRUN_PREFIX"] == "srun --ntasks 3 --ntasks-per-node 3"


def test_on_the_nodes_of_a_job(load: Callable[..., DataFlowKernel], tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("n1\nn2\nn3\n")
    init = f"export PBS_NODEFILE={tmp_path / 'nodes'} CUDA_VISIBLE_DEVICES=7"
    provider = LocalProvider(worker_init=init, launcher=SimpleLauncher())
    load(executors=[MPIExecutor(max_workers_per_block=2, mpi_launcher="srun", provider=provider)])
    specification = {"num_nodes": 2, "ranks_per_node": 4, "launcher_options": "--label"}
    futures = [variables(parsl_resource_specification=specification) for _ in range(4)]
    for found in (future.result() for future in futures):
        nodes = found["PARSL_MPI_NODELIST"]
        assert nodes in ("n1,n2", "n1,n3", "n2,n3")
        assert found["PARSL_MPI_PREFIX"] == (
            f"srun --ntasks 8 --ntasks-per-node 4 --nodelist {nodes} --nodes 2 --label"
        )
        assert found["PARSL_MPIEXEC_PREFIX"] == f"mpiexec -n 8 -ppn 4 -hosts {nodes} --label"
        assert (found["PARSL_NUM_RANKS"], found["CUDA_VISIBLE_DEVICES"]) == ("8", "7")


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ({}, "need some of"),
        ({"cores": 1}, "need some of"),
        ({"num_nodes": 2}, "num_nodes is 2, and a block has 1"),
        ({"num_ranks": 3, "ranks_per_node": 2}, "num_nodes . ranks_per_node"),
    ],
)
def test_specifications(load: Callable[..., DataFlowKernel], specification: dict[str, int], message: str) -> None:
    executor = MPIExecutor(provider=LocalProvider(launcher=SimpleLauncher()))
    with pytest.raises(InvalidResourceSpecification, match=message):
        executor.validate_resource_spec(specification)


def test_what_is_needed() -> None:
    with pytest.raises(TypeError, match="SimpleLauncher"):
        MPIExecutor(provider=LocalProvider(launcher=SrunLauncher()))
    with pytest.raises(ValueError, match="mpi_launcher"):
        MPIExecutor(mpi_launcher="ssh", provider=LocalProvider(launcher=SimpleLauncher()))


def test_blocks_of_a_scheduler() -> None:
    provider = SlurmProvider(nodes_per_block=4, launcher=SimpleLauncher(), cores_per_node=64)
    found = MPIExecutor(max_workers_per_block=2, provider=provider)._workers()
    assert isinstance(found, heald.ClusterExecutor)
    assert (found.nodes, found.workers, found.gpus, found.site.launcher) == (4, 2, ("0", "1", "2", "3"), "fork")
    assert "HEALD_HOSTS" in found.site.setup[0]
