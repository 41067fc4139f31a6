"""The server: its queue, and the life of each job on the hosts. What the commands say about it is in command.py."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

from tests.testbed.fake.pbs import text
from tests.testbed.fake.pbs.job import ACTIVE, SERVER, Job, Node, find_room
from tests.testbed.fake.service import Knobs, Refused
from tests.testbed.fake.session import Session, is_on

CPUS, GPUS, MEMORY = 4, 4, 8 * 2**30  # of a node
_PATH = "/usr/local/bin:/usr/bin:/bin"
_WALLTIME, _LOST_NODE = -29, -20  # Exit_status


class Server:
    """All jobs, by id, and the nodes."""

    def __init__(self, testbed: Path, nodes: list[str], knobs: Knobs) -> None:
        self.jobs: dict[str, Job] = {}
        self.nodes = [Node(name, {"ncpus": CPUS, "ngpus": GPUS, "mem": MEMORY}) for name in nodes]
        self.knobs = knobs
        self._testbed = testbed
        self._folder = testbed / "pbs"
        self._lives: dict[str, asyncio.Task[None]] = {}  # of the jobs that run
        self._strays: list[Session] = []  # of jobs that were queued again while their node was lost
        self._timers: set[asyncio.Task[None]] = set()

    def every(self) -> Iterator[Job]:
        """All jobs, those of an array behind it."""
        for job in self.jobs.values():
            yield job
            yield from job.members

    def find(self, program: str, id: str) -> Job:
        """The job of an id, with the server's name or without."""
        full = id if "." in id else f"{id}.{SERVER}"
        for job in self.every():
            if job.id == full and (self.knobs.history or job.state != "F"):
                return job
        raise Refused(f"{program}: Unknown Job Id {full}", 153)

    def add(self, job: Job) -> None:
        """Take a job into the queue."""
        self.jobs[job.id] = job
        for each in job.members or [job]:
            if "h" in each.asked.options:
                each.hold = "u"
            self.release(each)
        self.schedule()

    def release(self, job: Job) -> None:
        """Queue a job that nothing holds; let it wait otherwise."""
        verdict = self._dependencies(job)
        if verdict is None:
            self._close(job, 92)  # what it depends on went the wrong way
        elif job.hold != "n":
            job.move("H", 20)
        elif not verdict:
            job.hold = "s"
            job.move("H", 22)
        else:
            job.move("Q", 10)
            job.eligible = time.time()
            self._after(self._look(self.knobs.start_delay))

    def schedule(self) -> None:
        """Start every job that may start and finds room."""
        for job in list(self.every()):
            if job.state == "H" and job.hold == "s":
                job.hold = "n"
                self.release(job)
            ready = job.state == "Q" and not job.members and job.eligible is not None
            if ready and time.time() - (job.eligible or 0) >= self.knobs.start_delay:
                room = find_room(job, self.nodes, [other for other in self.every() if other.state in ACTIVE])
                if isinstance(room, str):
                    job.comment = room
                else:
                    self._begin(job, room)
        for array in filter(lambda job: job.members, self.jobs.values()):
            self._fold(array)

    def delete(self, job: Job) -> None:
        """End a job for its owner."""
        for each in job.members or [job]:
            if each.id in self._lives:
                each.fate = each.fate or "deleted"
                self._after(self._end(each.sessions))
            elif each.state != "F":
                self._close(each, 91)
        self.schedule()

    def requeue(self, job: Job) -> None:
        """Take a running job back into the queue; its processes end."""
        self._after(self._end(job.sessions, 0.0))
        self._leave(job)

    def control(self, verb: str, words: list[str]) -> None:
        """What a test does to the server: lose JOB, stop NODE, start NODE, cpus COUNT, reset."""
        match verb:
            case "lose":
                job = self.find("control", words[0])
                if job.id in self._lives:
                    self._after(self._end(job.sessions, 0.0))
                    self._lives.pop(job.id).cancel()
                del self.jobs[job.id]
            case "stop" | "start":
                for node in self.nodes:
                    if node.name == words[0]:
                        self._set_mom(node, verb == "start")
            case "cpus":
                for node in self.nodes:
                    node.available["ncpus"] = int(words[0])
            case "reset":
                for node in self.nodes:
                    node.available["ncpus"] = CPUS
                    node.offline = False
                    self._set_mom(node, True)
        self.schedule()

    def _set_mom(self, node: Node, runs: bool) -> None:
        if node.mom != runs:
            node.mom, node.changed = runs, time.time()
        if runs:  # a daemon that starts again ends what it does not know
            self._after(self._end([session for session in self._strays if session.host == node.name], 0.0))
            self._strays = [session for session in self._strays if session.host != node.name]
        else:
            for job in self.every():
                if job.state == "R" and node.name in job.hosts:
                    self._after(self._give_up(job))

    def _begin(self, job: Job, room: list[tuple[str, dict[str, int]]]) -> None:
        job.places = room
        others = [other for other in self.every() if other.state in ACTIVE]
        job.slots = [sum(host in other.hosts for other in others) for host, _ in room]
        job.started, job.runs, job.fate = time.time(), job.runs + 1, ""
        job.comment = f"Job run at {time.strftime('%a %b %d at %H:%M')} on {text.exec_vnode(job)}"
        job.move("R", 42)
        self._lives[job.id] = asyncio.create_task(self._live(job))

    async def _live(self, job: Job) -> None:
        """From start to end of a job that has its nodes."""
        assert job.started is not None
        spool = self._folder / "spool"
        head = job.hosts[0]
        with (spool / f"{job.id}.OU").open("wb") as out, (spool / f"{job.id}.ER").open("wb") as err:
            files = (os.open(os.devnull, os.O_RDONLY), out.fileno(), err.fileno())
            join = job.asked.options.get("j", "n")
            if join != "n":
                files = (files[0], *((files[1],) * 2 if join == "oe" else (files[2],) * 2))
            try:
                session = await self._start(job, head, self._command(job), 0, files)
                job.sessions = [session]
                code = await self._wait(job, session)
                if job.fate == "walltime":
                    spent, limit = time.time() - job.started, job.asked.walltime or 0
                    err.write(b"=>> PBS: job killed: walltime %d exceeded limit %d\n" % (spent, limit))
            finally:
                os.close(files[0])
        if not all(map(is_on, job.hosts)):
            self._lives.pop(job.id)
            return  # nobody tells PBS: the job runs on for ever, as far as it knows
        await self._end(job.sessions, 0.0)
        job.move("E", 51)
        await asyncio.sleep(self.knobs.end_delay)
        job.status = {"walltime": _WALLTIME}.get(job.fate, code if code >= 0 else 256 - code)
        words = {"walltime": "exceeded resource walltime", "deleted": "terminated by root@n0"}
        job.comment += " and " + words.get(job.fate, "failed" if job.status else "finished")
        self._deliver(job)
        self._close(job, 91 if job.fate == "deleted" else 93 if job.status else 92)

    async def _wait(self, job: Job, session: Session) -> int:
        limit = job.asked.walltime
        try:
            slack = self.knobs.walltime_slack
            return await asyncio.wait_for(session.wait(), None if limit is None else limit + slack)
        except TimeoutError:
            job.fate = "walltime"
            await self._end(job.sessions)
            return await session.wait()

    async def run_on_chunks(self, job: Job, command: list[str], files: tuple[int, int, int]) -> int:
        """Run a command once for each chunk of a job, as pbsdsh does; the first status that is not 0."""
        sessions = [await self._start(job, host, command, rank, files) for rank, (host, _) in enumerate(job.places)]
        job.sessions += sessions
        return next(filter(None, await asyncio.gather(*(session.wait() for session in sessions))), 0)

    async def _start(self, job: Job, host: str, command: list[str], rank: int, files: tuple[int, int, int]) -> Session:
        environment = self._environment(job, rank)
        home = environment["HOME"]
        return await Session.start(self._testbed, host, command, folder=home, environment=environment, files=files)

    def _command(self, job: Job) -> list[str]:
        if job.asked.command:
            return job.asked.command
        file = self._folder / "spool" / f"{job.id}.SC"
        file.write_text(job.asked.script)
        return [job.asked.options.get("S", "/bin/bash"), str(file)]

    def _environment(self, job: Job, rank: int) -> dict[str, str]:
        nodefile = self._folder / "aux" / job.id
        chunks = zip(job.places, job.asked.chunks, strict=True)
        nodefile.write_text("".join(f"{host}\n" * int(chunk.get("mpiprocs", 1)) for (host, _), chunk in chunks))
        home = job.asked.environment.get("HOME", "/root")
        own = {
            "PBS_ENVIRONMENT": "PBS_BATCH",
            "PBS_JOBID": job.id,
            "PBS_JOBNAME": job.name,
            "PBS_NODEFILE": str(nodefile),
            "PBS_QUEUE": "workq",
            "PBS_TASKNUM": str(rank + 1),
            "PBS_NODENUM": str(job.hosts.index(job.places[rank][0])),
            "NCPUS": str(job.places[rank][1].get("ncpus", 1)),
        }
        if job.index is not None:
            own |= {"PBS_ARRAY_INDEX": str(job.index), "PBS_ARRAY_ID": f"{job.number}[].{SERVER}"}
        user = {"HOME": home, "USER": "root", "LOGNAME": "root", "SHELL": "/bin/bash"}
        path = {"PATH": f"{self._testbed / 'bin'}:{_PATH}"}
        return {**user, **path, **text.variables(job), **own}

    async def _end(self, sessions: list[Session], grace: float | None = None) -> None:
        grace = self.knobs.kill_delay if grace is None else grace
        await asyncio.gather(*(session.end(grace) for session in sessions))

    async def _give_up(self, job: Job) -> None:
        """Some time after a node of a job was lost, run the job elsewhere; its processes know nothing of it."""
        run = job.runs
        await asyncio.sleep(self.knobs.requeue_delay)
        if job.state != "R" or job.runs != run or all(node.mom for node in self.nodes if node.name in job.hosts):
            return
        self._strays += job.sessions
        if job.rerunable:
            self._leave(job)
        else:
            self._lives.pop(job.id).cancel()
            job.status = _LOST_NODE
            self._close(job, 93)
        self.schedule()

    def _leave(self, job: Job) -> None:
        self._lives.pop(job.id).cancel()
        job.sessions, job.places, job.slots, job.started = [], [], [], None
        self.release(job)
        self.schedule()

    def _close(self, job: Job, substate: int) -> None:
        job.ended = time.time()
        job.move("F", substate)
        self._lives.pop(job.id, None)
        for node in self.nodes:
            if node.name in job.hosts:
                node.used = job.ended
        asyncio.get_running_loop().call_soon(self.schedule)

    def _deliver(self, job: Job) -> None:
        """Bring the outputs to where the user wants them: only now, and for nobody else to read."""
        join = job.asked.options.get("j", "n")
        for stream, suffix in (("o", "OU"), ("e", "ER")):
            spooled = self._folder / "spool" / f"{job.id}.{suffix}"
            wanted = Path(text.output(job, stream))
            target = wanted / spooled.name if wanted.is_dir() else wanted
            if join != {"o": "eo", "e": "oe"}[stream] and target.parent.is_dir():
                shutil.copyfile(spooled, target)
                target.chmod(0o600)
            spooled.unlink()

    def _dependencies(self, job: Job) -> bool | None:
        """Whether all that a job waits for has happened; None if some of it never will."""
        happened = True
        for part in filter(None, job.asked.attributes.get("depend", "").split(",")):
            kind, *ids = part.split(":")
            for id in ids if kind.startswith("after") else ():
                other = self.find("qsub", id.partition("@")[0])
                if kind == "after":
                    happened &= other.started is not None
                elif other.state != "F":
                    happened = False
                elif (kind == "afterok" and other.status != 0) or (kind == "afternotok" and other.status == 0):
                    return None
        return happened

    def _fold(self, array: Job) -> None:
        """The state of an array, of those of its members."""
        states = {member.state for member in array.members}
        if states == {"F"} and array.state != "F":
            array.status = max((member.status or 0 for member in array.members), default=0)
            array.comment += " and finished"
            array.places = []
            array.ended = time.time()
            array.move("F", 92)
        elif states & {"R", "E", "F"} and array.state in "QH":
            array.started = time.time()
            array.comment = f"Job Array Began at {time.strftime('%a %b %d at %H:%M')}"
            array.move("B", 42)
        elif states == {"H"}:
            array.move("H", 20)

    async def _look(self, delay: float) -> None:
        await asyncio.sleep(delay)
        self.schedule()

    def _after(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)
