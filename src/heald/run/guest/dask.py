"""DaskExecutor, and the Dask cluster as a landlord."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heald.core.errors import ConfigurationError, SiteError
from heald.run.guest.executor import GuestExecutor
from heald.run.guest.landlord import ClusterLost, Look, Place
from heald.run.guest.lodge import leave, lodge, stay, versions

if TYPE_CHECKING:
    from distributed import Client

_PATIENCE = 10.0  # seconds for the scheduler to answer


class DaskExecutor(GuestExecutor):
    """Runs tasks on the workers of a Dask cluster: of the scheduler at `address`, or that a `client` is connected to.

    Without either, a small one is started in this process, and ended again. A worker of Dask counts as a node, with the
    cores that it has threads (`workers`: no more than so many), its memory limit, and the devices that it declares
    (`dask worker --resources GPU=2`). They are held while tasks are there for them, and given back when there has been
    nothing to do for the time `idle`.

    `interface`: the network by which Dask's workers reach this process. `silence`: after so long without a word an
    agent is given up, and its tasks are run elsewhere. `lease`: so long agents go on when this process is gone.
    `grace`, `initializer`, `initargs`: as for ProcessExecutor.

    >>> with DaskExecutor(workers=1) as executor:
    ...     executor.submit(pow, 2, 10).result()
    1024

    Needs `pip install 'heald[dask]'`, and heald where Dask's workers run. Raises ConfigurationError for settings that
    cannot be; a session with it raises SiteError when no scheduler answers.
    """

    module = "distributed"
    extra = "dask"

    def __init__(
        self, address: str | None = None, *, client: Client | None = None, label: str = "dask", **settings: Any
    ) -> None:
        super().__init__(address, label=label, **settings)
        if client is not None:
            if address is not None:
                raise ConfigurationError("address and client: give one of them", hint="a client knows its address")
            if client.asynchronous:
                raise ConfigurationError("client: must not be asynchronous", hint="give the address of its scheduler")
            self._given["address"] = client.scheduler.address  # what can be printed, and sent to others
        self.client = client

    def landlord(self, folder: Path) -> Dask:
        """The cluster, found or started. Raises SiteError when no scheduler answers."""
        return Dask(self.address, self.client, self.workers)


class Dask:
    """A Dask cluster as a landlord: an agent is a task that holds one thread of a worker, and others hold the rest."""

    def __init__(self, address: str | None, client: Client | None, workers: int | None) -> None:
        self._cluster: Any = None
        self._most = workers or 0
        self._own = client is None
        self._client: Any = client or self._connect(address)
        self.name = f"the Dask cluster at {self._client.scheduler.address}"
        self._agents: dict[str, tuple[str, list[Any]]] = {}  # address of the worker, and the futures

    def _connect(self, address: str | None) -> Client:
        from distributed import Client, LocalCluster

        if address is None:
            threads = self._most or len(os.sched_getaffinity(0))
            # In this process: the tasks of heald have processes of their own.
            self._cluster = LocalCluster(
                n_workers=1, threads_per_worker=threads, processes=False, dashboard_address=None, silence_logs=40
            )
        try:
            return Client(self._cluster or address, set_as_default=False, timeout=_PATIENCE)
        except (OSError, ValueError) as raised:
            hint = "is it running, and is that its address? `dask scheduler` prints it"
            raise SiteError(f"no Dask scheduler answers at {address}: {raised}", hint=hint) from raised

    def look(self) -> Look:
        """See `Landlord`."""
        workers = self._workers()
        over = {}
        for agent, (address, futures) in list(self._agents.items()):
            if (reason := _end(futures[0], address, workers)) is not None:
                over[agent] = reason
                del self._agents[agent]
                self._client.cancel(futures)
        whole = tuple(self._place(address, said) for address, said in workers.items() if said["status"] == "running")
        held = {address for address, _ in self._agents.values()}
        return Look(whole, tuple(place for place in whole if place.name not in held), over)

    def _workers(self) -> Mapping[str, Any]:
        client = self._client
        if client.status != "running":
            raise ClusterLost(f"{self.name} is lost: its scheduler has closed the connection")
        try:
            identity = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=_PATIENCE)
        except (OSError, TimeoutError) as raised:
            raise ClusterLost(f"{self.name} is lost: {type(raised).__name__}: {raised}") from raised
        found: Mapping[str, Any] = identity["workers"]
        return found

    def _place(self, address: str, said: Mapping[str, Any]) -> Place:
        threads = said["nthreads"]
        gpus = int(said["resources"].get("GPU", 0))
        return Place(address, min(threads, self._most or threads), gpus, said["memory_limit"] or 0)

    def begin(self, agent: str, place: Place, given: bytes) -> None:
        """See `Landlord`."""
        where = {"workers": [place.name], "allow_other_workers": False, "pure": False, "retries": 0}
        resources = {"GPU": place.gpus} if place.gpus else None
        submit = self._client.submit
        key = f"heald-{agent}-{os.getpid()}"
        futures = [submit(lodge, agent, given, place.gpus, versions(), key=key, resources=resources, **where)]
        futures += [submit(stay, agent, key=f"{key}-{core}", **where) for core in range(1, place.cores)]
        self._agents[agent] = place.name, futures

    def end(self, agents: Collection[str]) -> None:
        """See `Landlord`."""
        found = {agent: self._agents.pop(agent) for agent in agents if agent in self._agents}
        self._client.cancel([future for _, futures in found.values() for future in futures])
        for agent, (address, _) in found.items():
            self._client.run(leave, agent, workers=[address], on_error="ignore")

    def close(self) -> None:
        """See `Landlord`."""
        if self._own:
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _end(future: Any, address: str, workers: Mapping[str, Any]) -> str | None:
    """Why the agent has ended, or None when it has not."""
    if address not in workers:
        return f"the Dask worker {address} is gone"
    if future.status == "finished":
        return future.result() or "it has ended"
    if future.status == "error":
        return str(future.exception())
    return None if future.status == "pending" else f"Dask says that it is {future.status}"
