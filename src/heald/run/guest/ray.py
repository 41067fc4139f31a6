"""RayExecutor, and the Ray cluster as a landlord.

The client of Ray lives in a process of its own: Ray ends the whole process, without an exception, when its cluster has
not answered for a minute, and there can be one client in a process, which may be the user's.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from heald.core.errors import ConfigurationError, SiteError
from heald.run.guest.executor import GuestExecutor
from heald.run.guest.landlord import ClusterLost, Look, Place
from heald.run.guest.lodge import lodge, versions
from heald.run.log import tail
from heald.wire.address import reachable

_PATIENCE = 12.0  # seconds for the cluster to answer
_ARRIVAL = 90.0  # seconds for it to be found, or started
_FAREWELL = 8.0  # seconds for agents to end, and for a cluster that is ours
_HINT = "is it running, and is that its address? `ray status` says so; `ray stop` clears what a dead one left here"
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:/\s]+):\d+")
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from heald.run.guest.ray import main; main(int(sys.argv[1]))"


class RayExecutor(GuestExecutor):
    """Runs tasks on the nodes of a Ray cluster: that at `address`, or the one that RAY_ADDRESS or this machine has.

    When there is none, a small one is started on this machine, and ended again. Of each node the CPUs (`workers`: no
    more than so many), GPUs and memory are taken that Ray has free there, held while tasks are there for them, and
    given back when there has been nothing to do for the time `idle`. The rest as for DaskExecutor.

    >>> RayExecutor("ray-head:6379", workers=8)
    heald.RayExecutor(address='ray-head:6379', workers=8)

    Needs `pip install 'heald[ray]'`, and heald on Ray's nodes. Raises ConfigurationError for settings that cannot be; a
    session with it raises SiteError when no cluster answers.
    """

    module = extra = "ray"

    def __init__(self, address: str | None = None, *, label: str = "ray", **settings: Any) -> None:
        super().__init__(address, label=label, **settings)
        if address is not None and not _ADDRESS.fullmatch(address):
            hint = 'give that of its head, "ray-head:6379"; clients of ray:// are not served'
            raise ConfigurationError(f"address={address!r}: must be a host and a port", hint=hint)

    def landlord(self, folder: Path) -> Apart:
        """The cluster, found or started. Raises SiteError when it does not answer."""
        return Apart(self.address, self.workers, folder)


class Apart:
    """The landlord `Ray`, in a process of its own; `folder` is for what that prints."""

    def __init__(self, address: str | None, workers: int | None, folder: Path) -> None:
        self.name = f"the Ray cluster at {address}" if address else "the Ray cluster"
        if address is not None:
            self._check_that_somebody_listens(address)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._words = folder / "ray.err"
        self._connection, theirs = Pipe()
        argv = [sys.executable, "-c", _BOOT, str(theirs.fileno()), *map(os.path.abspath, sys.path)]
        with theirs, self._words.open("wb") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the driver
            )
        try:
            self.name = self._ask("start", address, workers, patience=_ARRIVAL)
        except ClusterLost as raised:
            raise SiteError(f"{self.name} does not answer\n{tail(self._words)}".rstrip(), hint=_HINT) from raised
        except BaseException:
            self._end()
            raise

    def _check_that_somebody_listens(self, address: str) -> None:
        """Raise SiteError when nobody does: Ray itself would go on trying for minutes."""
        try:
            reachable([f"tcp://{address}"])
        except OSError as raised:
            raise SiteError(f"{self.name} does not answer: {raised}", hint=_HINT) from raised

    def _ask(self, question: str, *given: Any, patience: float = _PATIENCE) -> Any:
        try:
            self._connection.send((question, given))
            if not self._connection.poll(patience):
                raise TimeoutError(f"it has not answered for {patience:g} s")
            answer = self._connection.recv()
        except (EOFError, OSError) as raised:
            self._end()  # it would wait for the cluster, and then end by itself
            words = str(raised) or tail(self._words)
            raise ClusterLost(f"{self.name} is lost: {words}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def look(self) -> Look:
        """See `Landlord`."""
        look: Look = self._ask("look")
        return look

    def begin(self, agent: str, place: Place, given: bytes) -> None:
        """See `Landlord`."""
        self._ask("begin", agent, place, given)

    def end(self, agents: Collection[str]) -> None:
        """See `Landlord`."""
        self._ask("end", list(agents))

    def close(self) -> None:
        """See `Landlord`."""
        self._connection.close()
        try:
            self._process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:  # it waits for a cluster that is gone
            self._end()

    def _end(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()


class Ray:
    """A Ray cluster as a landlord: an agent is a task that holds CPUs, GPUs and memory of one node."""

    def start(self, address: str | None, workers: int | None) -> str:
        """Find the cluster, or start one; its name. Raises SiteError."""
        import ray

        self._ray = ray
        self._most = workers or 0
        self._agents: dict[str, Any] = {}
        quiet = {"logging_level": "error", "log_to_driver": False}
        try:
            try:
                found = ray.init(address or "auto", **quiet)
            except ConnectionError:
                if address is not None:
                    raise
                found = ray.init("local", num_cpus=workers, include_dashboard=False, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as raised:
            raise SiteError(
                f"no Ray cluster can be used at {address or 'this machine'}: {raised}", hint=_HINT
            ) from None
        return f"the Ray cluster at {found.address_info['gcs_address']}"

    def look(self) -> Look:
        """See `Landlord`."""
        # What each node has free is in no public function; Ray's own libraries use this one.
        from ray._private.state import available_resources_per_node

        whole = [self._place(node["NodeID"], node["Resources"]) for node in self._ray.nodes() if node["Alive"]]
        free = [self._place(name, resources) for name, resources in available_resources_per_node().items()]
        refs = list(self._agents.values())
        ended, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0) if refs else ([], [])
        over = {agent: self._words(ref) for agent, ref in self._agents.items() if ref in ended}
        for agent in over:
            del self._agents[agent]
        return Look(tuple(one for one in whole if one.cores), tuple(one for one in free if one.cores), over)

    def _place(self, name: str, resources: dict[str, float]) -> Place:
        cores, gpus, memory = (int(resources.get(kind, 0)) for kind in ("CPU", "GPU", "memory"))
        return Place(name, min(cores, self._most or cores), gpus, memory)

    def _words(self, ref: Any) -> str:
        try:
            return str(self._ray.get(ref)) or "it has ended"
        except self._ray.exceptions.RayTaskError as raised:
            return str(raised.cause or raised)
        except self._ray.exceptions.RayError as raised:
            return f"{type(raised).__name__}: {raised}".splitlines()[0]

    def begin(self, agent: str, place: Place, given: bytes) -> None:
        """See `Landlord`."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        run = self._ray.remote(lodge).options(
            name=f"heald-{agent}",
            num_cpus=place.cores,
            num_gpus=place.gpus,
            memory=place.memory or None,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.name, soft=False),
        )
        self._agents[agent] = run.remote(agent, given, place.gpus, versions())

    def end(self, agents: Collection[str]) -> None:
        """See `Landlord`."""
        refs = [self._agents.pop(agent) for agent in agents if agent in self._agents]
        for ref in refs:
            self._ray.cancel(ref)
        if refs:
            self._ray.wait(refs, num_returns=len(refs), timeout=_FAREWELL)


def main(descriptor: int) -> None:
    """Serve the head at the other end of a connection until that is closed."""
    threading.Thread(target=_end_after, args=[os.getppid()], daemon=True).start()
    landlord = Ray()
    with Connection(descriptor) as connection:
        while True:
            try:
                question, given = connection.recv()
            except EOFError:
                break
            try:
                answer = getattr(landlord, question)(*given)
            except Exception as raised:  # of Ray: it is the head that deals with it
                answer = raised if isinstance(raised, SiteError) else SiteError(f"{type(raised).__name__}: {raised}")
            connection.send(answer)
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def _end_after(head: int) -> None:
    """End this process when its head has ended, whatever it waits for then."""
    try:
        select.select([os.pidfd_open(head)], [], [])
    except ProcessLookupError:  # it has ended already
        pass
    except OSError:  # Linux before 5.3: the end of the connection must do
        return
    time.sleep(_FAREWELL)  # the main thread sees it too, and may just be ending what is ours
    os._exit(1)
