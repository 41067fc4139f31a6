"""LSF: bsub, bjobs, bkill, lshosts, bqueues."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from shlex import quote

from heald.core.resources import size
from heald.site import scheduler
from heald.site.command import Ask, Programs, ask
from heald.site.profile import NodeShape, Site
from heald.site.scheduler import MISSING, Job, JobState, JobStatus, Nodes, Queue, without

_UNREACHABLE = "lsf is down|cannot connect to lsf|not responding|lim is down|lim.*unreachable|mbatchd.*(down|resizing)"
_HINTS = {
    "no such queue|bad queue": "set `queue` to one of: bqueues",
    "project|account": "set `account` to a project of yours",
    "bad resource": "look at `constraint` and `directives`",
    "suspended by": "resume it: bresume JOB",
}
_FIELDS = "jobid stat exit_code exit_reason exec_host pend_reason"
_STATES = {
    "PEND": JobState.queued,
    "WAIT": JobState.queued,
    "PSUSP": JobState.held,
    "RUN": JobState.running,
    "PROV": JobState.queued,
    "USUSP": JobState.running,
    "SSUSP": JobState.running,
    "DONE": JobState.done,
    "EXIT": JobState.failed,
}
_ENDS = {
    "TERM_RUNLIMIT": JobState.timeout,
    "TERM_DEADLINE": JobState.timeout,
    "TERM_MEMLIMIT": JobState.out_of_memory,
    "TERM_OWNER": JobState.cancelled,
    "TERM_ADMIN": JobState.cancelled,
    "TERM_FORCE_OWNER": JobState.cancelled,
    "TERM_FORCE_ADMIN": JobState.cancelled,
    "TERM_PREEMPT": JobState.preempted,
}


def script(job: Job) -> str:
    """The job script: a slot for each node, or all its cores.

    >>> print(script(Job(name="a", command=("agent",), nodes=2, cpus=4, queue="normal")))
    #!/bin/bash
    #BSUB -J a
    #BSUB -n 8
    #BSUB -R "span[ptile=4]"
    #BSUB -q normal
    exec agent
    """
    without(job, "LSF", "qos", "filesystems")
    each = max(job.cpus, 1)
    minutes = -(-round(job.walltime.total_seconds()) // 60)
    options = [
        f"-J {job.name}",
        f"-n {job.nodes * each}",
        f'-R "span[ptile={each}]"',
        f'-R "{job.constraint}"' if job.constraint else "",
        f'-R "rusage[mem={-(-job.memory // 2**20)}MB]"' if job.memory else "",
        f'-gpu "num={job.gpus}"' if job.gpus else "",
        f"-W {minutes // 60}:{minutes % 60:02}" if job.walltime else "",
        f"-wt {-(-job.notice // 60)} -wa USR1" if job.notice else "",
        f"-q {job.queue}" if job.queue else "",
        f"-P {job.account}" if job.account else "",
        "-x" if job.exclusive else "",
        f"-o {quote(job.stdout + '.lsf')}" if job.stdout else "",
    ]
    return scheduler.script(job, [*filter(None, options), *job.directives], "#BSUB", redirect=True)


def parse(text: str) -> dict[str, JobStatus]:
    """Jobs by id from `bjobs -json`, asked for `_FIELDS`; those that it does not know are left out."""
    found = {}
    for row in json.loads(text or "{}").get("RECORDS", []):
        if "STAT" not in row:
            continue
        state = _STATES.get(row["STAT"], JobState.unknown)
        reason = row.get("EXIT_REASON") or row.get("PEND_REASON") or ""
        if state is JobState.failed:
            state = next((ended for word, ended in _ENDS.items() if word in reason), state)
        hosts = (place.rpartition("*")[2] for place in row.get("EXEC_HOST", "").split(":"))  # 4*n1:4*n2
        code = int(row.get("EXIT_CODE") or 0)
        exit = (128 - code if code > 128 else code) if state.final else None
        found[row["JOBID"]] = JobStatus(state, reason, "", tuple(dict.fromkeys(filter(None, hosts))), exit)
    return found


def parse_hosts(text: str) -> list[Nodes]:
    """Nodes by shape from `lshosts -w`: name, type, model, factor, cores, memory."""
    shapes: Counter[NodeShape] = Counter()
    for line in text.splitlines()[1:]:
        words = line.split()
        if words[4].isdigit():
            shapes[NodeShape(cores=int(words[4]), memory=size(re.sub(r"[KMGT]$", r"\g<0>i", words[5])))] += 1
    return [Nodes(shape, count) for shape, count in shapes.items()]


class Lsf:
    """The LSF whose programs are on PATH. It does not tell the year of a time, so there are none in its statuses."""

    def __init__(self, ask: Ask = ask) -> None:
        self._programs = Programs(ask, _UNREACHABLE, _HINTS)

    @classmethod
    def of(cls, site: Site, ask: Ask) -> Lsf:
        """The one of a site."""
        return cls(ask)

    def submit(self, job: Job) -> str:
        """See `Scheduler`."""
        said = self._programs.submit(job.name, "bsub", text=script(job))
        return said.partition("Job <")[2].partition(">")[0]

    def status(self, ids: Iterable[str]) -> Mapping[str, JobStatus]:
        """See `Scheduler`."""
        asked = list(dict.fromkeys(ids))
        if not asked:
            return {}
        found = parse(self._programs.run("bjobs", "-a", "-json", "-o", _FIELDS, *asked, unless="not found").out)
        return {id: found.get(id, MISSING) for id in asked}

    def cancel(self, ids: Iterable[str]) -> None:
        """See `Scheduler`."""
        if asked := list(ids):
            self._programs.run("bkill", *asked, unless="already finished|no matching|not found|no unfinished")

    def nodes(self) -> Sequence[Nodes]:
        """See `Scheduler`."""
        return parse_hosts(self._programs.run("lshosts", "-w").out)

    def queues(self) -> Sequence[Queue]:
        """See `Scheduler`."""
        rows = [line.split() for line in self._programs.run("bqueues", "-w").out.splitlines()[1:]]
        return [Queue(row[0], open=row[2] == "Open:Active") for row in rows]
