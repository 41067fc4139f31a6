"""ClusterExecutor: the nodes of batch jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from heald.core.environment import PLAIN, Environment
from heald.core.errors import ConfigurationError
from heald.core.resources import Resources, seconds, size
from heald.run.environment import environment as checked
from heald.run.executor import Executor
from heald.run.process import devices, pickled
from heald.site.catalog import find
from heald.site.profile import Site


class ClusterExecutor(Executor):
    """Runs tasks on the nodes of batch jobs of a `site`: a name that `heald site ls` lists, a TOML file, or a Site.

    A *block* is one batch job of `nodes` nodes for a `walltime`. `blocks`: how many there may be at a time, a number or
    (at the start, at least, at most); more are asked for when tasks wait, `parallelism` cores for every core that is
    wanted, and one that has been idle for the time `idle` is given back.

    `workers`: cores to use of each node, `gpus` devices (names, or how many), `memory`: by default what the agent
    finds there. `bind`: pin each task to its cores. `interface`: the network by which agents reach this process.
    `fan_out`: agents of a block of more nodes than that share one connection to it, through its first node.
    `silence`: after so long without a word an agent is given up, and its tasks are run elsewhere. `lease`: so long
    agents go on without this process. By default 10 seconds and 5 minutes; behind a `login` node of the site, to which
    the line may be cut for a while, 2 and 30 minutes. `notice`: the time before the end of a block in which nothing is
    begun there any more; what runs is told when it begins (see the option of tasks). `grace`, `initializer`,
    `initargs`, `environment`: as for ProcessExecutor. `login`, `account`, `queue` and other fields of a Site may be
    given too.

    >>> with ClusterExecutor("local", workers=1) as executor:
    ...     executor.submit(pow, 2, 10).result()
    1024

    Raises ConfigurationError for counts and times that cannot be, and when the site is not known.
    """

    def __init__(
        self,
        site: str | Site = "local",
        *,
        nodes: int = 1,
        walltime: timedelta | float | str = 0,
        blocks: int | tuple[int, int, int] = 1,
        parallelism: float = 1.0,
        idle: timedelta | float | str = "2m",
        workers: int | None = None,
        gpus: int | Sequence[str] | None = None,
        memory: int | str = 0,
        bind: bool = False,
        interface: str = "",
        fan_out: int = 64,
        silence: timedelta | float | str | None = None,
        lease: timedelta | float | str | None = None,
        notice: timedelta | float | str = 0,
        grace: timedelta | float | str = 5.0,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        environment: Mapping[str, Any] | Environment = PLAIN,
        label: str = "cluster",
        **changes: Any,
    ) -> None:
        super().__init__(label)
        self.site = find(site, **changes) if isinstance(site, str) else msgspec.structs.replace(site, **changes)
        self._given = {
            name: value
            for name, value in {**locals(), **changes}.items()
            if name not in ("self", "changes", "__class__") and value != _USUAL.get(name, _NOTHING)
        }
        _check(nodes=nodes, workers=workers, fan_out=fan_out)
        self.nodes = nodes
        self.walltime = timedelta(seconds=seconds(walltime))
        self.init, self.fewest, self.most = _blocks(blocks)
        if not 0 < parallelism <= 1:
            raise ConfigurationError(f"parallelism={parallelism!r}: must be above 0, and at most 1")
        self.parallelism = parallelism
        self.idle_seconds = seconds(idle)
        self.workers = workers
        self.gpus = None if gpus is None else devices(gpus)
        self.memory = size(memory)
        self.bind = bind
        self.interface = interface
        self.fan_out = fan_out
        self.far = self.site.login
        usual = _FAR_USUAL if self.far else _NEAR_USUAL
        self.silence = seconds(usual[0] if silence is None else silence)
        self.lease = seconds(usual[1] if lease is None else lease)
        if self.silence < 0.5:
            raise ConfigurationError(f"silence={silence!r}: must be at least half a second")
        self.notice_seconds = seconds(notice)
        if self.walltime and self.notice_seconds >= self.walltime.total_seconds():
            raise ConfigurationError(f"notice={notice!r}: must be less than walltime={walltime!r}")
        self.grace_seconds = seconds(grace)
        self.initializer, self.initargs = initializer, initargs
        self.environment = checked(environment)

    @property
    def block_cores(self) -> int:
        """How many cores a block is expected to have."""
        return self.nodes * (self.workers or self.site.node.cores or 1)

    def pool(self, host: Any) -> Any:
        """What carries its attempts out."""
        from heald.run.cluster.pool import ClusterPool

        return ClusterPool(self, host)

    def pickled_initializer(self) -> bytes:
        """What each worker calls first, ready to travel; empty when there is nothing. Raises NotPicklable."""
        return pickled(self.initializer, self.initargs, self.label)

    def unfit(self, needs: Resources) -> str | None:
        """Why no block could ever run it, as far as that is known here, or None."""
        shape = self.site.node
        if needs.nodes > self.nodes:
            return f"needs {needs.nodes} nodes; a block has {self.nodes}"
        lasts = self.walltime.total_seconds()
        if lasts and needs.span >= lasts - self.notice_seconds:  # some of which has passed when its agents come
            ending = f", of which {self.notice_seconds:g} s are for ending" if self.notice_seconds else ""
            return f"runs for up to {needs.span:g} s; a block lasts {lasts:g} s{ending}"
        if needs.hosts and self.site.hosts and set(needs.hosts).isdisjoint(self.site.hosts):
            return f"may run on {', '.join(needs.hosts)} alone; {self.site.name} has {', '.join(self.site.hosts)}"
        devices = len(self.gpus) if self.gpus is not None else shape.gpus if shape.cores else None
        per_node = needs.gpus * needs.ranks_per_node
        for asks, there, unit in (
            (needs.cpus_per_node, self.workers or shape.cores, "cpus"),
            (needs.memory, self.memory or shape.memory, "bytes of memory"),
        ):
            if there and asks > there:
                return f"needs {asks} {unit} on a node; a node of {self.site.name} has {there}"
        if devices is not None and per_node > devices:
            return f"needs {per_node:g} gpus on a node; a node of {self.site.name} has {devices}"
        return None

    def _arguments(self) -> dict[str, Any]:
        return self._given


def _check(**counts: object) -> None:
    for name, count in counts.items():
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise ConfigurationError(f"{name}={count!r}: must be a whole number, at least 1")


_NOTHING = object()
# Silence and lease. An ssh connection that is cut is missed after 20 s, and made again within 30 s of its return.
_NEAR_USUAL, _FAR_USUAL = (10.0, "5m"), ("2m", "30m")
_USUAL: dict[str, Any] = {
    "nodes": 1, "walltime": 0, "blocks": 1, "parallelism": 1.0, "idle": "2m", "workers": None, "gpus": None,
    "memory": 0, "bind": False, "interface": "", "fan_out": 64, "silence": None, "lease": None, "notice": 0,
    "grace": 5.0, "initializer": None, "initargs": (), "environment": PLAIN, "label": "cluster",
}  # fmt: skip


def _blocks(given: int | tuple[int, int, int]) -> tuple[int, int, int]:
    if isinstance(given, int):
        given = (given, 0, given)
    whole = isinstance(given, tuple | list) and len(given) == 3 and all(type(one) is int for one in given)
    if not whole or not 0 <= given[1] <= given[2] or not 0 <= given[0] <= given[2] or not given[2]:
        hint = "blocks=4, or (at the start, at least, at most): blocks=(1, 0, 4)"
        raise ConfigurationError(f"blocks={given!r}: cannot be", hint=hint)
    init, fewest, most = given
    return init, fewest, most
