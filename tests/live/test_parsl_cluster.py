"""Scripts written for Parsl, run as they are on the nodes of batch jobs: real Slurm and Grid Engine, and a fake PBS.

Those for PBS are written as people write them for Polaris and Aurora, with the accounts and the network that the
testbed has; its nodes pretend to have the cores.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.testbed import mpi
from tests.testbed.gridengine import GridEngine
from tests.testbed.host import HEAD, Hosts, python
from tests.testbed.pbs import FakePbs
from tests.testbed.slurm import Slurm

# What all the scripts begin with. `told` prints, as JSON, what so many workers are.
PRELUDE = """
import json, os, parsl
from parsl import bash_app, python_app
from parsl.addresses import address_by_interface
from parsl.config import Config
from parsl.executors import HighThroughputExecutor, MPIExecutor
from parsl.jobs.error_handlers import windowed_error_handler
from parsl.launchers import GnuParallelLauncher, MpiExecLauncher, SimpleLauncher, SrunLauncher
from parsl.providers import GridEngineProvider, LocalProvider, PBSProProvider, SlurmProvider

prepare = f"export GREETING=hello PATH={os.environ.get('MPI', '')}:$PATH"


@python_app
def where(workers):
    # Says who runs it, when so many do.
    import os, socket, time
    worker = " ".join(os.environ[f"PARSL_WORKER_{name}"] for name in ("RANK", "COUNT", "BLOCK_ID"))
    found = [socket.gethostname(), worker, os.environ.get("ZE_AFFINITY_MASK"), os.environ.get("GREETING")]
    open("worker-" + "-".join(map(str, found)), "w").close()
    while len([name for name in os.listdir() if name.startswith("worker-")]) < workers:
        time.sleep(0.05)
    return [*found, sorted(os.sched_getaffinity(0))]


@bash_app
def program(parsl_resource_specification, stdout=None):
    return "$PARSL_MPI_PREFIX -l hostname"


def told(workers, **config):
    with parsl.load(Config(**config)):
        found = [future.result() for future in [where(workers) for _ in range(workers)]]
        print(json.dumps(sorted(map(str, found))), flush=True)
"""


def command(folder: Path, script: str) -> list[object]:
    """What runs a script with Parsl's names served by heald."""
    python(folder, PRELUDE + script)
    return [sys.executable, "-W", "error", "-m", "heald", "run", "--compat", folder / "script.py"]


def run(hosts: Hosts, folder: Path, script: str) -> list[Any]:
    """What a script on the head host printed, a value a line."""
    around = {"MPI": str(mpi.get("mpich").mpiexec.parent)}
    done = hosts.run(HEAD, command(folder, script), folder=folder, timeout=120, environment=around)
    return list(map(json.loads, done.stdout.splitlines()))


def workers(hosts: str, devices: object = None, block: int = 0, cores: tuple[int, ...] = (0, 1)) -> list[str]:
    """Two workers of each host, as `told` prints them: each with a core, and a device if there are any."""
    named = devices if isinstance(devices, list) else [devices, devices]
    return [
        str([host, f"{rank} 2 {block}", named[rank], "hello", [cores[rank]]])
        for host in hosts.split()
        for rank in (0, 1)
    ]


class TestSlurm:
    def test_blocks(self, slurm: Slurm, tmp_path: Path) -> None:
        script = """
provider = SlurmProvider(
    "batch", nodes_per_block=2, init_blocks=1, min_blocks=0, max_blocks=2, walltime="00:05:00", worker_init=prepare,
    scheduler_options="#SBATCH --comment=mine", launcher=SrunLauncher(overrides="-K0 -k"), cmd_timeout=60,
)
htex = HighThroughputExecutor(
    label="htex", address=address_by_interface("eth0"), max_workers_per_node=2, cpu_affinity="list:0:1",
    provider=provider, block_error_handler=windowed_error_handler,
)
with parsl.load(Config(executors=[htex], retries=2, strategy="htex_auto_scale")):
    found = [future.result() for future in [where(8) for _ in range(8)]]
    print(json.dumps(sorted(map(str, found))))
    print(json.dumps({block: str(one.state) for block, one in htex.status().items()}))
    print(json.dumps([sorted(htex.blocks_to_job_id), htex.connected_workers == 4 * len(htex.connected_blocks())]))
"""
        found, states, facts = run(slurm.hosts, tmp_path, script)
        first = [workers(pair) for pair in ("n1 n2", "n3 n4")]
        second = [workers(pair, block=1) for pair in ("n1 n2", "n3 n4")]
        assert found in (sorted(first[0] + second[1]), sorted(first[1] + second[0]))
        assert states == {"0": "JobState.RUNNING", "1": "JobState.RUNNING"}
        assert facts == [["0", "1"], True]

    def test_no_nodes_can_be_had(self, slurm: Slurm, tmp_path: Path) -> None:
        script = """
provider = SlurmProvider("batch", worker_init="echo no such module; exit 3")
with parsl.load(Config(executors=[HighThroughputExecutor(label="htex", provider=provider)])):
    print(json.dumps([type(where(1).exception()).__name__, str(where(1).exception())]))
"""
        ((name, text),) = run(slurm.hosts, tmp_path, script)
        assert name == "BadStateException"
        assert "Executor htex failed" in text
        assert "no such module" in text

    def test_workers_of_the_first_node_alone(self, slurm: Slurm, tmp_path: Path) -> None:
        script = """
provider = SlurmProvider(nodes_per_block=3, worker_init=prepare, launcher=SimpleLauncher())
htex = HighThroughputExecutor(max_workers_per_node=2, cpu_affinity="list:0:1", provider=provider)
told(2, executors=[htex])
"""
        assert run(slurm.hosts, tmp_path, script)[0] in [workers(host) for host in ("n1", "n2")]

    def test_inside_of_a_job(self, slurm: Slurm, tmp_path: Path) -> None:
        script = """
provider = LocalProvider(nodes_per_block=2, worker_init=prepare, launcher=SrunLauncher(), max_blocks=1)
htex = HighThroughputExecutor(max_workers_per_node=2, cpu_affinity="list:0:1", provider=provider)
told(4, executors=[htex])
"""
        line = " ".join(map(str, command(tmp_path, script)))
        out = tmp_path / "out"
        job = slurm.submit(line, "--nodes=2", "--exclusive", "--mem=0", f"--output={out}", folder=tmp_path)
        assert slurm.await_state(job, "COMPLETED", "FAILED", patience=60) == "COMPLETED", out.read_text()
        assert json.loads(out.read_text()) in [workers(pair) for pair in ("n1 n2", "n3 n4")]


