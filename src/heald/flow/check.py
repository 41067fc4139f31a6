"""Whether tasks can run on the nodes of a site: a small block is asked for, and each of its nodes is tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import wait
from typing import TYPE_CHECKING

import msgspec

from heald.core.allocation import AllocationState, AllocationStatus
from heald.core.errors import SiteError
from heald.flow.session import Session
from heald.flow.task import task
from heald.run.cluster import depot, holding
from heald.run.cluster.executor import ClusterExecutor
from heald.run.cluster.probe import Probe, probe
from heald.site.adapter import connect
from heald.site.hostlist import fold
from heald.site.profile import Site

if TYPE_CHECKING:
    from heald.run.cluster.pool import ClusterPool

_TURN = 0.2  # seconds between looks at how far it is
_AGENTS = 120.0  # seconds after the start of the job for all agents to come
_PROBES = 60.0  # seconds for the tasks


class Check(msgspec.Struct, frozen=True):
    """What came of it. `seconds`: from the request to the first result. `remarks`: what is not as the site says."""

    site: str
    job: str
    seconds: float
    nodes: list[Probe]
    remarks: list[str]


def check(
    site: Site, nodes: int = 1, *, walltime: str = "5m", told: Callable[[str], object] = lambda text: None
) -> Check:
    """Run a small task on each of so many nodes of a site. `told` is called with how far it is, in words.

    It waits in the queue for as long as that takes. Raises SiteError, with the words of the scheduler or the output of
    the job, when no nodes can be had or an agent does not come; ConfigurationError for what cannot be.
    """
    executor = ClusterExecutor(site, nodes=nodes, walltime=walltime, idle=0)
    begun = time.monotonic()
    with Session([executor], memo=None, progress=False) as session:
        visit = _Visit(session, site, nodes, told)
        first = session.submit(probe, site, visit.endpoints)
        while not wait([first], timeout=_TURN).done:
            visit.look()
        if first.exception() is not None:
            visit.look()  # knows more, where there are no nodes
        first.result()
        seconds = time.monotonic() - begun
        while not visit.look():
            time.sleep(_TURN)
        probes = visit.probes()
        return Check(site.name, visit.status.job or "", seconds, probes, _remarks(site, probes))


class _Visit:
    """One block of a session that has no other, and its agents."""

    def __init__(self, session: Session, site: Site, nodes: int, told: Callable[[str], object]) -> None:
        assert session._engine is not None
        self._session = session
        self._engine = session._engine
        self._pool: ClusterPool = self._engine.pools["cluster"]
        self._site = site
        self._nodes = nodes
        self._tell = told
        self._told = ""
        self._compared = False
        self._started = 0.0
        self.endpoints = depot.endpoints(self._pool.folder)[0]
        self.status = self._status()

    def _status(self) -> AllocationStatus:
        return self._engine.ask(lambda: holding.allocations(self._engine))[0]

    def look(self) -> bool:
        """Whether all agents are there. Raises SiteError when they will not come."""
        status = self.status = self._status()
        words = f"job {status.job}" if status.job else "the job"
        if status.state.final:
            raise SiteError(f"{words} of {status.site}: {status.reason or status.state.name}{self._output}")
        if status.state is AllocationState.pending:
            self._say(f"{words} waits in the queue" + (f": {status.reason}" if status.reason else ""))
            if status.reason and not self._compared:
                self._compared = True
                self._compare()
            return False
        self._started = self._started or time.monotonic()
        here = f"{status.agents} of {self._nodes} agents"
        self._say(f"{words} runs on {fold(status.hosts) or status.site}: {here} are here")
        if status.agents < self._nodes and time.monotonic() - self._started > _AGENTS:
            if 0 < len(status.hosts) == status.agents:
                raise SiteError(
                    f"the scheduler gave {words} {fold(status.hosts)} alone, and {self._nodes} nodes were asked for",
                    hint="`constraint` and `directives` of the site say how it spreads a job",
                )
            raise SiteError(
                f"only {here} came within {_AGENTS:g} s of the start of {words}{self._missing}; they look for this "
                f"process at {', '.join(self.endpoints)}{self._output}",
                hint="can the nodes reach one of these? set `interface` of the site to the network that they share",
            )
        return status.agents >= self._nodes

    def _compare(self) -> None:
        """Say it when the job may wait for what no node has."""
        said = self._site.node
        try:
            shapes = [nodes.shape for nodes in connect(self._site).nodes()]
        except SiteError:  # it is to tell why a job waits, and no reason to fail
            return
        for name, asked, most in (
            ("cores", said.cores, max((shape.cores for shape in shapes), default=0)),
            ("gpus", said.gpus, max((shape.gpus for shape in shapes), default=0)),
        ):
            if 0 < most < asked:
                told = f"no node of {self._site.scheduler} has more than {most} {name}, and the site says {asked}"
                self._tell(f"{told}: set {name} = {most} in its [node]")

    def _say(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._tell(text)

    @property
    def _missing(self) -> str:
        came = {remote.hello.host for remote in self._pool.remotes(self.status.id)}
        missing = fold(host for host in self.status.hosts if host not in came)
        return f", and none from {missing}" if missing else ""

    @property
    def _output(self) -> str:
        """The last that the job printed."""
        assert self._pool.depot is not None
        said = self._pool.depot.tail(f"{self.status.id}.out")
        return f"\n{said}" if said else ""

    def probes(self) -> list[Probe]:
        """What a task finds on each node. It asks for one core: a site that tells too few shall not be in its way."""
        hosts = self._engine.ask(lambda: [one.hello.host for one in self._pool.remotes(self.status.id)])
        # ssh may know hosts by other names than their own: then each goes to a node that no other is on.
        named = not self._site.hosts or set(hosts) <= set(self._site.hosts)
        wanted = [task(hosts=[host] if named else [], tasks_per_node=1)(probe) for host in hosts]
        futures = [self._session.submit(one, self._site, self.endpoints) for one in wanted]
        late = wait(futures, timeout=_PROBES).not_done
        if late:
            raise SiteError(f"{len(late)} of {len(futures)} nodes do not answer a task within {_PROBES:g} s")
        return sorted((future.result() for future in futures), key=lambda one: one.host)


def _remarks(site: Site, probes: Iterable[Probe]) -> list[str]:
    """What should be put right in the file of the site, or known."""
    hosts: dict[str, list[str]] = {}
    for one in probes:
        for name, said, found in (
            ("cores", site.node.cores, one.shape.cores),
            ("gpus", site.node.gpus, one.shape.gpus),
        ):
            if said and said != found:
                remark = f"{found} {name} for a job, and the site says {said}: set {name} = {found} in its [node]"
                hosts.setdefault(remark, []).append(one.host)
        if one.mpi_problem:
            hosts.setdefault(f"no MPI programs: {one.mpi_problem}", []).append(one.host)
    return [f"{fold(named)}: {remark}" for remark, named in hosts.items()]
