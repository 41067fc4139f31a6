"""MPI programs and MPI functions: on this machine, over hosts by ssh, and in Slurm jobs; with MPICH and Open MPI.

Each test runs a user's script with the Python of one MPI. What goes wrong with ranks may cost no more than their task,
and no rank outlives it on any host.
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.testbed import mpi
from tests.testbed.host import HEAD, LOCAL, Hosts, Process
from tests.testbed.mpi import Mpi
from tests.testbed.slurm import Slurm

import heald

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

Wait = Callable[..., None]

# What every script begins with. A PROGRAM says what each of its ranks sees.
BEGIN = """
import json, os, sys, time
from pathlib import Path
import heald

asked = json.loads(sys.argv[1])
here = Path(asked["folder"])
PROGRAM = [sys.executable, str(here / "program.py")]


def executor():
    chosen = asked["executor"]
    return heald.ClusterExecutor(asked["site"], **chosen) if "site" in asked else heald.ProcessExecutor(**chosen)


def error(future):
    try:
        return str(future.result(60))
    except Exception as raised:
        return "\\n".join([f"{type(raised).__name__}: {raised}", *getattr(raised, "__notes__", ())])
"""
PROGRAM = """
import os, socket, sys
from mpi4py import MPI

world = MPI.COMM_WORLD
cores, devices = sorted(os.sched_getaffinity(0)), os.environ.get("CUDA_VISIBLE_DEVICES")
told = world.gather([socket.gethostname(), devices, os.environ.get("MINE"), cores])
if world.rank == 0:
    print(told)
"""
# Writes down where its ranks are, and stays for so many seconds.
STAYS = """
import os, socket, sys, time
from mpi4py import MPI

world = MPI.COMM_WORLD
with open(sys.argv[1], "a") as file:
    file.write(f"{world.rank} {socket.gethostname()} {os.getpid()}\\n")
