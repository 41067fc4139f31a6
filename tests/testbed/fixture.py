"""The testbeds as fixtures: started once for all tests that ask, whole and empty again after each.

A test that leaves a process or a job behind fails; a fault that it leaves is healed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from tests.testbed import mpi
from tests.testbed.flux import FakeFlux
from tests.testbed.gridengine import GridEngine
from tests.testbed.host import Hosts
from tests.testbed.install import missing
from tests.testbed.pbs import FakePbs
from tests.testbed.slurm import Slurm

TESTBEDS = ("hosts", "slurm", "accounted_slurm", "gridengine", "pbs", "flux")


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """Hosts n0 to n4 with ssh between them."""
    with _hosts("hosts", needs=("hosts",)) as hosts:
        yield hosts


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """Slurm on n0 with the nodes n1 to n4, of four CPUs and four GPUs each."""
    with _hosts("slurm", needs=("slurm",)) as hosts:
        yield Slurm.up(hosts)


@pytest.fixture(scope="session")
def accounted_slurm() -> Iterator[Slurm]:
    """The same with an accounting; its controller forgets jobs about ten seconds after their end."""
    with _hosts("accounted", needs=("slurm", "accounting")) as hosts:
        yield Slurm.up(hosts, {"MinJobAge": 2}, accounting=True)


@pytest.fixture(scope="session")
def gridengine() -> Iterator[GridEngine]:
    """Grid Engine on n0 with the nodes n1 to n4, of four slots each."""
    with _hosts("gridengine", needs=("gridengine",)) as hosts:
        yield GridEngine.up(hosts)


@pytest.fixture(scope="session")
def pbs() -> Iterator[FakePbs]:
    """A fake PBS on n0 with the nodes n1 to n4, of four CPUs and four GPUs each."""
    with _hosts("pbs", needs=("hosts",)) as hosts:
        yield FakePbs.up(hosts)


@pytest.fixture(scope="session")
def flux() -> Iterator[FakeFlux]:
    """A fake Flux on n0 with the nodes n1 to n4, of four cores and four GPUs each."""
    with _hosts("flux", needs=("hosts",)) as hosts:
        yield FakeFlux.up(hosts)


@pytest.fixture(scope="session", params=["mpich", "openmpi"])
def each_mpi(request: pytest.FixtureRequest) -> mpi.Mpi:
    """MPICH, then Open MPI, with mpi4py."""
    return mpi.get(request.param)


@pytest.fixture(autouse=True)
def testbeds_stay_clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test used of the above is left by it as it was found."""
    used = [request.getfixturevalue(name) for name in TESTBEDS if name in request.fixturenames]
    yield
    for testbed in used:
        testbed.assert_clean()


@contextmanager
def _hosts(kind: str, needs: Sequence[str]) -> Iterator[Hosts]:
    """Hosts of their own for one kind of testbed: what a test does to one disturbs no other."""
    if reason := missing(*needs):
        pytest.skip(reason)
    hosts = Hosts.up(f"test-{os.getpid()}-{kind}")
    try:
        yield hosts
    finally:
        hosts.down()
