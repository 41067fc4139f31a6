from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import heald
from heald.compat import NotServed
from heald.compat.parsl.app import python_app
from heald.compat.parsl.error import InvalidResourceSpecification, WorkerLost
from heald.compat.parsl.high_throughput import HighThroughputExecutor, noop_error_handler, windowed_error_handler
from heald.compat.parsl.kernel import DataFlowKernel
from heald.compat.parsl.launcher import SrunLauncher
from heald.compat.parsl.provider import ExecutionProvider, LocalProvider, PBSProProvider, SlurmProvider
from heald.compat.parsl.state import JobState


@python_app
def variables(prefix: str, parsl_resource_specification: Any = None) -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if name.startswith(prefix)}


def test_workers_know_themselves(load: Callable[..., DataFlowKernel]) -> None:
    provider = LocalProvider(worker_init="export GREETING=hello\necho noise")
    load(executors=[HighThroughputExecutor(max_workers=1, available_accelerators=["0,1"], provider=provider)])
    found = variables("").result()
    assert (found["GREETING"], found["CUDA_VISIBLE_DEVICES"], found["PARSL_WORKER_BLOCK_ID"]) == ("hello", "0,1", "0")
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


def test_bounds_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARSL_CORES", "8")
    assert HighThroughputExecutor(cores_per_worker=4).workers_per_node == 2
    assert HighThroughputExecutor(max_workers_per_node=3).workers_per_node == 3
    assert HighThroughputExecutor(available_accelerators=2).workers_per_node == 2


def test_threads_are_the_part_of_the_node(load: Callable[..., DataFlowKernel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    load(executors=[HighThroughputExecutor(max_workers_per_node=1, provider=LocalProvider(worker_init="export A=1"))])
    assert variables("OMP").result()["OMP_NUM_THREADS"] == str(len(os.sched_getaffinity(0)))


def test_cores_of_workers(load: Callable[..., DataFlowKernel]) -> None:
    @python_app
    def cores() -> tuple[list[int], str]:
        import os

        return sorted(os.sched_getaffinity(0)), os.environ["OMP_NUM_THREADS"]

    first = min(os.sched_getaffinity(0))
    load(executors=[HighThroughputExecutor(max_workers_per_node=1, cpu_affinity=f"list:{first}")])
    assert cores().result() == ([first], "1")


def test_cores_that_are_not_there(load: Callable[..., DataFlowKernel]) -> None:
    load(executors=[HighThroughputExecutor(max_workers_per_node=1, cpu_affinity="list:4000")])
    assert "there are no cores [4000] here" in str(variables("").exception())


def test_a_mistaken_affinity_is_told_at_once(load: Callable[..., DataFlowKernel]) -> None:
    with pytest.raises(heald.ConfigurationError, match="blok"):
        load(executors=[HighThroughputExecutor(cpu_affinity="blok")])


def test_blocks_of_a_scheduler() -> None:
    provider = SlurmProvider(
        "debug", nodes_per_block=2, init_blocks=0, max_blocks=3, walltime="30", launcher=SrunLauncher()
    )
    executor = HighThroughputExecutor("htex", provider, address="127.0.0.1", max_workers_per_node=4, cores_per_worker=8)
    executor.max_idletime = 60.0
    found = executor._workers()
    assert isinstance(found, heald.ClusterExecutor)
    assert (found.site.queue, found.nodes, found.workers, found.idle_seconds) == ("debug", 2, 4, 60)
    assert (found.walltime.total_seconds(), found.init, found.fewest, found.most) == (1800, 0, 0, 3)
    assert found.lease == 120
    executor.max_idletime = None  # strategy='none'
    found = executor._workers()
    assert (found.init, found.fewest, found.most, found.idle_seconds) == (0, 0, 1, 0)


def test_what_only_the_node_knows() -> None:
    executor = HighThroughputExecutor(provider=SlurmProvider(), cores_per_worker=2.5, mem_per_worker=2)
    assert executor.workers_per_node is executor._workers().workers is None
    assert executor._options(len, {}) == {"cpus": 3, "memory": 2 * 2**30}
    executor = HighThroughputExecutor(provider=PBSProProvider(cpus_per_node=64), cores_per_worker=16)
    assert executor.workers_per_node == 4
    with pytest.raises(NotServed, match="max_workers_per_node"):
        HighThroughputExecutor(provider=SlurmProvider(), cores_per_worker=0.5)._workers()


def test_handlers_and_modes() -> None:
    for handler in (True, False, noop_error_handler, partial(windowed_error_handler, threshold=5)):
        HighThroughputExecutor(block_error_handler=handler, heartbeat_period=15, encrypted=True, prefetch_capacity=2)
    with pytest.raises(NotServed, match="leave block_error_handler out"):
        HighThroughputExecutor(block_error_handler=print)
    with pytest.raises(NotServed, match="MPIExecutor"):
        HighThroughputExecutor(enable_mpi_mode=True)


def test_facts(load: Callable[..., DataFlowKernel]) -> None:
    kernel = load(executors=[HighThroughputExecutor("htex", max_workers_per_node=2)])
    htex = kernel.executors["htex"]
    assert isinstance(htex, HighThroughputExecutor)
    assert (htex.status(), htex.connected_workers, htex.outstanding()) == ({}, 0, 0)
    variables("").result()
    assert (htex.status_facade["0"].state, htex.connected_workers) == (JobState.RUNNING, 2)
    assert htex.connected_blocks() == ["0"]
    assert [node["block_id"] for node in htex.connected_managers()] == ["0"]


def test_other_providers_are_refused(load: Callable[..., DataFlowKernel]) -> None:
    class Cloud(ExecutionProvider):
        pass

    with pytest.raises(NotServed, match="Cloud"):
        load(executors=[HighThroughputExecutor(provider=Cloud())])
