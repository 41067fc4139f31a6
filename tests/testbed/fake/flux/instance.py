"""Instances, one for the machine and one in each batch job, and the life of their jobs on the hosts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tests.testbed.fake.flux.job import Free, Job, find_room, new_number
from tests.testbed.fake.flux.submission import Submission
from tests.testbed.fake.service import Knobs
from tests.testbed.fake.session import Session, is_on

CORES, GPUS = 4, 4  # of a node
ROOT = "local:///run/flux/local"
_WATCH_SECONDS = 0.2
_MOST_SIGNALS = 128  # a shell's status for a signal is above


class Instance:
    """Brokers on some hosts, rank by rank, and the jobs on what these have."""

    def __init__(self, uri: str, resources: Free, enclosing: str = "") -> None:
        self.uri = uri
        self.enclosing = enclosing  # the id of the batch job that it is in
        self.resources = resources
        self.hosts = list(resources)
        self.jobs: dict[int, Job] = {}
        self.sessions: list[Session] = []  # of flux exec

    def free(self) -> Free:
        """What no job has, on the hosts that are on."""
        found = {host: has for host, has in self.resources.items() if is_on(host)}
        for share in (share for job in self.jobs.values() if job.state in ("RUN", "CLEANUP") for share in job.shares):
            if share.host in found:
                cores, gpus = found[share.host]
                found[share.host] = (cores - share.cores, gpus - share.gpus)
        return found


class Flux:
    """All instances of a testbed."""

    def __init__(self, testbed: Path, nodes: list[str], knobs: Knobs) -> None:
        node = (frozenset(range(CORES)), frozenset(range(GPUS)))
        self.root = Instance(ROOT, dict.fromkeys(nodes, node))
        self.instances = {ROOT: self.root}
        self.knobs = knobs
        self._testbed = testbed
        self._count = 0
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, instance: Instance, asked: Submission, files: tuple[int, int, int] | None = None) -> Job:
        """Take a job; with files these are its tasks' input and outputs."""
        self._count += 1
        job = Job(new_number(self._count), asked)
        instance.jobs[job.number] = job
        self.background(self._live(instance, job, files))
        return job

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something while others go on."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def until_over(self, job: Job) -> None:
        """Wait for a job's end."""
        async with self._changed:
            await self._changed.wait_for(lambda: job.state == "INACTIVE")

    async def fail(self, job: Job, kind: str, note: str) -> None:
        """End a job by an exception."""
        if job.state == "INACTIVE" or job.exception is not None:
            return
        job.exception = (kind, note)
        await self._notify()
        await asyncio.gather(*(session.end(self.knobs.kill_delay) for session in job.sessions))

    async def run_on_ranks(
        self, instance: Instance, hosts: list[str], command: list[str], folder: str, environment: dict[str, str],
        files: tuple[int, int, int], gone: asyncio.Event,
    ) -> int:  # fmt: skip
        """Run a command on some hosts of an instance, as flux exec does; the highest status."""
        given = {**environment, "FLUX_URI": instance.uri}
        sessions = [await self._start(host, command, folder, given, files) for host in hosts]
        instance.sessions += sessions
        watch = asyncio.create_task(_end_when(gone, sessions, self.knobs.kill_delay))
        codes = await asyncio.gather(*(session.wait() for session in sessions))
        watch.cancel()
        return max(_status(code) for code in codes)

    async def watch(self) -> None:
        """Notice hosts that went off, and fail the jobs on them."""
        while True:
            for instance in list(self.instances.values()):
                for job in list(instance.jobs.values()):
                    off = [host for host in job.hosts if job.state == "RUN" and not is_on(host)]
                    for host in off[:1]:
                        rank = instance.hosts.index(host)
                        self.background(self.fail(job, "exec", f"node failure on {host} (rank {rank})"))
            await self._notify()  # hosts that came back have room
            await asyncio.sleep(_WATCH_SECONDS)

    def control(self, verb: str, words: list[str]) -> None:
        """Nothing but the knobs can be asked for."""
        assert verb == "reset", words

    async def _live(self, instance: Instance, job: Job, files: tuple[int, int, int] | None) -> None:
        asked = job.asked
        if find_room(asked, instance.resources, instance.resources) is None:
            job.exception = ("alloc", "unsatisfiable request")
        else:
            await asyncio.sleep(self.knobs.start_delay)
            async with self._changed:
                await self._changed.wait_for(lambda: job.exception is not None or self._place(instance, job))
        if job.exception is None:
            try:
                job.status = await self._run(instance, job, files)
            except FileNotFoundError as error:
                job.status, job.exception = 127, ("exec", f"task 0: start failed: {asked.command[0]}: {error.strerror}")
            job.state, job.cleaned = "CLEANUP", time.time()
            await asyncio.sleep(self.knobs.end_delay)
        kind = job.exception[0] if job.exception else ""
        failed = "FAILED" if kind or job.status else "COMPLETED"
        job.result = {"cancel": "CANCELED", "timeout": "TIMEOUT"}.get(kind, failed)
        job.state, job.ended = "INACTIVE", time.time()
        await self._notify()

    def _place(self, instance: Instance, job: Job) -> bool:
        shares = find_room(job.asked, instance.resources, instance.free())
        if shares is None:
            return False
        job.shares, job.state, job.started = shares, "RUN", time.time()
        return True

    async def _run(self, instance: Instance, job: Job, files: tuple[int, int, int] | None) -> int:
        """Run the tasks, or the batch script; the highest status."""
        opened: list[int] = []
        if files is None:
            opened = self._open(job)
            files = (opened[0], opened[1], opened[2])
        try:
            if job.asked.kind == "batch":
                await self._start_batch(instance, job, files)
            else:
                await self._start_tasks(instance, job, files)
            return await self._wait(job)
        finally:
            for file in opened:
                os.close(file)
            if nested := self.instances.pop(_uri(job), None):
                left = [*nested.sessions, *(session for inner in nested.jobs.values() for session in inner.sessions)]
                await asyncio.gather(*(session.end(0.0) for session in left))

    async def _wait(self, job: Job) -> int:
        waiting = asyncio.gather(*(session.wait() for session in job.sessions))
        try:
            codes = await asyncio.wait_for(asyncio.shield(waiting), job.asked.limit or None)
        except TimeoutError:
            await asyncio.sleep(self.knobs.walltime_slack)
            await self.fail(job, "timeout", "resource allocation expired")
            codes = await waiting
        for session in job.sessions:
            session.signal(signal.SIGKILL)  # what a task left behind
        return max(_status(code) for code in codes)

    async def _start_batch(self, instance: Instance, job: Job, files: tuple[int, int, int]) -> None:
        asked, first = job.asked, job.shares[0]
        uri = _uri(job)
        self.instances[uri] = Instance(uri, {share.host: (share.cores, share.gpus) for share in job.shares}, job.id)
        script = self._testbed / "flux" / "spool" / f"{job.number}.script"
        script.write_text(asked.script)
        script.chmod(0o755)
        own = {"FLUX_URI": uri, "FLUX_ENCLOSING_ID": job.id, **_gpus(sorted(first.gpus))}
        environment = {**_without_job(asked.environment), **own}
        command = [str(script), *asked.command[1:]]
        job.sessions.append(await self._start(first.host, command, asked.folder, environment, files))

    async def _start_tasks(self, instance: Instance, job: Job, files: tuple[int, int, int]) -> None:
        asked, rank = job.asked, 0
        for share in job.shares:
            for local in range(share.slots):
                own = {
                    "FLUX_JOB_ID": job.id,
                    "FLUX_JOB_SIZE": str(asked.slots),
                    "FLUX_JOB_NNODES": str(len(job.shares)),
                    "FLUX_TASK_RANK": str(rank),
                    "FLUX_TASK_LOCAL_ID": str(local),
                    "FLUX_URI": instance.uri,
                    **_gpus(sorted(share.gpus)[local * asked.gpus : (local + 1) * asked.gpus]),
                }
                environment = {**_without_job(asked.environment), **own}
                job.sessions.append(await self._start(share.host, asked.command, asked.folder, environment, files))
                rank += 1

    async def _start(
        self, host: str, command: list[str], folder: str, environment: dict[str, str], files: tuple[int, int, int]
    ) -> Session:
        return await Session.start(self._testbed, host, command, folder=folder, environment=environment, files=files)

    def _open(self, job: Job) -> list[int]:
        """The files of a job in the background: where the user wants them, or where flux job attach finds them."""
        asked = job.asked
        default = f"flux-{job.id}.out" if asked.kind == "batch" else str(self.stored(job))
        names = [name.replace("{{id}}", job.id) or default for name in (asked.output, asked.error)]
        paths = [Path(asked.folder, name) for name in names]
        outputs = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for path in paths]
        return [os.open(os.devnull, os.O_RDONLY), *outputs]

    def stored(self, job: Job) -> Path:
        """What a job printed that named no file."""
        return self._testbed / "flux" / "spool" / f"{job.number}.out"

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def _end_when(gone: asyncio.Event, sessions: list[Session], grace: float) -> None:
    await gone.wait()
    await asyncio.gather(*(session.end(grace) for session in sessions))


def _uri(job: Job) -> str:
    return f"local:///tmp/flux-{job.number}/local-0"


def _gpus(numbers: list[int]) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, numbers)) if numbers else "-1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _without_job(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a submission without what tells of the job that it was made in."""
    dropped = ("FLUX_JOB_", "FLUX_TASK_", "PMI_", "SLURM_")
    return {name: value for name, value in environment.items() if not name.startswith(dropped)}


def _status(code: int) -> int:
    return code if code >= 0 else _MOST_SIGNALS - code
