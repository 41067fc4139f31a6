"""Launchers start one agent per node, and MPI programs beside the agents, on real nodes with real MPIs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.testbed.host import HEAD, Hosts
from tests.testbed.mpi import Mpi
from tests.testbed.slurm import Slurm

pytestmark = pytest.mark.live

# Runs on a job's first node, as a batch job would begin: starts an agent on each node, and waits for them.
PILOT = """
import subprocess, sys
from heald.site.catalog import find
from heald.site.launcher import launcher
from heald.site.node import grant

commands = launcher(find(sys.argv[1])).agents(grant().hosts, [sys.executable, *sys.argv[2:]])
processes = [subprocess.Popen(command) for command in commands]
sys.exit(max(process.wait() for process in processes))
"""
# An agent: tells what it sees, and on the first node starts MPI programs while the others sit there.
AGENT = """
import json, os, subprocess, sys, time
from pathlib import Path
from heald.site.catalog import find
from heald.site.launcher import bound, mpi_launcher
from heald.site.node import grant, machine

site, python, program, folder = sys.argv[1], *sys.argv[2:5]
here, hosts = machine(), grant().hosts
(Path(folder) / f"agent-{here.name}").write_text(json.dumps([here.name, list(hosts), here.shape.gpus]))
done = Path(folder) / "done"
if here.name == hosts[0]:
    os.environ["MINE"] = "yes"
    first, *_, last = here.cpus
    try:
        launcher = mpi_launcher(find(site))
        for number, (places, ranks, cores) in enumerate([
            (hosts[:2], (2, 2), [[first], [last], [last], [first]]),
            (hosts, (2, 1, 1), []),
            (hosts[:1], (2,), []),
        ]):
            words = [*launcher.mpi_prefix(places, ranks), *bound(launcher, cores, [["7"]] * len(cores))]
            subprocess.run([*words, python, program, f"{folder}/{number}.json"], check=True, timeout=60)
    finally:
        done.touch()
while not done.exists():
    time.sleep(0.05)
"""
PROGRAM = """
import json, os, socket, sys
from mpi4py import MPI

world = MPI.COMM_WORLD
cores, devices = sorted(os.sched_getaffinity(0)), os.environ.get("CUDA_VISIBLE_DEVICES")
told = world.gather([world.rank, socket.gethostname(), cores, devices, os.environ["MINE"]])
if world.rank == 0:
    with open(sys.argv[1], "w") as file:
        json.dump(told, file)
"""

# An agent that leaves a file with the name of its host.
WITNESS = """
import socket, sys
from pathlib import Path

(Path(sys.argv[1]) / socket.gethostname()).touch()
"""
# Runs where users are: submits a job of two nodes, waits for its end, and tells where it ran.
DRIVER = """
import sys, time
from heald.site.adapter import connect
from heald.site.catalog import find
from heald.site.scheduler import JobState, job

site, pilot, agent, folder = find(sys.argv[1]), *sys.argv[2:5]
scheduler = connect(site, interval=0.1)
words = [sys.executable, pilot, sys.argv[1], agent, folder]
id = scheduler.submit(job(site, "test", words, nodes=2, walltime="1m", directory=folder, stdout=f"{folder}/out"))
hosts = ()
while not (status := scheduler.status([id])[id]).state.final:
    hosts = status.hosts or hosts
    time.sleep(0.05)
print(status.state, *(status.hosts if len(status.hosts) > 1 else hosts))
"""
CANCELLER = """
import time
from heald.core.errors import SubmitFailed
from heald.site.profile import NodeShape
from heald.site.scheduler import Job
from heald.site.ssh import Ssh

ssh = Ssh(["n1", "n2"], NodeShape())
lasting = ssh.submit(Job(name="a", command=("sleep", "60"), nodes=2))
try:
    ssh.submit(Job(name="b", command=("true",)))
except SubmitFailed as error:
    print(error)
ssh.cancel([lasting])
while not ssh.status([lasting])[lasting].state.final:
    time.sleep(0.05)
