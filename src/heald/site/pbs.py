"""PBS Professional and OpenPBS: qsub, qstat, qdel, pbsnodes.

They are asked for text, which is the same in all versions; their JSON is not always JSON.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from shlex import quote

import msgspec

from heald.core.errors import SiteError
from heald.core.resources import seconds, size
from heald.site import scheduler
from heald.site.command import Ask, Programs, ask
from heald.site.profile import Limits, NodeShape, Site
from heald.site.scheduler import MISSING, Job, JobState, JobStatus, Nodes, Queue, clock, without

_UNREACHABLE = "cannot connect to server|connection refused|communication failure|pbs_iff|end of file|no route to host"
_OVER = "unknown job id|job has finished|request invalid for state|invalid request"
_HINTS = {
    "can never run": "no set of nodes has what it asks for: pbsnodes -aSj shows what there is",
    "unknown queue": "set `queue` to one of: qstat -Q",
    "queue is not enabled|queue not enabled|is not started": "this queue takes or starts no jobs: qstat -Q",
    "project|account": "set `account` to a project of yours",
    "unknown resource": "look at `constraint`, `filesystems` and `directives`",
    "filesystems": "set `filesystems`: this site wants to know which a job needs",
    "walltime|violates": "set `walltime` and nodes within the limits of the queue: qstat -Qf QUEUE",
    "would exceed": "you have as many jobs as the queue allows: it waits for them",
}
_STATES = {
    "Q": JobState.queued,
    "T": JobState.queued,  # on its way to another queue
    "M": JobState.queued,  # moved to another server
    "W": JobState.queued,  # until a time, or for its files
    "H": JobState.held,
    "R": JobState.running,
    "B": JobState.running,  # an array that has begun
    "S": JobState.running,  # suspended
    "U": JobState.running,
    "E": JobState.ending,
}
# What Exit_status means when PBS itself ended a job.
_CODES = {
    -20: JobState.node_failed,
    -26: JobState.out_of_memory,
    -27: JobState.out_of_memory,
    -28: JobState.timeout,
    -29: JobState.timeout,
}
_DELETED = "91"  # the substate of a job that somebody deleted


def script(job: Job) -> str:
    """The job script. PBS delivers its own output file after the end; so the script writes the job's itself.

    >>> print(script(Job(name="a", command=("agent",), nodes=2, cpus=4, walltime=timedelta(minutes=90))))
    #!/bin/bash
    #PBS -N a
    #PBS -l select=2:ncpus=4
    #PBS -l place=scatter
    #PBS -l walltime=1:30:00
    #PBS -j oe
    export HEALD_ENDS=$(($(date +%s) + 5400))
    exec agent
    """
    without(job, "PBS", "qos")
    chunk = [f"select={job.nodes}"]
    gpus = 0 if job.exclusive else job.gpus  # all of a node's, anyway; and not every site counts them
    chunk += [f"{name}={value}" for name, value in (("ncpus", job.cpus), ("ngpus", gpus)) if value]
    chunk += [f"mem={-(-job.memory // 2**20)}mb"] if job.memory else []
    chunk += [job.constraint] if job.constraint else []
    options = [
        f"-N {job.name}",
        f"-l {':'.join(chunk)}",
        f"-l place=scatter{':excl' * job.exclusive}",
        f"-l walltime={clock(job.walltime)}" if job.walltime else "",
        f"-l filesystems={':'.join(job.filesystems)}" if job.filesystems else "",
        f"-q {job.queue}" if job.queue else "",
        f"-A {job.account}" if job.account else "",
        "-j oe",
        f"-o {quote(job.stdout + '.pbs')}" if job.stdout else "",
    ]
    return scheduler.script(job, [*filter(None, options), *job.directives], "#PBS", redirect=True)


def parse(text: str) -> dict[str, dict[str, str]]:
    """The records of qstat -f, qstat -Qf and pbsnodes -a: name -> attribute -> value.

    >>> parse("Job Id: 4.n0\\n    job_state = R\\n    comment = two\\n\\t words\\n")
    {'4.n0': {'job_state': 'R', 'comment': 'two words'}}
    """
    found: dict[str, dict[str, str]] = {}
    for line in text.replace("\n\t", "").splitlines():  # a line of more than 79 signs goes on behind a tab
        if line and not line.startswith(" "):
            record = found[line.rpartition(": ")[2].strip()] = {}
        elif " = " in line:
            key, _, value = line.strip().partition(" = ")
            record[key] = value
    return found


def status(record: Mapping[str, str]) -> JobStatus:
    """What the record of a job says."""
    letter, code = record.get("job_state", ""), int(record.get("Exit_status", 0))
    state = _finished(record, code) if letter in "FX" else _STATES.get(letter, JobState.unknown)
    hosts = [place.partition("/")[0] for place in record.get("exec_host", "").split("+")]
    started = _time(record.get("stime"))
    ends = None
    if state.final:
        ends = _time(record.get("obittime") or record.get("mtime"))
    elif started is not None and (walltime := record.get("Resource_List.walltime")):
        ends = started + timedelta(seconds=seconds(walltime))
    told = state.final and "Exit_status" in record and code >= 0
    return JobStatus(
        state,
        "" if state in (JobState.running, JobState.done) else record.get("comment", ""),
        "",
        tuple(dict.fromkeys(filter(None, hosts))),
        (256 - code if code > 256 else code) if told else None,  # 271: SIGTERM
        started,
        ends,
        max(0, int(record.get("run_count", 1)) - 1),
    )


def _finished(record: Mapping[str, str], code: int) -> JobState:
    if record.get("substate") == _DELETED or "Exit_status" not in record:
        return JobState.cancelled  # without a status it never ran: what it depended on failed
    return _CODES.get(code, JobState.failed if code else JobState.done)


def _time(text: str | None) -> datetime | None:
    """A time as PBS prints it, which is that of this machine."""
    return datetime.strptime(text, "%a %b %d %H:%M:%S %Y").astimezone(UTC) if text else None


def nodes(records: Iterable[Mapping[str, str]]) -> list[Nodes]:
    """Nodes by shape, of the records of pbsnodes; a host may be several of them."""
    hosts: dict[str, NodeShape] = {}
    for record in records:
        has = {key.rpartition(".")[2]: value for key, value in record.items() if "resources_available." in key}
        host = has.get("host", "")
        known = hosts.get(host, NodeShape())
        gpus = known.gpus + int(has.get("ngpus", 0))
        memory = known.memory + size(re.sub(r"(?<=[kmgt])b", "ib", has.get("mem", "0")))  # its kb is 1024 bytes
        hosts[host] = NodeShape(known.cores + int(has.get("ncpus", 0)), known.numa + 1, gpus, "", memory)
    return [Nodes(shape, count) for shape, count in Counter(hosts.values()).items()]


def queues(records: Mapping[str, Mapping[str, str]]) -> list[Queue]:
    """Queues, of the records of qstat -Qf."""
    return [
        Queue(
            name,
            Limits(
                nodes=int(record.get("resources_max.nodect", 0)),
                fewest=max(0, int(record.get("resources_min.nodect", 0))),
                walltime=timedelta(seconds=seconds(record.get("resources_max.walltime", 0))),
            ),
            open=record.get("enabled") == "True" == record.get("started"),
        )
        for name, record in records.items()
    ]


class Pbs:
    """The PBS whose programs are on PATH."""

    def __init__(self, ask: Ask = ask) -> None:
        self._programs = Programs(ask, _UNREACHABLE, _HINTS)
        self._history = ["-x"]  # also of finished jobs, where the server keeps them

    @classmethod
    def of(cls, site: Site, ask: Ask) -> Pbs:
        """The one of a site."""
        return cls(ask)

    def submit(self, job: Job) -> str:
        """See `Scheduler`."""
        return self._programs.submit(job.name, "qsub", text=script(job)).split()[-1]

    def status(self, ids: Iterable[str]) -> Mapping[str, JobStatus]:
        """See `Scheduler`."""
        asked = list(dict.fromkeys(ids))
        if not asked:
            return {}
        try:
            records = self._records(asked)
        except SiteError as error:
            if "history" not in error.message:
                raise
            self._history = []
            records = self._records(asked)
        found = {id: status(records[id]) if id in records else MISSING for id in asked}
        return {
            id: msgspec.structs.replace(told, hint=self._programs.hint(told.reason)) if not told.state.final else told
            for id, told in found.items()
        }

    def _records(self, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        return parse(self._programs.run("qstat", *self._history, "-f", *ids, unless=_OVER).out)

    def cancel(self, ids: Iterable[str]) -> None:
        """See `Scheduler`."""
        if asked := list(ids):
            self._programs.run("qdel", *asked, unless=_OVER)

    def nodes(self) -> Sequence[Nodes]:
        """See `Scheduler`."""
        return nodes(parse(self._programs.run("pbsnodes", "-a").out).values())

    def queues(self) -> Sequence[Queue]:
        """See `Scheduler`."""
        return queues(parse(self._programs.run("qstat", "-Q", "-f").out))