time.sleep(float(sys.argv[2]))
world.Barrier()
"""


class Place:
    """Where scripts run: this machine, or the head of a testbed whose nodes a site names."""

    def __init__(self, mpi: Mpi, folder: Path, hosts: Hosts | None = None, scheduler: str = "") -> None:
        self.mpi = mpi
        self.folder = folder
        self.hosts = hosts
        self.site = folder / "testbed.toml"
        (folder / "program.py").write_text(PROGRAM)
        (folder / "stays.py").write_text(STAYS)
        # The environment of the MPI has mpi4py, and that of the tests all else.
        path = [str(Path(heald.__file__).parents[1]), sysconfig.get_paths()["purelib"]]
        around = {**mpi.variables, "PATH": self._path(mpi)}
        if hosts is not None:
            around["PRTE_MCA_prte_tmpdir_base"] = str(LOCAL)  # in /tmp, which the hosts share, runs would collide
        self.variables = {**around, "PYTHONPATH": os.pathsep.join(path)}
        table: dict[str, object] = {"name": "testbed", "scheduler": scheduler, "node": {"cores": 4}}
        if scheduler == "ssh":
            table |= {"hosts": ["n1", "n2", "n3"], "variables": around}
        self.describe(table)

    def _path(self, mpi: Mpi) -> str:
        return f"{mpi.mpiexec.parent}:/usr/sbin:/usr/bin:/sbin:/bin"

    def describe(self, table: dict[str, Any]) -> None:
        """Write the file of the site."""
        tables = {key: value for key, value in table.items() if isinstance(value, dict)}
        lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if key not in tables]
        for name, inner in tables.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in inner.items())]
        self.site.write_text("\n".join(lines))

    def start(self, source: str, **executor: Any) -> Process | subprocess.Popen[str]:
        """Begin a script."""
        file = self.folder / "script.py"
        file.write_text(BEGIN + source)
        asked: dict[str, Any] = {"folder": str(self.folder), "executor": {"workers": 4, **executor}}
        if self.hosts is not None:
            asked["site"] = str(self.site)
            asked["executor"] = {"nodes": 2, "walltime": "10m", "silence": 2, **asked["executor"]}
        words = [str(self.mpi.python), str(file), json.dumps(asked)]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        if self.hosts is not None:
            return self.hosts.start(HEAD, words, folder=self.folder, environment=self.variables, **streams)
        around = {**os.environ, **self.variables}
        return subprocess.Popen(words, cwd=self.folder, env=around, text=True, **streams)

    def run(self, source: str, **executor: Any) -> list[Any]:
        """Run a script to its end: what it printed, each line a JSON value."""
        with self.start(source, **executor) as process:
            try:
                stdout, stderr = process.communicate(timeout=200)
            finally:
                process.kill()
        assert process.returncode == 0, stdout + stderr
        return [json.loads(line) for line in stdout.splitlines()]

    def ranks(self, name: str) -> list[list[str]]:
        """What ranks that stay wrote: number, host, process."""
        file = self.folder / name
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def await_ranks(self, process: Process | subprocess.Popen[str], wait_until: Wait) -> None:
        """Wait until the four ranks of a script are there."""
        wait_until(lambda: len(self.ranks("ranks")) == 4 or process.poll() is not None, timeout=60)
        assert process.poll() is None, process.communicate()

    def alive(self) -> list[psutil.Process]:
        """Ranks that stay, on whatever host."""
        return [
            one
            for one in psutil.process_iter(["cmdline"])
            if str(self.folder / "stays.py") in (one.info["cmdline"] or ())
        ]


@pytest.fixture(params=["here", "ssh", "slurm"])
def anywhere(request: pytest.FixtureRequest, each_mpi: Mpi, hosts: Hosts, slurm: Slurm, tmp_path: Path) -> Place:
    nodes = {"here": None, "ssh": hosts, "slurm": slurm.hosts}
    return Place(each_mpi, tmp_path, nodes[request.param], request.param)


@pytest.fixture(params=["ssh", "slurm"])
def cluster(request: pytest.FixtureRequest, each_mpi: Mpi, hosts: Hosts, slurm: Slurm, tmp_path: Path) -> Place:
    return Place(each_mpi, tmp_path, hosts if request.param == "ssh" else slurm.hosts, request.param)


MANY = """
@heald.command(variables={"MINE": "yes"})
def program():
    return PROGRAM


@heald.command
def in_a_shell():
    return f"$HEALD_MPI_PREFIX {PROGRAM[0]} {PROGRAM[1]} | cat"


@heald.task
def serial(number):
    return number


with heald.Session([executor()], memo=None) as session:
    futures = [program.options(ranks=2, gpus=1).submit() for _ in range(4)]
    futures += [program.options(ranks=4).submit(), in_a_shell.options(ranks=2).submit()]
    if "site" in asked:
        futures += [program.options(ranks=3, nodes=2, gpus=0.5).submit(), program.options(nodes=2, cpus=4).submit()]
    numbers = serial.map(range(20))
    print(json.dumps([eval(future.result(90).text) for future in futures]))
    print(json.dumps([one.result(60) for one in numbers]))
"""


def test_programs_of_many_ranks(anywhere: Place) -> None:
    found, numbers = anywhere.run(MANY, gpus=4)
    parts, whole, shell, spread = found[:4], found[4], found[5], found[6:]
    assert numbers == list(range(20))
    for ranks in parts:
        assert len({host for host, *_ in ranks}) == 1
        assert len({device for _, device, *_ in ranks}) == 2
        assert [mine for _, _, mine, _ in ranks] == ["yes", "yes"]
    assert (len(whole), len(shell)) == (4, 2)
    for ranks, sizes, devices in zip(spread, [[2, 1], [1, 1]], [["0", "0", "0"], [None, None]], strict=False):
        hosts = [host for host, *_ in ranks]
        assert [hosts.count(host) for host in dict.fromkeys(hosts)] == sizes
        assert hosts == sorted(hosts, key=hosts.index)
        assert [device for _, device, *_ in ranks] == devices
        assert {mine for _, _, mine, _ in ranks} == {"yes"}
    assert len(spread) == (0 if anywhere.hosts is None else 2)


BOUND = """
@heald.command
def program():
    return PROGRAM


