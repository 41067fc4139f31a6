"""This machine without a scheduler: a job is a process here, at once. For laptops, tests, and inside a batch job.

Only who submitted a job can ask for it and end it; a job whose submitter was killed runs on.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count

import msgspec

from heald.core.errors import SubmitFailed
from heald.site import node
from heald.site.command import Ask
from heald.site.profile import Site
from heald.site.scheduler import MISSING, Job, JobState, JobStatus, Nodes, Queue, script

_GRACE = 5  # seconds between SIGTERM and SIGKILL
_LATE = (124, 137, -9)  # what `timeout` says of a walltime: the others, when SIGTERM was not enough


class Running(msgspec.Struct):
    """A job that was started. `cancelled`: it was asked to end. `ended`: how, once that is known."""

    process: subprocess.Popen[bytes]
    hosts: tuple[str, ...]
    started: datetime
    ends: datetime | None
    cancelled: bool = False
    ended: JobStatus | None = None


class Local:
    """Runs jobs as processes of this machine, which stands in for as many nodes as a job has; or on `hosts`."""

    def __init__(self, hosts: Sequence[str] = ()) -> None:
        self.hosts = tuple(hosts)
        self._jobs: dict[str, Running] = {}
        self._count = count(1)
        self._lock = threading.Lock()

    @classmethod
    def of(cls, site: Site, ask: Ask) -> Local:
        """The one of a site. With a launcher that reaches others, its hosts are those of the batch job around."""
        return cls(node.grant().hosts if site.launcher not in ("", "fork") else ())

    def submit(self, job: Job) -> str:
        """See `Scheduler`."""
        with self._lock:
            hosts = self._choose(job)
            process = self._start(job, hosts)
            started = datetime.now(UTC)
            id = f"{process.pid}.{next(self._count)}"
            self._jobs[id] = Running(process, hosts, started, started + job.walltime if job.walltime else None)
        return id

    def status(self, ids: Iterable[str]) -> Mapping[str, JobStatus]:
        """See `Scheduler`."""
        return {id: self._status(self._jobs[id]) if id in self._jobs else MISSING for id in ids}

    def cancel(self, ids: Iterable[str]) -> None:
        """See `Scheduler`. A job has five seconds to end; then it is killed."""
        asked = [running for id in ids if (running := self._jobs.get(id)) is not None]
        for running in asked:
            if running.process.poll() is None:
                running.cancelled = True
                running.process.terminate()
        for running in asked:
            running.process.wait()

    def nodes(self) -> Sequence[Nodes]:
        """See `Scheduler`."""
        return [Nodes(node.machine().shape, 1)]

    def queues(self) -> Sequence[Queue]:
        """See `Scheduler`: there is none."""
        return []

    # What `ssh` does otherwise

    def _choose(self, job: Job) -> tuple[str, ...]:
        """The hosts that the job gets: of those that are given, ones that no other job of ours has."""
        if not self.hosts:
            return (socket.gethostname(),) * job.nodes
        taken = {host for run in self._jobs.values() if run.process.poll() is None for host in run.hosts}
        free = [host for host in self.hosts if host not in taken]
        if len(free) < job.nodes:
            raise SubmitFailed(f"the job {job.name} needs {job.nodes} hosts: {len(free)} of {len(self.hosts)} are free")
        return tuple(free[: job.nodes])

    def _argv(self, job: Job, hosts: tuple[str, ...]) -> list[str]:
        """What is started here."""
        return limited(job, hosts)

    def _outcome(self, status: int) -> tuple[JobState, str]:
        """What an exit status of what was started here means, and why."""
        return (JobState.done if status == 0 else JobState.failed), ""

    def _start(self, job: Job, hosts: tuple[str, ...]) -> subprocess.Popen[bytes]:
        try:
            with open(job.stdout or os.devnull, "ab") as out, open(job.stderr or job.stdout or os.devnull, "ab") as err:
                return subprocess.Popen(
                    self._argv(job, hosts), stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
                )
        except OSError as error:
            raise SubmitFailed(f"cannot start the job {job.name}: {error}") from error

    def _status(self, running: Running) -> JobStatus:
        with self._lock:
            exit = running.process.poll()
            if exit is None:
                state = JobState.ending if running.cancelled else JobState.running
                return JobStatus(state, hosts=running.hosts, started=running.started, ends=running.ends)
            if running.ended is None:
                running.ended = self._end(running, exit)
            return running.ended

    def _end(self, running: Running, exit: int) -> JobStatus:
        """How a job ended, which has just been noticed."""
        now = datetime.now(UTC)
        late = running.ends is not None and now >= running.ends
        state, reason = self._outcome(exit)
        if running.cancelled:
            state = JobState.cancelled
        elif late and exit in _LATE:
            state = JobState.timeout
        exit = 128 - exit if exit > 128 else exit  # as of a shell: 143 is SIGTERM
        return JobStatus(state, reason, "", running.hosts, exit, running.started, running.ends if late else now)


def limited(job: Job, hosts: tuple[str, ...]) -> list[str]:
    """The words that run a job's script within its walltime, and end it as a whole when they get SIGTERM."""
    given = msgspec.structs.replace(job, variables={**job.variables, node.HOSTS: " ".join(hosts)})
    seconds = f"{job.walltime.total_seconds():g}"  # 0: no limit
    return ["timeout", f"--kill-after={_GRACE}", seconds, "/bin/bash", "-c", script(given)]
