"""Grid Engine (Son of, Univa, Open): qsub, qstat, qacct, qdel, qhost.

It gives slots, not nodes: a job of several nodes needs a parallel environment (`constraint`) that spreads them. What
ended is in the accounting only, some seconds later.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from shlex import quote
from xml.etree import ElementTree

import msgspec

from heald.core.errors import ConfigurationError
from heald.core.resources import size
from heald.site import scheduler
from heald.site.command import Ask, Programs, ask
from heald.site.profile import NodeShape, Site
from heald.site.scheduler import MISSING, Job, JobState, JobStatus, Nodes, Queue, clock, without

_UNREACHABLE = "unable to (contact|send message to) qmaster|can't connect|connection refused|got select|commlib error"
_HINTS = {
    "unknown queue": "set `queue` to one of: qconf -sql",
    "parallel environment": "set `constraint` to one of: qconf -spl",
    "project": "set `account` to one of: qconf -sprjl",
    "unknown resource": "look at `directives`",
    "error state": "look at why with qstat -j JOB, then clear it with qmod -cj JOB",
}
_LIMIT, _AFTER = "37", "100"  # why qacct says that a job failed: a limit of time; it had started, then was killed


def script(job: Job) -> str:
    """The job script.

    >>> print(script(Job(name="a", command=("agent",), nodes=2, cpus=4, constraint="mpi")))
    #!/bin/bash
    #$ -N a
    #$ -S /bin/bash
    #$ -pe mpi 8
    #$ -j y
    exec agent
    """
    without(job, "Grid Engine", "qos", "filesystems")
    if job.nodes > 1 and not job.constraint:
        hint = "set `constraint` to a parallel environment that spreads its slots: qconf -spl lists them"
        raise ConfigurationError(f"the job {job.name} of {job.nodes} nodes names no parallel environment", hint=hint)
    slots = job.nodes * max(job.cpus, 1)
    options = [
        f"-N {job.name}",
        "-S /bin/bash",
        f"-pe {job.constraint} {slots}" if job.constraint else "",
        f"-l h_rt={clock(job.walltime)}" if job.walltime else "",
        f"-l gpu={job.gpus}" if job.gpus else "",
        f"-q {job.queue}" if job.queue else "",
        f"-P {job.account}" if job.account else "",
        "" if job.stderr else "-j y",
        f"-o {quote(job.stdout)}" if job.stdout else "",
        f"-e {quote(job.stderr)}" if job.stderr else "",
    ]
    return scheduler.script(job, [*filter(None, options), *job.directives], "#$")


def parse_queue(text: str) -> dict[str, JobStatus]:
    """Jobs by id from `qstat -xml -r -g t`, which has a row for each slot."""
    found: dict[str, JobStatus] = {}
    for row in ElementTree.fromstring(text).iter("job_list"):
        id, letters = row.findtext("JB_job_number", ""), row.findtext("state", "")
        host = (row.findtext("queue_name") or "").partition("@")[2]
        known = found.get(id)
        if known is not None:
            first = row.findtext("master") == "MASTER"
            hosts = (host, *known.hosts) if first else (*known.hosts, host)
            found[id] = msgspec.structs.replace(known, hosts=tuple(dict.fromkeys(filter(None, hosts))))
            continue
        start = row.findtext("JAT_start_time")
        reason = "it is in error state" if "E" in letters else ""
        started = datetime.fromisoformat(start).astimezone(UTC) if start else None
        limit = row.findtext("hard_request[@name='h_rt']")
        ends = started + timedelta(seconds=float(limit)) if started and limit else None
        hosts = (host,) if host else ()
        found[id] = JobStatus(_state(letters), reason, "", hosts, None, started, ends, int("R" in letters))
    return found


def _state(letters: str) -> JobState:
    if "d" in letters:
        return JobState.ending
    if "h" in letters or "E" in letters:
        return JobState.held
    if "q" in letters or "w" in letters:
        return JobState.queued
    return JobState.running if set(letters) & set("rtsST") else JobState.unknown


def parse_accounting(text: str) -> JobStatus:
    """How a job ended, from qacct; the last of its runs counts."""
    record: dict[str, str] = {}
    for line in text.rpartition("=====")[2].splitlines():
        key, _, value = line.partition(" ")
        record[key] = value.strip()
    failed, _, why = record.get("failed", "0").partition(":")
    code = int(record.get("exit_status", "0").split()[0])
    state = JobState.failed if code or failed.strip() != "0" else JobState.done
    if failed.strip() == _LIMIT:
        state = JobState.timeout
    started, ended = (_time(record.get(key, "")) for key in ("start_time", "end_time"))
    exit = 128 - code if code > 128 else code
    return JobStatus(state, why.strip(), "", (record["hostname"],), exit, started, ended)


def _time(text: str) -> datetime | None:
    """A time as qacct prints it, which is that of this machine; "-/-" for none."""
    return datetime.strptime(text, "%a %b %d %H:%M:%S %Y").astimezone(UTC) if text[:1].isalpha() else None


def parse_hosts(text: str) -> list[Nodes]:
    """Nodes by shape from `qhost -xml`."""
    shapes: Counter[NodeShape] = Counter()
    for host in ElementTree.fromstring(text).iter("host"):
        has = {value.get("name", ""): value.text or "" for value in host.iter("hostvalue")}
        if has.get("num_proc", "-").isdigit():
            memory = re.sub(r"[KMGT]$", lambda unit: f"{unit[0]}i", has["mem_total"])
            cores = int(has["m_core"]) if has.get("m_core", "").isdigit() else int(has["num_proc"])
            sockets = int(has["m_socket"]) if has.get("m_socket", "").isdigit() else 0
            shapes[NodeShape(cores=cores, numa=sockets, memory=size(memory))] += 1
    return [Nodes(shape, count) for shape, count in shapes.items()]


class GridEngine:
    """The Grid Engine whose programs are on PATH."""

    def __init__(self, ask: Ask = ask) -> None:
        self._programs = Programs(ask, _UNREACHABLE, _HINTS)
        self._cancelled: set[str] = set()  # the accounting does not tell a deleted job from a killed one

    @classmethod
    def of(cls, site: Site, ask: Ask) -> GridEngine:
        """The one of a site."""
        return cls(ask)

    def submit(self, job: Job) -> str:
        """See `Scheduler`."""
        said = self._programs.submit(job.name, "qsub", "-terse", text=script(job))
        return said.split()[-1].partition(".")[0]  # of an array: 5.1-3:1

    def status(self, ids: Iterable[str]) -> Mapping[str, JobStatus]:
        """See `Scheduler`. The accounting is asked for each job that is no longer in a queue, one by one."""
        asked = list(dict.fromkeys(ids))
        found = parse_queue(self._programs.run("qstat", "-xml", "-r", "-g", "t").out) if asked else {}
        return {id: found.get(id) or self._ended(id) for id in asked}

    def _ended(self, id: str) -> JobStatus:
        answer = self._programs.run("qacct", "-j", id, unless="not found|no such file")
        if answer.status:
            return JobStatus(JobState.cancelled) if id in self._cancelled else MISSING
        status = parse_accounting(answer.out)
        if id in self._cancelled and status.exit:
            status = msgspec.structs.replace(status, state=JobState.cancelled)
        return status

    def cancel(self, ids: Iterable[str]) -> None:
        """See `Scheduler`."""
        if asked := list(ids):
            said = self._programs.run("qdel", *asked, unless="does not exist").out
            self._cancelled.update(set(re.findall(r"job (\d+)", said)) & set(asked))

    def nodes(self) -> Sequence[Nodes]:
        """See `Scheduler`."""
        return parse_hosts(self._programs.run("qhost", "-xml").out)

    def queues(self) -> Sequence[Queue]:
        """See `Scheduler`."""
        return [Queue(name) for name in self._programs.run("qconf", "-sql").out.split()]
