"""The fake PBS's commands: what each is asked, does and says. The texts and codes are those of OpenPBS 23.06.06."""

from __future__ import annotations

import copy
import getopt
import signal

from tests.testbed.fake.pbs import text
from tests.testbed.fake.pbs.job import ACTIVE, SERVER, Job
from tests.testbed.fake.pbs.server import Server
from tests.testbed.fake.pbs.submission import read, seconds
from tests.testbed.fake.service import Answer, Refused, Request

_NO_HISTORY = "PBS is not configured to maintain job history"
_FINISHED = "Job has finished, use -x or -H to obtain historical job information"

# Of the commands that do one thing to each of some jobs.
_OPTIONS = {"qdel": "W:x", "qhold": "h:", "qrls": "h:", "qrerun": "W:", "qsig": "s:", "qalter": "l:"}


class Commands:
    """Answers for all programs of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._next = 0

    async def answer(self, request: Request) -> Answer:
        """Do what a command was asked."""
        if request.arguments == ["--version"]:
            return Answer(f"pbs_version = {text.VERSION}\n")
        match request.program:
            case "qsub":
                return await self._qsub(request)
            case "qstat":
                return self._qstat(request)
            case "pbsnodes":
                return self._pbsnodes(request)
            case "pbsdsh":
                return await self._pbsdsh(request)
            case _:
                return self._for_each(request)

    async def _qsub(self, request: Request) -> Answer:
        asked = await read(request.arguments, request.folder, request.environment, request.text)
        for part in filter(None, asked.attributes.get("depend", "").split(",")):
            for id in part.split(":")[1:]:
                self._server.find("qsub", id)
        number, indices = self._next, asked.indices
        if indices is None:
            job = Job(f"{number}.{SERVER}", asked)
        else:
            job = Job(f"{number}[].{SERVER}", asked)
            job.members = [Job(f"{number}[{index}].{SERVER}", copy.copy(asked), index) for index in indices]
        self._next += 1
        self._server.add(job)
        return Answer("" if "z" in asked.options else f"{job.id}\n")

    def _qstat(self, request: Request) -> Answer:
        try:
            options, ids = getopt.gnu_getopt(request.arguments, "aBfF:HinQstTu:wx")
        except getopt.GetoptError as error:
            raise Refused(f"qstat: {error}", 2) from None
        given = dict(options)
        if "-Q" in given:
            return Answer(text.queues(self._server.every(), "-f" in given))
        old = bool({"-x", "-H"} & given.keys())
        if old and not self._server.knobs.history:
            raise Refused(f"qstat: {_NO_HISTORY}", 1)
        found, errors, status = self._select(ids, old)
        if "-t" in given:
            found = [each for job in found for each in (job, *job.members)]
        if "-f" not in given:
            out = text.table(found)
        elif given.get("-F") == "json":
            out = text.as_json(found)
        else:
            out = text.records(found)
        return Answer(out, errors, status)

    def _select(self, ids: list[str], old: bool) -> tuple[list[Job], str, int]:
        """The jobs of some ids, what to say of the others, and the status."""
        if not ids:
            return [job for job in self._server.jobs.values() if old or job.state != "F"], "", 0
        found, errors, status = [], "", 0
        for id in ids:
            try:
                job = self._server.find("qstat", id)
                if job.state == "F" and not old:
                    raise Refused(f"qstat: {job.id} {_FINISHED}", 35)
                found.append(job)
            except Refused as refused:
                errors, status = f"{errors}{refused}\n", refused.status
        return found, errors, status

    def _for_each(self, request: Request) -> Answer:
        options, ids = getopt.gnu_getopt(request.arguments, _OPTIONS[request.program])
        errors, status = "", 0
        for id in ids:
            try:
                self._do(request.program, dict(options), self._server.find(request.program, id))
            except Refused as refused:
                errors, status = f"{errors}{refused}\n", refused.status
        return Answer("", errors, status)

    def _do(self, program: str, options: dict[str, str], job: Job) -> None:
        server = self._server
        wrong = Refused(f"{program}: Request invalid for state of job {job.id}", 168)
        if job.state == "F":
            raise Refused(f"{program}: Job has finished {job.id}", 35)
        match program:
            case "qdel":
                if job.state == "E":
                    raise wrong
                server.delete(job)
            case "qhold":
                job.hold = "u"
                if job.state == "Q":
                    job.move("H", 20)
            case "qrls":
                job.hold = "n"
                if job.state == "H":
                    server.release(job)
            case "qrerun":
                if job.state not in ACTIVE:
                    raise wrong
                server.requeue(job)
            case "qsig":
                if job.state != "R":
                    raise wrong
                name = options.get("-s", "SIGTERM")
                number = int(name) if name.isdigit() else signal.Signals[f"SIG{name.removeprefix('SIG')}"]
                for session in job.sessions:
                    session.signal(number)
            case "qalter":
                name, _, value = options["-l"].partition("=")
                seconds(value)
                job.asked.resources[name] = value

    def _pbsnodes(self, request: Request) -> Answer:
        options, names = getopt.gnu_getopt(request.arguments, "aF:o:r:vSjl")
        given = dict(options)
        for flag in ("-o", "-r"):
            for node in self._server.nodes:
                if node.name == given.get(flag):
                    node.offline = flag == "-o"
                    self._server.schedule()
                    return Answer()
        if unknown := [name for name in names if name not in {node.name for node in self._server.nodes}]:
            return Answer("", "".join(f"Node: {name},  Error: Unknown node \n" for name in unknown), 1)
        nodes = [node for node in self._server.nodes if not names or node.name in names]
        return Answer(text.nodes(nodes, self._server.every(), given.get("-F") == "json"))

    async def _pbsdsh(self, request: Request) -> Answer:
        command = getopt.getopt(request.arguments, "osvu")[1]
        if "PBS_JOBID" not in request.environment:
            raise Refused("pbsdsh: PBS_JOBID not in environment")
        job = self._server.find("pbsdsh", request.environment["PBS_JOBID"])
        return Answer(status=await self._server.run_on_chunks(job, command, request.files))
