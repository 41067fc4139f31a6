from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from heald.compat.parsl.config import Config
from heald.compat.parsl.kernel import DataFlowKernel, DataFlowKernelLoader
from heald.compat.parsl.pool import ParslPoolExecutor


def test_own_kernel(tmp_path: Path) -> None:
    with ParslPoolExecutor(Config(run_dir=str(tmp_path))) as pool:
        assert list(pool.map(pow, [1, 2, 3], [2, 2, 2])) == [1, 4, 9]
        assert pool.submit(abs, pool.submit(abs, -3)).result() == 3
        assert pool.app_count == 2
    assert DataFlowKernelLoader._dfk is None
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(abs, 1)


def test_kernel_of_others(load: Callable[..., DataFlowKernel]) -> None:
    kernel = load()
    with ParslPoolExecutor(dfk=kernel) as pool:
        assert pool.submit(abs, -1).result() == 1
    assert not kernel.cleanup_called


def test_one_of_both() -> None:
    with pytest.raises(ValueError, match="Must specify"):
        ParslPoolExecutor()
