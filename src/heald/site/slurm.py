"""Slurm: sbatch, squeue, sacct, scancel, sinfo. Builders and parsers are functions; `Slurm` runs the programs.

`squeue` knows a job until MinJobAge (5 minutes, by default) after its end, with its exit status; only for what it no
longer knows is the accounting asked, if there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from shlex import quote

import msgspec

from heald.core.errors import SchedulerUnreachable, SiteError
from heald.core.resources import seconds
from heald.site import scheduler
from heald.site.command import Ask, Programs, ask
from heald.site.hostlist import expand
from heald.site.profile import Limits, NodeShape, Site
from heald.site.scheduler import MISSING, Job, JobState, JobStatus, Nodes, Queue

_UNREACHABLE = (
    "unable to contact slurm|socket timed out|connection refused|connect failure|zero bytes were transmitted"
    "|standby mode|slurmdbd.*(connect|timed out)|unable to resolve|unexpected message received"
)
_MOST = 1000  # ids on one command line

_STATES = {
    "PENDING": JobState.queued,
    "CONFIGURING": JobState.queued,  # its nodes are booting
    "REQUEUED": JobState.queued,
    "REQUEUE_FED": JobState.queued,
    "REQUEUE_HOLD": JobState.held,
    "RESV_DEL_HOLD": JobState.held,
    "SPECIAL_EXIT": JobState.held,
    "RUNNING": JobState.running,
    "RESIZING": JobState.running,
    "SIGNALING": JobState.running,
    "SUSPENDED": JobState.running,
    "STOPPED": JobState.running,
    "COMPLETING": JobState.ending,
    "STAGE_OUT": JobState.ending,
    "COMPLETED": JobState.done,
    "FAILED": JobState.failed,
    "BOOT_FAIL": JobState.node_failed,
    "NODE_FAIL": JobState.node_failed,
    "TIMEOUT": JobState.timeout,
    "DEADLINE": JobState.timeout,
    "CANCELLED": JobState.cancelled,
    "REVOKED": JobState.cancelled,
    "PREEMPTED": JobState.preempted,
    "OUT_OF_MEMORY": JobState.out_of_memory,
}
_HINTS = {
    "JobHeldUser": "release it: scontrol release JOB",
    "JobHeldAdmin": "an administrator holds it: ask the site",
    "PartitionNodeLimit|PartitionConfig": "more nodes than the partition has or gives: sinfo -s lists them all",
    "PartitionTimeLimit": "more time than the partition gives: sinfo -s lists them all",
    "PartitionDown|PartitionInactive": "the partition does not start jobs: choose another (sinfo -s)",
    "DependencyNeverSatisfied": "what it depends on failed: it will never start; cancel it",
    "AccountNotAllowed|InvalidAccount|invalid account": "set `account` to one of: sacctmgr show assoc user=$USER",
    "InvalidQOS|invalid qos": "set `qos` to one of: sacctmgr show assoc user=$USER",
    "BadConstraints|invalid feature": "no node has this `constraint`: sinfo -o '%f' lists them",
    "QOSMaxNode|QOSMaxWall|AssocMaxNode|AssocMaxWall": "more than your account or QOS gives one job: ask for less",
    "MaxJobs|MaxSubmit|GrpJobs|QOSJobLimit": "you have as many jobs as your account or QOS allows: it waits for them",
    "are DOWN, DRAINED": "too few nodes are up: sinfo -R lists why; or ask for fewer",
    "ReqNodeNotAvail|Reserved for maint": "the nodes are reserved (maintenance?): ask for less time to end before that",
    "invalid partition": "set `queue` to one of: sinfo -s",
    "configuration is not available": "no node has so many cores, GPUs or so much memory: sinfo -N -l lists them",
    "time limit": "set `walltime` within the limits of the partition: sinfo -s",
    "unrecognized option|invalid option": "look at `directives`",
}
_FIELDS = "JobArrayID:|,State:|,StartTime:|,EndTime:|,RestartCnt:|,exit_code:|,NodeList:|,Reason:"
_ACCOUNTED = "JobID,State,Start,End,ExitCode,NodeList,Reason"
_NODE = "%P|%D|%c|%X|%Y|%m|%G|%f"
_QUEUE = "%P|%a|%D|%l|%s"
_EPOCH = {"SLURM_TIME_FORMAT": "%s"}  # seconds since the epoch: no time zone to guess


def script(job: Job) -> str:
    """The batch script.

    >>> print(script(Job(name="a", command=("agent",), nodes=2, walltime=timedelta(minutes=90), queue="batch")))
    #!/bin/bash
    #SBATCH --job-name=a
    #SBATCH --nodes=2
    #SBATCH --ntasks-per-node=1
    #SBATCH --time=1:30:00
    #SBATCH --partition=batch
    export HEALD_ENDS=$(($(date +%s) + 5400))
    exec agent
    """
    options = {
        "job-name": job.name,
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "time": scheduler.clock(job.walltime) if job.walltime else "",
        "partition": job.queue,
        "account": job.account,
        "qos": job.qos,
        "constraint": job.constraint,
        "cpus-per-task": "" if job.exclusive else job.cpus,
        "gpus-per-node": job.gpus,
        "mem": f"{-(-job.memory // 2**20)}M" if job.memory else "0" if job.exclusive else "",  # 0: all there is
        "licenses": ",".join(job.filesystems),
        "signal": f"B:USR1@{job.notice}" if job.notice else "",  # B: to the script, which has become the command
        "output": quote(job.stdout) if job.stdout else "",
        "error": quote(job.stderr) if job.stderr else "",
        "open-mode": "append" if job.stdout else "",  # a requeued job would empty what it wrote before
    }
    given = [f"--{name}={value}" for name, value in options.items() if value]
    flags = ["--exclusive"] if job.exclusive else []
    return scheduler.script(job, [*given, *flags, *job.directives], "#SBATCH")


def parse_queue(text: str) -> dict[str, JobStatus]:
    """Jobs by id from squeue, asked for `_FIELDS`; elements of arrays have ids like 2_1.

    >>> status = parse_queue("7|RUNNING|1795349775|1795350375|1|0|n[1-2]|None\\n")["7"]
    >>> status.state.name, status.hosts, status.restarts
    ('running', ('n1', 'n2'), 1)
    """
    found = {}
    for line in text.splitlines():
        id, word, start, end, restarts, code, hosts, reason = line.split("|", 7)
        status = int(code) if code.isdigit() else 0
        exit = -(status & 127) or status >> 8
        found[id] = _status(word, reason, hosts, start, end, exit, int(restarts) if restarts.isdigit() else 0)
    return found


def parse_accounting(text: str) -> dict[str, JobStatus]:
    """Jobs by id from sacct, asked for `_ACCOUNTED`.

    What it calls pending or running, the controller does not know any more: nobody can say how such a job ended.
    """
    found = {}
    for line in text.splitlines():
        id, word, start, end, code, hosts, reason = line.split("|", 6)
        exit, _, signal = code.partition(":")
        status = _status(word, reason, hosts, start, end, -int(signal or 0) or int(exit or 0), 0)
        if not status.state.final:
            status = JobStatus(JobState.missing, f"the accounting has it as {word}, the controller does not know it")
        found[id] = status
    return found


def _status(word: str, reason: str, hosts: str, start: str, end: str, exit: int, restarts: int) -> JobStatus:
    state = _STATES.get(word.split()[0].rstrip("+"), JobState.unknown)  # "CANCELLED by 0"
    reason = "" if reason in ("None", "(null)", "") else reason
    if state is JobState.queued and ("held" in reason.lower()):
        state = JobState.held
    begun = state not in (JobState.queued, JobState.held)
    return JobStatus(
        state,
        reason if state is not JobState.unknown else f"{word} {reason}".strip(),
        "",
        expand(hosts) if begun and hosts != "None assigned" else (),
        exit if state is JobState.done or (state.final and exit) else None,  # it writes 0 also where it knows none
        _time(start) if begun else None,
        _time(end) if begun else None,
        restarts,
    )


def _time(text: str) -> datetime | None:
    """A time in epoch seconds; None for the words that say that there is none."""
    return datetime.fromtimestamp(int(text), UTC) if text.isdigit() and int(text) else None


def parse_nodes(text: str) -> list[Nodes]:
    """Nodes by shape from sinfo asked for `_NODE`.

    >>> parse_nodes("batch*|4|8|2|4|8000|gpu:a100:2(S:0-1)|fast\\n")[0].shape
    NodeShape(cores=8, numa=2, gpus=2, gpu='nvidia', memory=8388608000)
    """
    found: dict[tuple[NodeShape, tuple[str, ...]], Nodes] = {}
    for line in text.splitlines():
        queue, count, cpus, sockets, cores, memory, devices, features = line.split("|", 7)
        gpus = re.findall(r"gpu:(?:([^:,(]+):)?(\d+)", devices)
        shape = NodeShape(
            cores=min(_whole(sockets) * _whole(cores), _whole(cpus)),
            numa=_whole(sockets),
            gpus=sum(int(number) for _, number in gpus),
            gpu=vendor(gpus[0][0]) if gpus else "",
            memory=_whole(memory) * 2**20,
        )
        has = tuple(feature for feature in features.split(",") if feature not in ("(null)", ""))
        known = found.get((shape, has)) or Nodes(shape, 0, (), has)
        queues = (*known.queues, queue.rstrip("*"))
        found[shape, has] = Nodes(shape, max(known.count, _whole(count)), queues, has)
    return list(found.values())


def vendor(model: str) -> str:
    """Who makes a GPU, by its name; empty when that does not tell.

    >>> vendor("a100"), vendor("mi250"), vendor("fake")
    ('nvidia', 'amd', '')
    """
    patterns = {
        "nvidia": r"nvidia|tesla|quadro|titan|[gr]tx|g?[abhlptv]\d",
        "amd": r"amd|instinct|mi\d",
        "intel": r"intel|pvc|max|ponte",
    }
    return next((name for name, pattern in patterns.items() if re.match(pattern, model.lower())), "")


def parse_queues(text: str) -> list[Queue]:
    """Partitions from sinfo, asked for `_QUEUE`.

    >>> queue, = parse_queues("debug*|up|2|2-00:30:00|1-2\\n")
    >>> queue.default, queue.limits
    (True, Limits(nodes=2, walltime=datetime.timedelta(days=2, seconds=1800)))
    """
    found: dict[str, Queue] = {}
    for line in text.splitlines():
        name, available, count, longest, sizes = line.split("|", 4)
        days, _, time = longest.rpartition("-")
        walltime = timedelta(days=int(days or 0), seconds=seconds(time)) if time[:1].isdigit() else timedelta()
        fewest, _, most = sizes.partition("-")
        least = int(fewest) if fewest.isdigit() and fewest != "1" else 0
        limits = Limits(nodes=int(most) if most.isdigit() else 0, fewest=least, walltime=walltime)
        plain = name.rstrip("*")
        before = found[plain].nodes if plain in found else 0  # one line for each state that its nodes are in
        found[plain] = Queue(plain, limits, before + _whole(count), name.endswith("*"), available == "up")
    return list(found.values())


def _whole(text: str) -> int:
    """A count as sinfo writes it: "64+" where nodes differ."""
    return int(text.rstrip("+"))


class Slurm:
    """The Slurm whose programs are on PATH."""

    def __init__(self, ask: Ask = ask) -> None:
        self._programs = Programs(ask, _UNREACHABLE, _HINTS)

    @classmethod
    def of(cls, site: Site, ask: Ask) -> Slurm:
        """The one of a site."""
        return cls(ask)

    def submit(self, job: Job) -> str:
        """See `Scheduler`."""
        said = self._programs.submit(job.name, "sbatch", "--parsable", text=script(job))
        return said.split()[-1].partition(";")[0]  # id;cluster, perhaps after words of the site's own

    def status(self, ids: Iterable[str]) -> Mapping[str, JobStatus]:
        """See `Scheduler`."""
        asked = list(dict.fromkeys(ids))
        found: dict[str, JobStatus] = {}
        for some in (asked[start : start + _MOST] for start in range(0, len(asked), _MOST)):
            query = ("squeue", "--noheader", "--array", "--states=all", f"--Format={_FIELDS}")
            # It complains only when it knows none of them.
            answer = self._programs.run(*query, f"--jobs={','.join(some)}", variables=_EPOCH, unless="invalid job id")
            rows = parse_queue(answer.out)
            if absent := [id for id in some if _folded(id, rows) is None]:
                rows.update(self._accounted(absent))
            found.update((id, self._hinted(_folded(id, rows) or MISSING)) for id in some)
        return found

    def _accounted(self, ids: Sequence[str]) -> dict[str, JobStatus]:
        """What the accounting knows of jobs that the controller does not know; without one, nothing."""
        query = ("sacct", "-X", "-n", "-P", f"--format={_ACCOUNTED}", f"--jobs={','.join(ids)}")
        try:
            return parse_accounting(self._programs.run(*query, variables=_EPOCH).out)
        except SchedulerUnreachable as error:
            return dict.fromkeys(ids, JobStatus(JobState.unknown, error.message))
        except SiteError:  # there is none
            return {}

    def _hinted(self, status: JobStatus) -> JobStatus:
        return msgspec.structs.replace(status, hint=self._programs.hint(status.reason)) if status.reason else status

    def cancel(self, ids: Iterable[str]) -> None:
        """See `Scheduler`."""
        if asked := list(ids):
            self._programs.run("scancel", "--quiet", *asked, unless="invalid job id|already completed")

    def nodes(self) -> Sequence[Nodes]:
        """See `Scheduler`."""
        return parse_nodes(self._programs.run("sinfo", "--noheader", "--exact", f"--format={_NODE}").out)

    def queues(self) -> Sequence[Queue]:
        """See `Scheduler`."""
        return parse_queues(self._programs.run("sinfo", "--noheader", f"--format={_QUEUE}").out)


def _folded(id: str, rows: Mapping[str, JobStatus]) -> JobStatus | None:
    """The status of a job; of an array, that of its element which is the least far. None when there is none."""
    if id in rows:
        return rows[id]
    elements = [status for key, status in rows.items() if key.startswith(f"{id}_")]
    return min(elements, key=lambda status: list(JobState).index(status.state), default=None)
