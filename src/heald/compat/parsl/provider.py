"""Providers: where the nodes of an executor come from, as Parsl says it and as a Site of heald."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

from heald.compat import NotServed
from heald.compat.parsl.error import BadLauncher, ScriptPathError
from heald.compat.parsl.launcher import Launcher, SingleNodeLauncher
from heald.compat.parsl.representation import RepresentationMixin, retired
from heald.site.node import HOSTS, grant
from heald.site.profile import NodeShape, Site

# An agent where the job's script runs, and no other: heald is told that this is all there is.
_FIRST_NODE = f'export {HOSTS}="$(hostname)"'
_MEANINGLESS = "channel move_files cmd_timeout"  # how Parsl speaks with schedulers, once also through ssh


class LocalChannel:
    """The machine itself, as Parsl named it until 2024."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...


class ExecutionProvider:
    """Where the nodes of an executor come from."""


@dataclass(repr=False, eq=False, kw_only=True)
class _Blocks(ExecutionProvider, RepresentationMixin):
    """A provider of blocks. `worker_init`: lines of shell that prepare what the workers find."""

    nodes_per_block: int = 1
    launcher: Launcher = field(default_factory=SingleNodeLauncher)
    init_blocks: int = 1
    min_blocks: int = 0
    max_blocks: int = 1
    parallelism: float = 1
    worker_init: str = ""

    cores_per_node: int | None = field(default=None, init=False)  # None when only the node knows
    mem_per_node: float | None = field(default=None, init=False)  # in GB
    label: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not callable(self.launcher):
            raise BadLauncher(self.launcher)

    @property
    def blocks(self) -> int:
        """Blocks at the height of the work: without need of them, none but `init_blocks` are asked for."""
        return max(self.init_blocks, self.max_blocks if self.parallelism else self.min_blocks, 1)


@retired("channel move_files walltime")
@dataclass(repr=False, eq=False, kw_only=True)
class LocalProvider(_Blocks):
    """This machine, or the nodes of the batch job that this process is in."""

    cmd_timeout: int = 30

    label = "local"
    seconds: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        self.cores_per_node = int(os.environ.get("PARSL_CORES") or len(os.sched_getaffinity(0)))
        self.mem_per_node = float(os.environ.get("PARSL_MEMORY_GB") or memory)

    @property
    def spreads(self) -> bool:
        """Blocks are on other nodes of the batch job, too."""
        many = self.blocks * self.nodes_per_block > 1 and len(grant().hosts) > 1
        return many and self.launcher.starts not in ("fork", "", None)  # as for Parsl, those are of this node

    def site(self) -> Site:
        """The batch job as heald knows machines."""
        return Site(self.label, launcher=self.launcher.starts or "", setup=tuple(filter(None, [self.worker_init])))

    def variables(self) -> dict[str, str]:
        """What `worker_init` changes in the environment. Raises ScriptPathError when it fails."""
        if not self.worker_init.strip():
            return {}
        ran = subprocess.run(
            ["/bin/bash", "-c", f"{{ {self.worker_init}\n}} >&2; env -0"], capture_output=True, timeout=self.cmd_timeout
        )
        if ran.returncode or not ran.stdout:
            how = f"failed with status {ran.returncode}" if ran.returncode else "ended the shell"
            raise ScriptPathError(f"worker_init {how}: {os.fsdecode(ran.stderr)[-2000:]}")
        found = dict(os.fsdecode(one).partition("=")[::2] for one in ran.stdout.split(b"\0") if b"=" in one)
        return {name: value for name, value in found.items() if os.environ.get(name) != value}


@dataclass(repr=False, eq=False, kw_only=True)
class ClusterProvider(_Blocks):
    """Blocks are jobs of a batch scheduler, each with a `walltime`. `scheduler_options`: lines for the job script."""

    walltime: str = "00:20:00"
    scheduler_options: str = ""

    sign: ClassVar[str] = ""  # what options of the scheduler stand behind, in a script
    minutes: ClassVar[int] = 0  # a walltime of up to so many parts ends in minutes, not in seconds

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.launcher.starts is None:
            what = f"{type(self.launcher).__name__} starts workers in a way that heald has not got"
            raise NotServed(what, hint=self.launcher.instead)

    @property
    def seconds(self) -> float:
        """The walltime, read as the scheduler reads it: "30" is half an hour for Slurm, and half a minute for PBS."""
        if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", str(self.walltime)):
            raise ValueError(f"walltime={self.walltime!r}: write it as HH:MM:SS")
        days, _, clock = str(self.walltime).rpartition("-")
        parts = [float(part) for part in clock.split(":")]
        units = (3600, 60, 1)[: len(parts)] if days else (3600, 60, 1)[-len(parts) :]
        factor = 60 if not days and len(parts) <= self.minutes else 1
        return 86400 * int(days or 0) + factor * sum(part * unit for part, unit in zip(parts, units, strict=True))

    @property
    def options(self) -> list[str]:
        """What is asked of the scheduler in its own words."""
        lines = (line.strip() for line in self.scheduler_options.splitlines())
        return [line.removeprefix(self.sign).strip() for line in lines if line.startswith(self.sign)]

    def site(self) -> Site:
        """The cluster as heald knows machines."""
        alone = _FIRST_NODE if self.launcher.starts == "fork" else ""
        others = (line for line in self.scheduler_options.splitlines() if not line.strip().startswith(self.sign))
        given: dict[str, Any] = {
            "exclusive": False,
            "launcher": self.launcher.starts,
            "setup": tuple(filter(None, (alone, *others, self.worker_init))),
            "node": NodeShape(cores=self.cores_per_node or 0),
            "directives": tuple(self.options),
        }
        given |= {key: value for key, value in self._asks().items() if value is not None}
        return Site(self.label, self.label, **given)

    def _asks(self) -> dict[str, Any]:
        """What is said of the site besides."""
        raise NotImplementedError


