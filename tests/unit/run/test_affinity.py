from __future__ import annotations

from pathlib import Path

import pytest

from heald.core.placement import Share
from heald.core.resources import Resources
from heald.run.affinity import names, variables


def test_threads_are_as_many_as_cores() -> None:
    found = variables(Share("here", (0, 1)), Resources(cpus=2))
    assert set(found.values()) == {"2"}
    assert "OMP_NUM_THREADS" in found


def test_a_rank_has_the_threads_of_its_own_cores() -> None:
    assert variables(Share("here", (0, 1, 2, 3), ranks=2), Resources(cpus=2, ranks=2))["OMP_NUM_THREADS"] == "2"


def test_processes_are_known_by_run_task_and_attempt() -> None:
    assert names("/tmp/run.heald", 7, 2) == {"HEALD_RUN": "/tmp/run.heald", "HEALD_TASK": "7", "HEALD_ATTEMPT": "2"}


def test_devices_are_its_own_alone() -> None:
    found = variables(Share("here", (0,), (("1", 1.0), ("3", 1.0))), Resources(gpus=2))
    assert found["CUDA_VISIBLE_DEVICES"] == found["ROCR_VISIBLE_DEVICES"] == found["ZE_AFFINITY_MASK"] == "1,3"


def test_of_a_known_vendor_its_own_runtime_is_told() -> None:
    found = variables(Share("here", (0,), (("0.0", 1.0), ("5.1", 1.0))), Resources(gpus=2), vendor="intel")
    assert (found["ZE_AFFINITY_MASK"], found["HEALD_GPUS"]) == ("0.0,5.1", "0.0,5.1")
    assert not any("VISIBLE" in name for name in found)


def test_a_part_of_a_device_is_limited_where_mps_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    share, needs = Share("here", (0, 1), (("0", 0.25), ("0", 0.25)), ranks=2), Resources(gpus=0.25, ranks=2)
    assert "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" not in variables(share, needs, vendor="nvidia")
    (tmp_path / "control").touch()
    assert variables(share, needs, vendor="nvidia")["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "25"


def test_without_devices_nothing_is_said_of_them() -> None:
    assert not any("VISIBLE" in name for name in variables(Share("here", (0,)), Resources()))


def test_a_device_that_ranks_share_is_named_once() -> None:
    shared = Share("here", (0, 1, 2), (("0", 0.5), ("0", 0.5), ("1", 0.5)), ranks=3)
    assert variables(shared, Resources(gpus=0.5, ranks=3))["CUDA_VISIBLE_DEVICES"] == "0,1"