with heald.Session([executor()], memo=None) as session:
    needs = [{"ranks": 2}, {"ranks": 2, "nodes": 2, "cpus": 2}, {"ranks": 3, "nodes": 2}]
    futures = [program.options(**each).submit() for each in needs[: 3 if "site" in asked else 1]]
    print(json.dumps([eval(future.result(60).text) for future in futures]))
"""


def test_ranks_are_bound_to_their_own_cores(anywhere: Place) -> None:
    first, second, *_ = sorted(os.sched_getaffinity(0))
    found = [[cores for *_, cores in ranks] for ranks in anywhere.run(BOUND, workers=2, bind=True)[0]]
    assert found[0] == [[first], [second]]
    assert found[1:] in ([], [[[first, second], [first, second]], [[first], [second], [first]]])


FUNCTIONS = """
import ctypes
import numpy as np


@heald.task(ranks=3)
def scaled(array):
    from mpi4py import MPI

    print("rank", MPI.COMM_WORLD.rank, flush=True)
    total = MPI.COMM_WORLD.allreduce(MPI.COMM_WORLD.rank)
    return array * MPI.COMM_WORLD.rank + total


@heald.task
def means(parts):
    return [float(part.mean()) for part in parts]


@heald.task(ranks=3, retries=heald.Retry(lost=0))
def failing(how):
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == 1:
        if how == "raise":
            raise ValueError("no good")
        if how == "crash":
            ctypes.string_at(0)
        if how == "exit":
            os._exit(5)
        if how == "generator":
            return (one for one in ())
    MPI.COMM_WORLD.Barrier()


with heald.Session([executor()], memo=None) as session:
    for nodes in (1, 2)[: 2 if "site" in asked else 1]:
        first = scaled.options(nodes=nodes).submit(np.ones(200_000))
        print(json.dumps(means.submit(scaled.options(nodes=nodes).submit(first.result(90)[2])).result(90)))
        print(json.dumps(sorted(first.stdout.read_text().split())))
    for how in ("raise", "crash", "exit", "generator"):
        print(json.dumps(error(failing.submit(how))))
"""


def test_functions_on_many_ranks(anywhere: Place) -> None:
    *values, raised, crashed, ended, unpicklable = anywhere.run(FUNCTIONS)
    assert values == [[3.0, 8.0, 13.0], ["0", "1", "2", "rank", "rank", "rank"]] * (len(values) // 2)
    assert raised.startswith("ValueError: no good\nin task failing#")
    assert "rank 1 of 3: ValueError: no good" in raised
    assert "rank 1 of 3 crashed: Segmentation fault" in crashed
    assert "in string_at" in crashed
    assert "left no value: what started them exited with status" in ended
    assert "rank 1 of 3: the value that failing returned cannot be pickled: it is a generator" in unpicklable


EARLY = """
@heald.command(ranks=2)
def early():
    number = "${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-$SLURM_PROCID}}"
    return ["sh", "-c", f"[ {number} = 0 ] || exit 3; exec {PROGRAM[0]} {PROGRAM[1]}"]


with heald.Session([executor()], memo=None) as session:
    began = time.monotonic()
    print(json.dumps(error(early.submit())))
    print(json.dumps(time.monotonic() - began))
"""


def test_a_rank_that_ends_before_it_is_one_ends_the_others(anywhere: Place) -> None:
    said, seconds = anywhere.run(EARLY)
    assert said.startswith("CommandFailed")
    assert seconds < 40


ENDED = """
@heald.command(ranks=4, nodes=2 if "site" in asked else 1)
def stays(name, seconds):
    return [sys.executable, str(here / "stays.py"), str(here / name), seconds]


def begun(name):
    while not (here / name).exists() or len((here / name).read_text().splitlines()) < 4:
        time.sleep(0.05)


with heald.Session([executor()], memo=None) as session:
    future = stays.submit("cancelled", 60)
    begun("cancelled")
    future.cancel()
    print("cancelled", flush=True)
    input()
    print(error(stays.options(walltime=3).submit("overtime", 60)).partition(":")[0], flush=True)
    input()
