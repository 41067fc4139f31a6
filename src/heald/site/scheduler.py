"""What heald asks of any scheduler, and what it is told: the protocol, and the records that pass through it.

One module an adapter (`slurm`, `pbs`, `flux`, `lsf`, `gridengine`, `local`, `ssh`); `adapter` finds the one of a Site.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum, auto
from typing import Any, Protocol

import msgspec

from heald.core.errors import ConfigurationError
from heald.core.quantity import duration
from heald.core.resources import seconds
from heald.site.node import ENDS
from heald.site.profile import Limits, NodeShape, Site


class JobState(StrEnum):
    """What a scheduler says of a job. States can go backwards: a job is requeued, a controller forgets its last minute.

    >>> JobState("timeout").final, JobState.missing.final
    (True, False)
    """

    queued = auto()
    held = auto()  # it will not start until somebody releases it
    running = auto()
    ending = auto()  # its processes are being ended
    done = auto()
    failed = auto()
    timeout = auto()
    cancelled = auto()
    node_failed = auto()
    preempted = auto()  # and not requeued: else it is queued again
    out_of_memory = auto()
    missing = auto()  # the scheduler does not know the job (any more): how it ended is not known
    unknown = auto()  # it said something that this adapter does not understand; see `reason`

    @property
    def final(self) -> bool:
        """It has ended, by all that the scheduler knows; neither `missing` nor `unknown` is an end."""
        return self not in _OPEN


_OPEN = frozenset(map(JobState, ("queued", "held", "running", "ending", "missing", "unknown")))


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A batch job to ask for. `command` is run once, on its first node, after `modules` and `setup`, in `directory`.

    `walltime` 0 leaves it to the queue. `cpus`, `gpus`, `memory` (bytes) are for each node; 0 leaves them to the
    scheduler, or takes all with `exclusive`. `notice`: seconds before the end at which the command gets SIGUSR1, where
    the scheduler can do that (Slurm, Flux, LSF). `stdout`, `stderr`: files, appended to while the job runs; an empty
    `stderr` goes to `stdout`. `variables` are written into the script: no place for secrets. The rest as in a Site.
    """

    name: str
    command: tuple[str, ...]
    nodes: int = 1
    walltime: timedelta = timedelta(0)
    queue: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    exclusive: bool = False
    cpus: int = 0
    gpus: int = 0
    memory: int = 0
    notice: int = 0
    filesystems: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    variables: dict[str, str] = {}
    directory: str = ""
    stdout: str = ""
    stderr: str = ""
    directives: tuple[str, ...] = ()


class JobStatus(msgspec.Struct, frozen=True):
    """What the scheduler says of a job, now. Times are aware, in UTC.

    `reason` is in its words; `hint` says what to do about it, where heald knows. `hosts` once it runs. `exit` is the
    status of the command, negative for a signal. `ends`: when it has ended, or will be ended. `restarts`: how often it
    went back into the queue.
    """

    state: JobState
    reason: str = ""
    hint: str = ""
    hosts: tuple[str, ...] = ()
    exit: int | None = None
    started: datetime | None = None
    ends: datetime | None = None
    restarts: int = 0


MISSING = JobStatus(JobState.missing, "the scheduler does not know it")


class Nodes(msgspec.Struct, frozen=True):
    """So many nodes of one shape, in some queues, with some features that a `constraint` can ask for."""

    shape: NodeShape
    count: int
    queues: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


class Queue(msgspec.Struct, frozen=True):
    """A queue (Slurm: a partition): its limits, its number of nodes (0: not known), whether it is the default one and
    starts jobs (`open`).
    """

    name: str
    limits: Limits = Limits()
    nodes: int = 0
    default: bool = False
    open: bool = True


class Scheduler(Protocol):
    """Asks one scheduler. Each call may block for as long as the scheduler's own programs do, at most a minute each.

    All raise SchedulerUnreachable when it does not answer, which says nothing about its jobs, and SiteError when it is
    not there or refuses what was asked.
    """

    def submit(self, job: Job) -> str:
        """Ask for a job; the id that the scheduler gave it. Raises SubmitFailed with its words when it refuses."""

    def status(self, ids: Iterable[str]) -> Mapping[str, JobStatus]:
        """What it says of each of these jobs, asked together."""

    def cancel(self, ids: Iterable[str]) -> None:
        """End these jobs, or take them out of the queue. Those that are over, or not known, are left alone."""

    def nodes(self) -> Sequence[Nodes]:
        """The nodes it has, by shape."""

    def queues(self) -> Sequence[Queue]:
        """Its queues."""