# Makes Python believe in as many cores as a node of Polaris or Aurora has, where the workers are.
PRETENDED = """
import os

cores = set(range(int(os.environ["PRETENDED"])))


def bind(process, wanted):
    cores.clear()
    cores.update(wanted)


os.sched_getaffinity = lambda process: set(cores)
os.sched_setaffinity = bind
"""
# What both scripts go on with: `seats` prints where so many workers are, and what is theirs.
SEATS = """
prepare += f"; export PYTHONPATH={os.getcwd()}/pretended:$PYTHONPATH PRETENDED="


@python_app
def seat(workers):
    import os, socket, time
    names = ("WORKER_RANK", "WORKER_COUNT", "WORKER_BLOCK_ID", "WORKER_POOL_ID")
    rank, count, block, pool = (os.environ[f"PARSL_{name}"] for name in names)
    open(f"seat-{socket.gethostname()}-{rank}", "w").close()
    while len([name for name in os.listdir() if name.startswith("seat-")]) < workers:
        time.sleep(0.05)
    devices = [os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "ROCR_VISIBLE_DEVICES")]
    mine = [sorted(os.sched_getaffinity(0)), int(os.environ["OMP_NUM_THREADS"]), os.environ["GREETING"]]
    return [socket.gethostname(), int(rank), count, block, pool, devices, *mine]


def seats(workers, **config):
    with parsl.load(Config(**config)):
        found = [future.result() for future in [seat(workers) for _ in range(workers)]]
    print(json.dumps(sorted(found)), flush=True)
"""
POLARIS = """
user_opts = {"walltime": "0:30:00", "nodes_per_block": 2, "cpus_per_node": 32, "queue": "workq", "account": "me"}
config = dict(
    executors=[
        HighThroughputExecutor(
            label="htex", heartbeat_period=15, heartbeat_threshold=120, worker_debug=True, prefetch_capacity=0,
            available_accelerators=4, cpu_affinity="block-reverse", start_method="spawn",
            address=address_by_interface("eth0"),
            provider=PBSProProvider(
                launcher=MpiExecLauncher(bind_cmd="--cpu-bind", overrides="--depth=64 --ppn 1"),
                select_options="ngpus=4", scheduler_options="#PBS -l filesystems=home:eagle",
                worker_init=prepare + "64", init_blocks=1, min_blocks=0, max_blocks=1, **user_opts,
            ),
        ),
    ],
    run_dir="runs", app_cache=True, checkpoint_mode="task_exit", retries=2,
)
seats(8, **config)
"""
AURORA = """
tile_names = [f"{gpu}.{tile}" for gpu in range(6) for tile in range(2)]
starts = [*range(1, 49, 8), *range(53, 101, 8)]  # of eight cores, and the eight hyperthreads on them
affinity = "list:" + ":".join(f"{first}-{first + 7},{first + 104}-{first + 111}" for first in starts)
config = dict(
    executors=[
        HighThroughputExecutor(
            available_accelerators=tile_names, max_workers_per_node=12, cpu_affinity=affinity, prefetch_capacity=0,
            provider=PBSProProvider(
                account="me", queue="workq", worker_init=prepare + "208; cd /tmp", walltime="0:30:00",
                scheduler_options="#PBS -l filesystems=home:flare",
                launcher=MpiExecLauncher(bind_cmd="--cpu-bind", overrides="--ppn 1"),
                select_options="", nodes_per_block=1, min_blocks=0, max_blocks=1, cpus_per_node=208,
            ),
        ),
    ],
    retries=2, initialize_logging=False,
)
seats(12, **config)
"""