@retired(f"{_MEANINGLESS} regex_job_id status_batch_size")
@dataclass(repr=False, eq=False)
class SlurmProvider(ClusterProvider):
    """Blocks are jobs of Slurm; memory is in GB."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    clusters: str | None = None
    _: KW_ONLY
    cores_per_node: int | None = None
    mem_per_node: float | None = None
    gpus_per_node: int | None = None
    gres: str | None = None
    exclusive: bool = True
    walltime: str = "00:10:00"

    label = "slurm"
    sign = "#SBATCH"
    minutes = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clusters:
            hint = f"export SLURM_CLUSTERS={self.clusters} before the script, which all programs of Slurm heed"
            raise NotServed("SlurmProvider takes no clusters", hint=hint)

    def _asks(self) -> dict[str, Any]:
        memory = [f"--mem={self.mem_per_node:g}G"] if self.mem_per_node else []
        devices = [f"--gres={self.gres}"] if self.gres else []
        return {
            "queue": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "exclusive": self.exclusive,
            "node": NodeShape(cores=self.cores_per_node or 0, gpus=self.gpus_per_node or 0),
            "directives": (*memory, *devices, *self.options),
        }


@retired(_MEANINGLESS)
@dataclass(repr=False, eq=False)
class PBSProProvider(ClusterProvider):
    """Blocks are jobs of PBS Professional or OpenPBS. `select_options`: what else a node must have."""

    account: str | None = None
    queue: str | None = None
    _: KW_ONLY
    select_options: str = ""
    cpus_per_node: int = 1

    label = "pbs"
    sign = "#PBS"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.cores_per_node = self.cpus_per_node if self.cpus_per_node > 1 else None  # 1 is what nobody has chosen

    def _asks(self) -> dict[str, Any]:
        return {"queue": self.queue, "account": self.account, "constraint": self.select_options.strip(":")}


@retired(f"{_MEANINGLESS} bsub_redirection")
@dataclass(repr=False, eq=False, kw_only=True)
class LSFProvider(ClusterProvider):
    """Blocks are jobs of LSF: of whole nodes, or of `cores_per_block` with `cores_per_node` on each."""

    project: str | None = None
    queue: str | None = None
    cores_per_block: int | None = None
    cores_per_node: int | None = None
    request_by_nodes: bool = True
    walltime: str = "00:10:00"

    label = "lsf"
    sign = "#BSUB"
    minutes = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.request_by_nodes:
            if not (self.cores_per_block and self.cores_per_node):
                raise ValueError("request_by_nodes=False needs cores_per_block and cores_per_node")
            self.nodes_per_block = -(-self.cores_per_block // self.cores_per_node)

    def _asks(self) -> dict[str, Any]:
        return {"queue": self.queue, "account": self.project, "exclusive": self.request_by_nodes}


@retired(_MEANINGLESS)
@dataclass(repr=False, eq=False, kw_only=True)
class GridEngineProvider(ClusterProvider):
    """Blocks are jobs of Grid Engine. Those of several nodes name a parallel environment: "#$ -pe NAME SLOTS"."""

    queue: str | None = None
    walltime: str = "00:10:00"

    label = "gridengine"
    sign = "#$"

    def __post_init__(self) -> None:
        super().__post_init__()
        named = (re.fullmatch(r"-pe\s+(\S+)\s+(\d+)", option) for option in self.options)
        self._environment, slots = next(((found[1], int(found[2])) for found in named if found), ("", 0))
        self.cores_per_node = slots // self.nodes_per_block or None

    def _asks(self) -> dict[str, Any]:
        others = tuple(option for option in self.options if not option.startswith("-pe"))
        return {"queue": self.queue, "constraint": self._environment, "directives": others}
