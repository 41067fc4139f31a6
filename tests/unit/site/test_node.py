from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from heald.site.node import grant, machine
from heald.site.profile import NodeShape


class Tree:
    """A file system of a machine that is not this one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, text: str = "") -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def cores(self, number: int, threads: int = 1) -> None:
        """So many cores; the second thread of core i is cpu i + number."""
        self.write("sys/devices/system/cpu/online", f"0-{number * threads - 1}")
        for cpu in range(number * threads):
            siblings = ",".join(str(cpu % number + number * thread) for thread in range(threads))
            self.write(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_this_machine() -> None:
    here = machine()
    assert set(here.cpus) <= os.sched_getaffinity(0)
    assert sorted(cpu for core in here.cores for cpu in core) == list(here.cpus)
    assert here.name
    assert here.memory > 0
    assert here.shape.cores == len(here.cores)


class TestCores:
    def test_threads_belong_to_a_core_and_cores_to_a_domain(self, tree: Tree) -> None:
        tree.cores(4, threads=2)
        tree.write("sys/devices/system/node/node0/cpulist", "0-1,4-5")
        tree.write("sys/devices/system/node/node1/cpulist", "2-3,6-7")
        tree.write("sys/devices/system/node/node2/cpulist", "")  # memory only
        tree.write("proc/meminfo", "MemTotal:       1024 kB\nMemFree: 1 kB")
        here = machine({}, tree.root)
        assert here.cpus == tuple(range(8))
        assert here.cores == ((0, 4), (1, 5), (2, 6), (3, 7))
        assert here.domains == ((0, 1, 4, 5), (2, 3, 6, 7))
        assert here.shape == NodeShape(cores=4, numa=2, memory=2**20)

    def test_a_kernel_that_tells_little(self, tree: Tree) -> None:
        tree.write("sys/devices/system/cpu/online", "0-1")
        here = machine({}, tree.root)
        assert (here.cores, here.domains, here.memory) == (((0,), (1,)), ((0, 1),), 0)

    def test_a_quota_of_a_control_group_counts(self, tree: Tree) -> None:
        tree.cores(8)
        tree.write("proc/self/cgroup", "0::/job/step")
        tree.write("sys/fs/cgroup/job/step/cpu.max", "max 100000")
        tree.write("sys/fs/cgroup/job/cpu.max", "350000 100000")
        tree.write("sys/fs/cgroup/job/memory.max", "4096")
        tree.write("proc/meminfo", "MemTotal:       1024 kB")
        here = machine({}, tree.root)
        assert (here.cpus, here.memory) == ((0, 1, 2), 4096)

    def test_of_version_1_too(self, tree: Tree) -> None:
        tree.cores(8)
        tree.write("proc/self/cgroup", "4:cpu,cpuacct:/job\n3:memory:/job\n1:name=systemd:/x")
        tree.write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "200000")
        tree.write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000")
        tree.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "8192")
        here = machine({}, tree.root)
        assert (len(here.cpus), here.memory) == (2, 8192)

    def test_what_the_scheduler_granted_counts(self, tree: Tree) -> None:
        tree.cores(4, threads=2)
        job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n1", "SLURM_MEM_PER_NODE": "2", "SLURMD_NODENAME": "n1"}
        here = machine({**job, "SLURM_CPUS_ON_NODE": "2"}, tree.root)
        assert (here.name, here.cores, here.memory) == ("n1", ((0, 4), (1, 5)), 2**21)
        assert len(machine({**job, "SLURM_CPUS_ON_NODE": "64"}, tree.root).cores) == 4


class TestDevices:
    @pytest.mark.parametrize(
        ("variables", "found"),
        [
            ({"CUDA_VISIBLE_DEVICES": "2,3"}, ("nvidia", ("2", "3"))),
            ({"CUDA_VISIBLE_DEVICES": "GPU-89-d7", "ROCR_VISIBLE_DEVICES": "1"}, ("nvidia", ("GPU-89-d7",))),
            ({"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "1"}, ("amd", ("1",))),
            ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ("", ())),
            ({"CUDA_VISIBLE_DEVICES": "-1"}, ("", ())),
            ({"ZE_AFFINITY_MASK": "0.0,0.1"}, ("intel", ("0.0", "0.1"))),
            ({}, ("nvidia", ("0", "1"))),
        ],
    )  # fmt: skip
    def test_those_that_were_left_visible(
        self, tree: Tree, variables: dict[str, str], found: tuple[str, tuple[str, ...]]
    ) -> None:
        for bus in ("0000:01:00.0", "0000:41:00.0"):
            tree.write(f"proc/driver/nvidia/gpus/{bus}/information")
        here = machine(variables, tree.root)
        assert (here.gpu, here.gpus) == found

    def test_slurm_names_them_for_every_vendor(self, tree: Tree) -> None:
        tree.write("sys/class/kfd/kfd/topology/nodes/0/properties", "simd_count 440")
        names = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
        here = machine(dict.fromkeys(names, "2,3"), tree.root)
        assert (here.gpu, here.gpus) == ("amd", ("2", "3"))

    def test_amd(self, tree: Tree) -> None:
        for number, units in enumerate((0, 0, 440, 440, 440)):  # the first two are processors
            tree.write(
                f"sys/class/kfd/kfd/topology/nodes/{number}/properties", f"cpu_cores_count 0\nsimd_count {units}"
            )
        here = machine({}, tree.root)
        assert (here.gpu, here.gpus) == ("amd", ("0", "1", "2"))

    def test_intel_has_tiles(self, tree: Tree) -> None:
        for number, kind in enumerate(("0x030000", "0x038000", "0x038000")):  # the first has a screen
            tree.write(f"sys/class/drm/card{number}/device/vendor", "0x8086")
            tree.write(f"sys/class/drm/card{number}/device/class", kind)
        for tile in range(2):
            tree.write(f"sys/class/drm/card1/gt/gt{tile}/id")
        tree.write("sys/class/drm/card9/device/vendor", "0x1a03")
        here = machine({}, tree.root)
        assert (here.gpu, here.gpus) == ("intel", ("0.0", "0.1", "1"))
        assert machine({"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}, tree.root).gpus == here.gpus
        assert machine({"ZE_FLAT_DEVICE_HIERARCHY": "FLAT"}, tree.root).gpus == ("0", "1", "2")


class TestGrant:
    def test_none(self) -> None:
        assert grant({}).scheduler == ""

    def test_slurm(self) -> None:
        found = grant({
            "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_CPUS_ON_NODE": "4",
            "SLURM_JOB_END_TIME": "1795350863", "HEALD_ENDS": "1",
        })  # fmt: skip
        assert (found.scheduler, found.job, found.hosts, found.cpus) == ("slurm", "7", ("n1", "n2"), 4)
        assert found.ends == datetime.fromtimestamp(1795350863, UTC)

    def test_pbs(self, tree: Tree) -> None:
        tree.write("var/spool/nodes", "n1\nn1\nn2")
        found = grant({"PBS_JOBID": "12.n0", "PBS_NODEFILE": "/var/spool/nodes", "HEALD_ENDS": "1795350863"}, tree.root)
        assert (found.scheduler, found.job, found.hosts, found.cpus) == ("pbs", "12.n0", ("n1", "n2"), 0)
        assert found.ends == datetime.fromtimestamp(1795350863, UTC)

    def test_grid_engine(self, tree: Tree) -> None:
        here = socket.gethostname()
        tree.write("hosts", f"{here}.domain 2 batch@n1 UNDEFINED\nn2 3 batch@n2 UNDEFINED")
        found = grant({"JOB_ID": "2", "SGE_ROOT": "/x", "PE_HOSTFILE": "/hosts"}, tree.root)
        assert (found.scheduler, found.hosts, found.cpus) == ("gridengine", (f"{here}.domain", "n2"), 2)
        alone = grant({"JOB_ID": "2", "SGE_ROOT": "/x", "NSLOTS": "1"}, tree.root)
        assert (alone.hosts, alone.cpus) == ((here,), 1)

    def test_lsf(self) -> None:
        found = grant({"LSB_JOBID": "3", "LSB_MCPU_HOSTS": f"n1 4 {socket.gethostname()} 8"})
        assert (found.scheduler, found.hosts[0], found.cpus) == ("lsf", "n1", 8)

    def test_hosts_that_heald_itself_gave(self) -> None:
        found = grant({"HEALD_HOSTS": "a b", "SLURM_JOB_ID": "7", "HEALD_ENDS": ""})
        assert (found.scheduler, found.hosts, found.ends) == ("", ("a", "b"), None)
        assert grant({"HEALD_HOSTS": "n[1-2],x"}).hosts == ("n1", "n2", "x")