class TestPbs:
    @pytest.fixture
    def seats(self, pbs: FakePbs, tmp_path: Path) -> Callable[[str], list[Any]]:
        """What the workers of a script are, in the order of their nodes and ranks."""
        (tmp_path / "pretended").mkdir()
        (tmp_path / "pretended" / "sitecustomize.py").write_text(PRETENDED)
        pbs.resize(208)

        def run_it(script: str) -> list[Any]:
            (found,) = run(pbs.hosts, tmp_path, SEATS + script)
            return list(found)

        return run_it

    def test_as_for_polaris(self, seats: Callable[[str], list[Any]], pbs: FakePbs) -> None:
        cores = [list(range(48 - 16 * rank, 64 - 16 * rank)) for rank in range(4)]
        assert seats(POLARIS) == [
            [host, rank, "4", "0", f"htex-0-{host}", [str(rank)] * 3, cores[rank], 16, "hello"]
            for host in ("n1", "n2")
            for rank in range(4)
        ]
        asked = pbs.command("qstat", "-xf")
        assert "Resource_List.select = 2:ncpus=32:ngpus=4" in asked
        assert "Resource_List.walltime = 00:30:00" in asked
        assert "Resource_List.filesystems = home:eagle" in asked

    def test_as_for_aurora(self, seats: Callable[[str], list[Any]]) -> None:
        tiles = [f"{gpu}.{tile}" for gpu in range(6) for tile in range(2)]
        starts = [*range(1, 49, 8), *range(53, 101, 8)]
        cores = [[*range(start, start + 8), *range(start + 104, start + 112)] for start in starts]
        assert seats(AURORA) == [
            ["n1", rank, "12", "0", "HighThroughputExecutor-0-n1", [tiles[rank]] * 3, cores[rank], 16, "hello"]
            for rank in range(12)
        ]

    def test_inside_of_a_job(self, pbs: FakePbs, tmp_path: Path) -> None:
        script = """
with open(os.environ["PBS_NODEFILE"]) as file:
    nodes = len(set(file.read().split()))
provider = LocalProvider(nodes_per_block=nodes, worker_init=prepare, launcher=GnuParallelLauncher(), max_blocks=1)
htex = HighThroughputExecutor(max_workers_per_node=2, cpu_affinity="list:0:1", provider=provider)
told(4, executors=[htex])
"""
        line = " ".join(map(str, command(tmp_path, script)))
        job = pbs.submit(f"#!/bin/bash\ncd {tmp_path}\n{line} >out 2>&1", "-lselect=2:ncpus=4", folder=tmp_path)
        pbs.await_state(job, "F", patience=60)
        assert (tmp_path / "out").read_text() == json.dumps(workers("n1 n2")) + "\n"


def test_grid_engine(gridengine: GridEngine, tmp_path: Path) -> None:
    script = """
provider = GridEngineProvider(nodes_per_block=2, scheduler_options="#$ -pe mpi 8", worker_init=prepare)
htex = HighThroughputExecutor(cores_per_worker=2, cpu_affinity="list:0:1", provider=provider)
told(4, executors=[htex])
"""
    pairs = [workers(f"n{one} n{other}") for one in range(1, 5) for other in range(one + 1, 5)]
    assert run(gridengine.hosts, tmp_path, script)[0] in pairs


MPI = """
config = Config(
    executors=[
        MPIExecutor(
            label="mpi", address=address_by_interface("eth0"), max_workers_per_block=2, {mpi_launcher}
            provider={provider}, walltime="0:05:00", worker_init=prepare, launcher=SimpleLauncher(), nodes_per_block=4),
        ),
    ]
)
wanted = [2, 2, 3, 1, 4]
with parsl.load(config):
    asked = [dict(num_nodes=nodes, ranks_per_node=2) for nodes in wanted]
    futures = [program(parsl_resource_specification=one, stdout=f"{{at}}.out") for at, one in enumerate(asked)]
    for future in futures:
        future.result()
for at in range(len(wanted)):
    with open(f"{{at}}.out") as file:
        print(json.dumps(sorted(line.split()[-1] for line in file)))
"""


@pytest.mark.parametrize(
    ("testbed", "provider", "mpi_launcher"),
    [
        ("pbs", 'PBSProProvider("me", "workq", select_options="ngpus=4", cpus_per_node=4', ""),
        ("slurm", 'SlurmProvider("batch"', 'mpi_launcher="srun",'),
    ],
)
def test_mpi(testbed: str, provider: str, mpi_launcher: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Programs of several sizes on the four nodes of a block, at most two at a time, each on nodes of its own."""
    hosts = request.getfixturevalue(testbed).hosts
    found = run(hosts, tmp_path, MPI.format(provider=provider, mpi_launcher=mpi_launcher))
    assert [len(set(names)) for names in found] == [2, 2, 3, 1, 4]
    assert all(names.count(name) == 2 for names in found for name in names)
    assert not set(found[0]) & set(found[1])