print(ssh.status([lasting])[lasting].state)
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a program; where it is."""

    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("mpi", ["", "mpiexec"], ids=["srun", "mpiexec"])
def test_agents_and_mpi_programs_in_a_slurm_job(
    slurm: Slurm, each_mpi: Mpi, mpi: str, tmp_path: Path, script: Callable[[str, str], Path]
) -> None:
    site = script("site.toml", f'scheduler = "slurm"\nmpi = "{mpi}"\n')
    program, pilot, agent = script("program.py", PROGRAM), script("pilot.py", PILOT), script("agent.py", AGENT)
    words = [sys.executable, pilot, site, agent, site, each_mpi.python, program, tmp_path]
    out = tmp_path / "out.txt"
    path = f"{each_mpi.mpiexec.parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    job = slurm.submit(
        f"exec {' '.join(map(str, words))}",
        "--nodes=3",
        "--exclusive",
        "--mem=0",
        "--gpus-per-node=2",
        f"--output={out}",
        folder=tmp_path,
        environment={**each_mpi.variables, "PATH": path},
    )
    assert slurm.await_state(job, "COMPLETED", "FAILED", "TIMEOUT", patience=100) == "COMPLETED", out.read_text()
    hosts = read(next(tmp_path.glob("agent-*")))[1]
    assert sorted(read(file)[0] for file in tmp_path.glob("agent-*")) == sorted(hosts)
    assert {read(file)[2] for file in tmp_path.glob("agent-*")} == {2}
    first, last = (told[2] for told in read(tmp_path / "0.json")[:2])
    assert read(tmp_path / "0.json") == [
        [0, hosts[0], first, "7", "yes"],
        [1, hosts[0], last, "7", "yes"],
        [2, hosts[1], last, "7", "yes"],
        [3, hosts[1], first, "7", "yes"],
    ]
    assert (len(first), len(last)) == (1, 1)
    assert [told[1] for told in read(tmp_path / "1.json")] == [hosts[0], *hosts]
    assert [told[1] for told in read(tmp_path / "2.json")] == [hosts[0], hosts[0]]


@pytest.mark.parametrize("kind", ["gridengine", "pbs", "flux"])
def test_agents_in_a_job(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, script: Callable[[str, str], Path]
) -> None:
    testbed = request.getfixturevalue(kind)
    site = script("site.toml", f'scheduler = "{kind}"\nconstraint = "{"mpi" if kind == "gridengine" else ""}"\n')
    agent = script("agent.py", WITNESS)
    driver = script("driver.py", DRIVER)
    words = [sys.executable, driver, site, script("pilot.py", PILOT), agent, tmp_path]
    done = testbed.hosts.run(HEAD, words, folder=tmp_path)
    state, *hosts = done.stdout.split()
    assert state == "done", (tmp_path / "out").read_text()
    assert {path.name for path in tmp_path.glob("n?")} == set(hosts)
    assert len(hosts) == 2


def test_agents_on_a_list_of_hosts(hosts: Hosts, tmp_path: Path, script: Callable[[str, str], Path]) -> None:
    """A job of an ssh site runs on its first host, and starts agents on the others from there."""
    site = script("site.toml", 'scheduler = "ssh"\nhosts = ["n1", "n2", "n3"]\n')
    agent, driver = script("agent.py", WITNESS), script("driver.py", DRIVER)
    words = [sys.executable, driver, site, script("pilot.py", PILOT), agent, tmp_path]
    assert hosts.run(HEAD, words, folder=tmp_path).stdout == "done n1 n2\n", (tmp_path / "out").read_text()
    assert {path.name for path in tmp_path.glob("n?")} == {"n1", "n2"}


def test_a_job_on_a_list_of_hosts_is_cancelled_there(
    hosts: Hosts, tmp_path: Path, script: Callable[[str, str], Path]
) -> None:
    done = hosts.run(HEAD, [sys.executable, script("driver.py", CANCELLER)], folder=tmp_path)
    assert done.stdout == "the job b needs 1 hosts: 0 of 2 are free\ncancelled\n"
    assert not [process for process in hosts.strangers("n1") if "sleep" in process.name()]