"""


def test_no_rank_outlives_a_task_that_is_stopped(anywhere: Place, wait_until: Wait) -> None:
    with anywhere.start(ENDED, grace=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ("cancelled", "WalltimeExceeded"):
            assert process.stdout.readline() == f"{word}\n", process.communicate()
            wait_until(lambda: not anywhere.alive(), timeout=15)
            process.stdin.write("go on\n")
            process.stdin.flush()
        assert process.wait(60) == 0


AGAIN = """
@heald.command(ranks=4, nodes=2)
def stays():
    return [sys.executable, str(here / "stays.py"), str(here / "ranks"), 4]


@heald.command
def ready():
    return PROGRAM


with heald.Session([executor()], memo=None) as session:
    ready.options(nodes=asked["executor"]["nodes"]).submit().result(60)
    print(json.dumps(stays.submit().result(90).returncode))
"""


def launcher_on(hosts: Hosts, host: str) -> psutil.Process | None:
    """The worker on a host that has ranks started."""
    for one in hosts.strangers(host):
        if one.info["name"] in ("srun", "mpiexec", "prterun"):
            worker = one.parent()
            if worker is not None and "heald.run.spawner" in " ".join(worker.cmdline()):
                return worker
    return None


def test_ranks_end_with_the_worker_that_had_them_started(cluster: Place, wait_until: Wait) -> None:
    assert cluster.hosts is not None
    hosts = cluster.hosts
    with cluster.start(AGAIN) as process:
        cluster.await_ranks(process, wait_until)
        former = {one.pid for one in cluster.alive()}
        worker = next(filter(None, (launcher_on(hosts, host) for host in hosts.nodes)))
        worker.kill()
        wait_until(lambda: not former & {one.pid for one in cluster.alive()}, timeout=10)
        assert process.communicate(timeout=90) == ("0\n", "")
    assert len(cluster.ranks("ranks")) == 8


@pytest.mark.parametrize("each_mpi", ["mpich"], indirect=True)
@pytest.mark.parametrize("which", ["first", "second"])
def test_a_node_is_lost_under_an_attempt(cluster: Place, which: str, wait_until: Wait) -> None:
    assert cluster.hosts is not None
    hosts = cluster.hosts
    with cluster.start(AGAIN, nodes=3) as process:
        cluster.await_ranks(process, wait_until)
        began = {host for _, host, _ in cluster.ranks("ranks")}
        first = next(host for host in hosts.nodes if host in began and launcher_on(hosts, host) is not None)
        (second,) = began - {first}
        lost, left = (first, second) if which == "first" else (second, first)
        former = {one.pid for one in cluster.alive()}
        hosts.crash(lost)
        wait_until(lambda: not former & {one.pid for one in cluster.alive()}, timeout=30)
        stdout, stderr = process.communicate(timeout=120)
        assert (process.returncode, stdout) == (0, "0\n"), stderr
    again = {host for _, host, _ in cluster.ranks("ranks")[4:]}
    assert lost not in again
    assert left in again or len(again) == 2


ALONE = """
@heald.task(ranks=2)
def number():
    from mpi4py import MPI

    return MPI.COMM_WORLD.rank


@heald.command(ranks=2)
def program():
    return PROGRAM


with heald.Session([executor()], memo=None) as session:
    print(json.dumps([error(number.submit()), error(program.submit())]))
"""


@pytest.mark.parametrize("kind", ["here", "slurm"])
def test_singletons_are_noticed(kind: str, slurm: Slurm, tmp_path: Path) -> None:
    """Open MPI's Python, and MPICH's mpiexec on PATH: each rank believes that it is the only one."""
    one, other = mpi.get("openmpi"), mpi.get("mpich")
    place = Place(one, tmp_path, slurm.hosts if kind == "slurm" else None, kind)
    place.variables["PATH"] = place._path(other)
    for said in place.run(ALONE)[0]:
        assert "each of its 2 ranks believes that it is the only one" in said