def job(
    site: Site,
    name: str,
    command: Sequence[str],
    *,
    nodes: int = 1,
    walltime: timedelta | float | str = 0,
    **more: Any,
) -> Job:
    """A Job for a site: its queue, account, set-up and directives, and what is asked for; `more` are fields of Job.

    >>> job(Site("mine", queue="batch"), "heald-1", ["true"], walltime="10m").queue
    'batch'

    Raises ConfigurationError when the queue would never run it.
    """
    time = timedelta(seconds=seconds(walltime))
    _check(site, nodes, time)
    fields: dict[str, Any] = {
        **{key: getattr(site, key) for key in _TAKEN},
        "cpus": site.node.cores,
        "gpus": site.node.gpus,
        "directory": os.getcwd(),
        **more,
    }
    return Job(name=name, command=tuple(command), nodes=nodes, walltime=time, **fields)


_TAKEN = (
    "queue", "account", "qos", "constraint", "exclusive", "filesystems", "modules", "setup", "variables", "directives",
)  # fmt: skip


def _check(site: Site, nodes: int, walltime: timedelta) -> None:
    limits, queue = site.limits, f"queue {site.queue or site.qos} of {site.name}"
    hint = f"choose another queue: `heald site show {site.name}` lists them"
    if nodes < 1:
        raise ConfigurationError(f"nodes={nodes}: must be at least 1")
    if limits.nodes and nodes > limits.nodes:
        raise ConfigurationError(f"nodes={nodes}: {queue} gives a job at most {limits.nodes}", hint=hint)
    if nodes < limits.fewest:
        raise ConfigurationError(f"nodes={nodes}: {queue} takes jobs of {limits.fewest} nodes and more", hint=hint)
    if limits.walltime and walltime > limits.walltime:
        most, asked = (duration(time.total_seconds()) for time in (limits.walltime, walltime))
        raise ConfigurationError(f"a walltime of {asked}: {queue} gives at most {most}", hint=hint)


def clock(time: timedelta) -> str:
    """A duration as schedulers write it: hours, minutes, seconds.

    >>> clock(timedelta(days=1, minutes=5))
    '24:05:00'
    """
    minutes, rest = divmod(round(time.total_seconds()), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def without(job: Job, scheduler: str, *fields: str) -> None:
    """Raise ConfigurationError when the job asks for something that this scheduler has not got."""
    for field in fields:
        if getattr(job, field):
            raise ConfigurationError(f"{scheduler} knows no `{field}`", hint="say it in `directives`, in its own words")


def script(job: Job, options: Iterable[str] = (), sign: str = "", *, redirect: bool = False) -> str:
    """The shell script of a job: the scheduler's `options`, each behind its `sign`, then the set-up and the command.

    `redirect`: the script itself opens the job's output files, for schedulers that would deliver them after its end.

    >>> print(script(Job(name="a", command=("echo", "a b")), ["--nodes=1"], "#SBATCH"))
    #!/bin/bash
    #SBATCH --nodes=1
    exec echo 'a b'
    """
    # Some sites define `module` for login shells only.
    lines = ["#!/bin/bash -l" if job.modules else "#!/bin/bash", *(f"{sign} {option}" for option in options)]
    if job.walltime:
        lines.append(f"export {ENDS}=$(($(date +%s) + {job.walltime.total_seconds():.0f}))")
    if redirect and job.stdout:
        error = f"2>>{shlex.quote(job.stderr)}" if job.stderr else "2>&1"
        lines.append(f"exec >>{shlex.quote(job.stdout)} {error}")
    lines += [f"module load {shlex.quote(module)}" for module in job.modules]
    lines += job.setup
    lines += [f"export {name}={shlex.quote(value)}" for name, value in job.variables.items()]
    if job.directory:
        lines.append(f"cd {shlex.quote(job.directory)} || exit")
    return "\n".join([*lines, f"exec {shlex.join(job.command)}"])
