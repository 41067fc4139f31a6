"""The fake Flux's commands: what each is asked, does and says."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

from tests.testbed.fake.flux import text
from tests.testbed.fake.flux.instance import Flux, Instance
from tests.testbed.fake.flux.job import Job, from_f58
from tests.testbed.fake.flux.submission import Submission, read
from tests.testbed.fake.service import Answer, Refused, Request

VERSION = "0.88.0"


class Commands:
    """Answers for `flux` and its subcommands."""

    def __init__(self, flux: Flux) -> None:
        self._flux = flux

    async def answer(self, request: Request) -> Answer:
        """Do what `flux` was asked."""
        verb, *words = request.arguments or ["help"]
        instance = self._instance(request)
        match verb:
            case "submit" | "batch" | "run":
                return await self._submit(verb, words, instance, request)
            case "exec":
                return await self._exec(words, instance, request)
            case "jobs":
                return self._jobs(words, instance)
            case "cancel":
                return await self._cancel(words, instance)
            case "job" if words[:1] == ["attach"]:
                return await self._attach(words[1:], instance)
            case "resource" if words[:1] == ["list"]:
                return self._resources(words[1:], instance)
            case "queue" if words[:1] == ["list"]:
                return Answer("\n")  # one queue, without a name
            case "getattr":
                return self._attribute(words[0], instance)
            case "version" | "--version":
                return Answer(f"commands:    		{VERSION}\n")
        raise Refused(f"flux: `{verb}' is not a flux command.  See 'flux --help'")

    def _instance(self, request: Request) -> Instance:
        uri = request.environment.get("FLUX_URI", self._flux.root.uri)
        if uri not in self._flux.instances:
            path = uri.removeprefix("local://")
            verb = request.arguments[0] if request.arguments else "help"
            raise Refused(f"flux-{verb}: ERROR: Unable to connect to Flux: broker socket {path} was not found")
        return self._flux.instances[uri]

    async def _submit(self, verb: str, words: list[str], instance: Instance, request: Request) -> Answer:
        asked = read(verb, words, "", request.folder, request.environment) if verb != "batch" else None
        if asked is None:
            asked = await self._batch(words, request)
        job = self._flux.add(instance, asked, request.files if verb == "run" else None)
        if verb != "run":
            return Answer(f"{job.id}\n")
        await self._flux.until_over(job)
        kind, note = job.exception or ("", "")
        told = f"{job.ended - job.submitted:.3f}s: job.exception type={kind} severity=0 {note}\n" if kind else ""
        return Answer("", told, job.status or (1 if kind else 0))

    async def _batch(self, words: list[str], request: Request) -> Submission:
        """A batch script comes by its name or as input; its own options count less than the words."""
        wrapped = "--wrap" in words
        words = [word for word in words if word != "--wrap"]
        named = read("batch", ["--nslots=1", *words], "", request.folder, request.environment).command
        if wrapped:
            script = f"#!/bin/sh\n{' '.join(named)}\n" if named else f"#!/bin/sh\n{await request.text()}"
        else:
            script = Path(request.folder, named[0]).read_text() if named else await request.text()
        if not script.startswith("#!"):
            raise Refused("flux-batch: ERROR: stdin does not appear to be a script, or failed to encode as utf-8")
        return read("batch", words, script, request.folder, request.environment)

    async def _exec(self, words: list[str], instance: Instance, request: Request) -> Answer:
        parser = argparse.ArgumentParser(prog="flux-exec")
        parser.add_argument("-r", "--rank", default="all")
        parser.add_argument("-d", "--dir", default=request.folder)
        parser.add_argument("-n", "--noinput", action="store_true")
        parser.add_argument("command", nargs=argparse.REMAINDER)
        given = parser.parse_args(words)
        hosts = instance.hosts if given.rank == "all" else [instance.hosts[rank] for rank in _numbers(given.rank)]
        files, gone = request.files, request.gone
        status = await self._flux.run_on_ranks(
            instance, hosts, given.command, given.dir, request.environment, files, gone
        )
        return Answer(status=status)

    def _jobs(self, words: list[str], instance: Instance) -> Answer:
        parser = argparse.ArgumentParser(prog="flux-jobs")
        parser.add_argument("-a", action="store_true")
        parser.add_argument("-A", action="store_true")
        parser.add_argument("-n", "--no-header", "--suppress-header", action="store_true")
        parser.add_argument("-o", "--format", default=text.JOBS)
        parser.add_argument("-f", "--filter", default="pending,running")
        parser.add_argument("-c", "--count", type=int, default=1000)
        parser.add_argument("ids", nargs="*")
        given = parser.parse_args(words)
        found, errors = [], ""
        for id in given.ids:
            job = self._find(id, instance)
            if job is None:
                errors += f"JobID {id} unknown\n"
            else:
                found.append(job)
        if not given.ids:
            shown = {"pending", "running", "inactive"} if given.a or given.A else set(given.filter.split(","))
            found = [job for job in instance.jobs.values() if shown & _groups(job)]
        if not self._flux.knobs.history:
            found = [job for job in found if job.state != "INACTIVE"]
        rows = [text.job(job, time.time()) for job in reversed(found[-given.count :])]
        return Answer(text.table(given.format, rows, not given.no_header), errors)

    async def _cancel(self, words: list[str], instance: Instance) -> Answer:
        parser = argparse.ArgumentParser(prog="flux-cancel")
        parser.add_argument("--all", action="store_true")
        parser.add_argument("-m", "--message", default="")
        parser.add_argument("-q", "--quiet", action="store_true")
        parser.add_argument("ids", nargs="*")
        given = parser.parse_args(words)
        if given.all:
            doomed = [job for job in instance.jobs.values() if job.state != "INACTIVE"]
            told = f"Canceled {len(doomed)} job{'s' * (len(doomed) != 1)} (0 errors)" if doomed else "Matched 0 jobs"
            for job in doomed:
                self._end(job, given.message)
            return Answer("", "" if given.quiet and not doomed else f"flux-cancel: {told}\n")
        errors = ""
        for id in given.ids:
            found = self._find(id, instance)
            if found is None:
                errors += f"flux-cancel: ERROR: {id}: unknown job id\n"
            elif found.state == "INACTIVE":
                errors += f"flux-cancel: ERROR: {found.id}: job is inactive\n"
            else:
                self._end(found, given.message)
        return Answer("", errors, 1 if errors else 0)

    def _end(self, job: Job, note: str) -> None:
        self._flux.background(self._flux.fail(job, "cancel", note))

    async def _attach(self, words: list[str], instance: Instance) -> Answer:
        job = self._find(words[-1], instance)
        if job is None:
            raise Refused(f"flux-job: {words[-1]}: No such file or directory")
        await self._flux.until_over(job)
        stored = self._flux.stored(job)
        return Answer(stored.read_text() if stored.exists() else "", "", job.status or 0)

    def _resources(self, words: list[str], instance: Instance) -> Answer:
        parser = argparse.ArgumentParser(prog="flux-resource")
        parser.add_argument("-n", "--no-header", action="store_true")
        parser.add_argument("-o", "--format", default=text.RESOURCES)
        parser.add_argument("-s", "--states", default="free,allocated,down")
        given = parser.parse_args(words)
        rows = text.resources(instance, given.states.split(","), "{state" in given.format)
        return Answer(text.table(given.format, rows, not given.no_header))

    def _attribute(self, name: str, instance: Instance) -> Answer:
        known = {"hostlist": text.hostlist(instance.hosts), "size": str(len(instance.hosts)), "rank": "0"}
        known |= {"jobid": instance.enclosing} if instance.enclosing else {}
        if name not in known:
            raise Refused(f"flux-getattr: {name}: No such file or directory")
        return Answer(f"{known[name]}\n")

    def _find(self, id: str, instance: Instance) -> Job | None:
        try:
            return instance.jobs.get(from_f58(id))
        except ValueError:
            raise Refused(f"flux: error: argument JOBID: invalid JobID value: '{id}'", 2) from None


def _groups(job: Job) -> set[str]:
    status = text.job(job, 0.0)["status"]
    return {status.lower(), "inactive" if job.state == "INACTIVE" else "active"}


def _numbers(text: str) -> list[int]:
    """Of "0,2-3"."""
    found: list[int] = []
    for part in re.sub(r"[\[\]]", "", text).split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
