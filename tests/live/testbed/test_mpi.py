"""Both MPIs start ranks that find each other: on hosts over ssh, and as a step of a Slurm job."""

from __future__ import annotations

import pytest
from tests.testbed.host import HEAD, Hosts
from tests.testbed.mpi import Mpi
from tests.testbed.slurm import Slurm

pytestmark = pytest.mark.live

SOURCE = """
import socket, sys
from mpi4py import MPI
world = MPI.COMM_WORLD
sys.stdout.write(f"{socket.gethostname()} {world.size} {world.allreduce(world.rank)}\\n")
"""


def test_ranks_over_ssh(hosts: Hosts, each_mpi: Mpi) -> None:
    command = each_mpi.launch(hosts.nodes, each_mpi.python, "-c", SOURCE)
    said = hosts.run(HEAD, command, environment=each_mpi.variables).stdout
    assert sorted(said.splitlines()) == [f"{node} 4 6" for node in hosts.nodes]


def test_ranks_in_a_step(slurm: Slurm, each_mpi: Mpi) -> None:
    command = ["srun", f"--mpi={each_mpi.srun}", "--nodes=4", "--ntasks=4", each_mpi.python, "-c", SOURCE]
    said = slurm.hosts.run(HEAD, command, environment=each_mpi.variables).stdout
    assert sorted(said.splitlines()) == [f"{node} 4 6" for node in slurm.hosts.nodes]
