from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heald.compat.parsl.config import Config
from heald.compat.parsl.high_throughput import HighThroughputExecutor
from heald.compat.parsl.kernel import DataFlowKernel, DataFlowKernelLoader


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., DataFlowKernel]]:
    """Loads a Config with the run folder of the test; what is loaded is cleaned up after it."""

    def loader(**settings: Any) -> DataFlowKernel:
        return DataFlowKernelLoader.load(Config(run_dir=str(tmp_path / "runinfo"), **settings))

    yield loader
    if DataFlowKernelLoader._dfk is not None:
        DataFlowKernelLoader.dfk().cleanup()


@pytest.fixture
def threads(load: Callable[..., DataFlowKernel]) -> DataFlowKernel:
    return load()


@pytest.fixture
def processes(load: Callable[..., DataFlowKernel]) -> DataFlowKernel:
    return load(executors=[HighThroughputExecutor(label="htex", max_workers_per_node=1)])
