"""Flux: flux batch, flux jobs, flux cancel, flux resource, flux queue.

A job is a Flux instance of its own (`flux batch`): inside it, `flux exec` starts agents and `flux run` MPI programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from shlex import quote

import msgspec

from heald.core.errors import SiteError
from heald.site import scheduler
from heald.site.command import Ask, Programs, ask
from heald.site.hostlist import expand
from heald.site.node import HOSTS
from heald.site.profile import NodeShape, Site
from heald.site.scheduler import MISSING, Job, JobState, JobStatus, Nodes, Queue, without

_UNREACHABLE = (
    "unable to connect to flux|error connecting|connection refused|no such file or directory.*local|lost conn"
)
_HINTS = {
    "unsatisfiable": "no set of nodes has what it asks for: flux resource list shows what there is",
    "queue": "set `queue` to one of: flux queue list",
    "bank": "set `account` to a bank of yours: flux account view-user $USER",
    "duration": "set `walltime` within the limits of the queue: flux queue list",
}
_FIELDS = (
    "{id.f58}|{state}|{result}|{returncode}|{t_run}|{t_inactive}|{expiration}|{nodelist}|{exception.type}"
    "|{exception.note}"
)
_STATES = {
    "DEPEND": JobState.queued,
    "PRIORITY": JobState.queued,
    "SCHED": JobState.queued,
    "RUN": JobState.running,
    "CLEANUP": JobState.ending,
}
_RESULTS = {
    "COMPLETED": JobState.done,
    "FAILED": JobState.failed,
    "CANCELED": JobState.cancelled,
    "TIMEOUT": JobState.timeout,
}


def script(job: Job) -> str:
    """The batch script.

    >>> print(script(Job(name="a", command=("agent",), nodes=2, queue="batch", exclusive=True)))
    #!/bin/bash
    # flux: --job-name=a
    # flux: --nodes=2
    # flux: --exclusive
    # flux: --queue=batch
    export HEALD_HOSTS="$(flux getattr hostlist)"
    exec agent
    """
    without(job, "Flux", "qos", "filesystems", "memory")
    options = {
        "job-name": job.name,
        "nodes": job.nodes,
        "exclusive": job.exclusive,
        "nslots": "" if job.exclusive else job.nodes,
        "cores-per-slot": "" if job.exclusive else job.cpus,
        "gpus-per-slot": "" if job.exclusive else job.gpus,
        "time-limit": f"{job.walltime.total_seconds():g}s" if job.walltime else "",
        "queue": job.queue,
        "bank": job.account,
        "requires": job.constraint,
        "signal": f"SIGUSR1@{job.notice}s" if job.notice else "",
        "output": quote(job.stdout) if job.stdout else "",
        "error": quote(job.stderr) if job.stderr else "",
    }
    given = [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items() if value]
    # Of all schedulers, this one tells a job its hosts only when asked.
    asking = msgspec.structs.replace(job, setup=(*job.setup, f'export {HOSTS}="$(flux getattr hostlist)"'))
    return scheduler.script(asking, [*given, *job.directives], "# flux:")


def parse(text: str) -> dict[str, JobStatus]:
    """Jobs by id from flux jobs, asked for `_FIELDS`.

    >>> parse("fMjr|RUN|||1795349775.5|0.0|1795350375.5|n[1-2]||\\n")["fMjr"].hosts
    ('n1', 'n2')
    """
    found = {}
    for line in text.splitlines():
        id, word, result, code, start, end, expires, hosts, kind, note = line.split("|", 9)
        state = _STATES.get(word, JobState.unknown) if word != "INACTIVE" else _RESULTS.get(result, JobState.unknown)
        if state is JobState.failed and note.startswith("node failure"):
            state = JobState.node_failed
        reason = f"{kind}: {note}" if kind else ""
        exit = int(code) if state.final and code not in ("", "-") else None
        ends = end if state.final else expires
        found[_plain(id)] = JobStatus(state, reason, "", expand(hosts), exit, _time(start), _time(ends))
    return found


def _plain(id: str) -> str:
    """An id begins with ƒ or, in a terminal without it, with f."""
    return f"f{id[1:]}" if id.startswith("ƒ") else id


def _time(text: str) -> datetime | None:
    return datetime.fromtimestamp(float(text), UTC) if text[:1].isdigit() and float(text) else None


def parse_nodes(text: str) -> list[Nodes]:
    """Nodes from `flux resource list`, asked for counts of nodes, cores and GPUs by state."""
    found = []
    for line in text.splitlines():
        count, cores, gpus = map(int, line.split())
        if count:
            found.append(Nodes(NodeShape(cores=cores // count, gpus=gpus // count), count))
    return found


class Flux:
    """The Flux instance that this process is in, or that of the machine."""

    def __init__(self, ask: Ask = ask) -> None:
        self._programs = Programs(ask, _UNREACHABLE, _HINTS)

    @classmethod
    def of(cls, site: Site, ask: Ask) -> Flux:
        """The one of a site."""
        return cls(ask)

    def submit(self, job: Job) -> str:
        """See `Scheduler`."""
        return _plain(self._programs.submit(job.name, "flux", "batch", text=script(job)).split()[-1])

    def status(self, ids: Iterable[str]) -> Mapping[str, JobStatus]:
        """See `Scheduler`."""
        asked = list(dict.fromkeys(ids))
        if not asked:
            return {}
        query = ("flux", "jobs", "-a", "--no-header", f"--format={_FIELDS}")
        found = parse(self._programs.run(*query, *asked, unless="unknown").out)
        return {id: found.get(id, MISSING) for id in asked}

    def cancel(self, ids: Iterable[str]) -> None:
        """See `Scheduler`."""
        if asked := list(ids):
            self._programs.run("flux", "cancel", *asked, unless="unknown|inactive|no active")

    def nodes(self) -> Sequence[Nodes]:
        """See `Scheduler`."""
        query = ("flux", "resource", "list", "--no-header", "--states=all", "--format={nnodes} {ncores} {ngpus}")
        return parse_nodes(self._programs.run(*query).out)

    def queues(self) -> Sequence[Queue]:
        """See `Scheduler`. None when the instance has but one, without a name."""
        try:
            said = self._programs.run("flux", "queue", "list", "--no-header", "--format={queue}").out
        except SiteError:  # before 0.50 there is no such command
            return []
        return [Queue(name.rstrip("*"), default=name.endswith("*")) for name in said.split()]
