from __future__ import annotations

from pathlib import Path

import pytest

from heald.site.device import VARIABLES, limited, visible


def test_a_vendor_s_runtime_is_told_in_its_own_variable() -> None:
    assert visible(["GPU-89d7", "MIG-12"], "nvidia") == {
        "HEALD_GPUS": "GPU-89d7,MIG-12",
        "CUDA_VISIBLE_DEVICES": "GPU-89d7,MIG-12",
    }
    assert visible(["0.1", "5.0"], "intel") == {"HEALD_GPUS": "0.1,5.0", "ZE_AFFINITY_MASK": "0.1,5.0"}


def test_hip_counts_among_what_rocm_has_left() -> None:
    """With "4" in both variables, HIP would look for the fifth of one device, and find none."""
    found = visible(["4", "GPU-6f7a"], "amd")
    assert (found["ROCR_VISIBLE_DEVICES"], found["HEALD_GPUS"]) == ("4,GPU-6f7a", "4,GPU-6f7a")
    # Slurm may have set them to what the whole job has.
    assert {found[name] for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")} == {"0,1"}


def test_of_a_vendor_that_is_not_known_all_are_told() -> None:
    found = visible(["1"])
    assert set(found.values()) == {"1"}
    assert set(found) == {"HEALD_GPUS", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"}
    assert set(found) < set(VARIABLES)


class TestMps:
    @pytest.fixture
    def served(self, tmp_path: Path) -> dict[str, str]:
        (tmp_path / "control").touch()
        return {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}

    @pytest.mark.parametrize(
        ("part", "percent"), [(0.25, "25"), (0.5, "50"), (1 / 3, "33"), (0.29, "29"), (0.004, "1")]
    )
    def test_a_part_is_a_whole_percentage(self, served: dict[str, str], part: float, percent: str) -> None:
        assert limited(part, "nvidia", served) == {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": percent}

    def test_whole_devices_and_those_of_others_are_not_limited(self, served: dict[str, str]) -> None:
        assert limited(1, "nvidia", served) == limited(2, "nvidia", served) == limited(0.5, "amd", served) == {}

    def test_without_a_daemon_nothing_is_said(self, tmp_path: Path) -> None:
        assert limited(0.25, "nvidia", {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}) == {}

    def test_what_somebody_has_set_stays(self, served: dict[str, str]) -> None:
        assert limited(0.25, "nvidia", {**served, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "100"}) == {}
