"""The loop: gives jobs to a heald session as there is room, and deals with each as it ends."""

from __future__ import annotations

import bisect
import contextlib
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import heald
from heald.cli.parallel import halt
from heald.cli.parallel.end import End, ends_of
from heald.cli.parallel.job import jobs as run_jobs
from heald.cli.parallel.joblog import Entry, JobLog
from heald.cli.parallel.option import Options
from heald.cli.parallel.output import InOrder, Lines, show
from heald.cli.parallel.plan import Job, Plan, plan
from heald.cli.parallel.result import Results, results
from heald.cli.parallel.resume import failed, left, resumes
from heald.core.errors import UsageError
from heald.core.resources import seconds
from heald.run.command import CommandLine
from heald.run.disk import full

_STOPPED = 255
_SHOWN = 200  # signs of a command in a message
_AHEAD = 64  # jobs for each worker that wait for it where nothing forbids: short ones then follow without a pause
# Short jobs go to a worker together, as many as may last so many seconds; when they last longer than expected, those
# that it has not begun after so many come back.
_TOGETHER = 0.01
_WITHIN = 0.05
_MOST = 64
_ENOUGH = 3  # jobs that must have ended before their median says anything
_GRACE = 0.35  # seconds from the signal to stop to the kill


def run(options: Options) -> int:
    """Run what the options ask for, and give the exit status. Raises UsageError for what cannot be."""
    made = plan(_checked(options))
    if options.shellquote:
        for one in made.jobs:
            sys.stdout.buffer.write(os.fsencode(made.text(one) if options.command else _quoted(one)) + b"\n")
        return 0
    if options.retry_failed:
        made.jobs = failed(options)
    elif options.resume or options.resume_failed:
        made.jobs = left(made, made.jobs)
    if options.dry_run:
        _print_lines(made)
        return 0
    first = next(made.jobs, None)
    if first is None:
        if options.joblog:
            JobLog(options.joblog, resumed=resumes(options)).close()
        return 0
    return Loop(made, first).run()


def _checked(options: Options) -> Options:
    if (options.resume_failed or options.retry_failed) and not options.joblog:
        raise UsageError("--resume-failed and --retry-failed need the log of the first run", hint="--joblog FILE")
    if options.resume and not (options.joblog or options.results):
        raise UsageError("--resume needs the log or the results of the first run", hint="--joblog FILE, or --results")
    if options.tmpdir:
        print("heald run: --tmpdir is not needed: output is kept in heald's folder of runs", file=sys.stderr)
    return options


def _quoted(job: Job) -> str:
    from heald.cli.parallel.quote import quote

    return " ".join(map(quote, job.values))


def _print_lines(made: Plan) -> None:
    for one in made.jobs:
        one.slot = (one.sequence - 1) % made.width + 1
        line = os.fsencode(made.text(one)) + b"\n"
        sys.stdout.buffer.write(made.tag_of(one) + line)
    sys.stdout.buffer.flush()


_Start = tuple[Job, int, CommandLine]  # a job, its place in the order of starts, and what is to be run


class Loop:
    """Runs the jobs of a plan."""

    def __init__(self, made: Plan, first: Job) -> None:
        options = made.options
        self.plan = made
        self.options = options
        self.halt = halt.parse(options.halt)
        self.count = halt.Count(made.total)
        self.stopping = False
        self.fault = False
        self._noting = True  # until the disk refuses: those that are over after that are run again by --resume
        self._first = first
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._bundle: list[_Start] = []  # what goes to a worker together
        self._running: dict[Any, tuple[list[_Start], float]] = {}  # future: what it is of, and since when
        self._open = 0  # jobs in these two
        self._mean = 0.0  # seconds that jobs last, of late
        self._places = 0
        self._slots = list(range(1, made.width + 1))
        self._times: list[float] = []
        self._order = InOrder()
        self._wide = options.ungroup and not _sockets()
        lined = (options.line_buffer or options.ungroup) and not self._wide and not options.keep_order
        self._lines = Lines() if lined else None
        self._late: set[Any] = set()  # futures of jobs that took too long
        self._median = float(options.timeout[:-1]) / 100 if options.timeout.endswith("%") else 0.0
        careful = (
            self._median or options.timeout or options.delay or self._lines or self.halt.when != "never"
            or made.template.uses("slot") or (made.tag is not None and made.tag.uses("slot"))
        )  # fmt: skip
        self.careful = bool(careful)  # as many jobs are given out as can run, and each knows its slot
        self.log = JobLog(options.joblog, resumed=resumes(options)) if options.joblog else None
        self.results: Results | None = results(options.results, made.spelling) if options.results else None
        self._display: Any = None
        self._folder = tempfile.mkdtemp(prefix="heald-run-")
        self._variables = {"PARALLEL_PID": str(os.getpid())}
        self._command = self._task()

    def _task(self) -> Any:
        around: dict[str, Any] = {"name": "job"}
        if self.options.directory:
            around["directory"] = "auto" if self.options.directory == "..." else self.options.directory
        if self.options.timeout and not self._median:
            around["walltime"] = seconds(self.options.timeout)
        several: Any = run_jobs  # of which the value is a list
        return heald.command(**around)(several)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run them all, and give the exit status."""
        executor = heald.ProcessExecutor(workers=self.plan.width, grace=_GRACE)
        session = heald.Session([executor], memo=None, progress=False)
        self._session = session
        whole = False
        try:
            session.start(current=False)
            with self._signals():
                self._loop()
            whole = not self.stopping
        except KeyboardInterrupt:
            self.fault = True
        except BrokenPipeError:  # nobody reads any more
            self.fault = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            try:
                session.close(cancel=not whole)
            finally:  # somebody who cannot wait may press Ctrl-C again
                self._close()
        return _STOPPED if self.fault else halt.status(self.halt, self.count)

    def _loop(self) -> None:
        options = self.options
        if options.bar or options.eta or options.progress:
            from heald.cli.parallel.progress import Display

            self._display = Display(self.plan.total)
        following: Job | None = self._first
        last = float("-inf")
        while following is not None and not self.stopping:
            while options.delay and (left := last + options.delay - time.monotonic()) > 0:
                self._take(left)
            if self._open >= self.room:
                while self._open > (self.room // 2 if self.room > self.plan.width else self.room - 1):
                    self._take()
            if self.stopping:
                break
            last = time.monotonic()
            self._start(following)
            if self._bundle and self.plan.waits():
                self._send()
            following = next(self.plan.jobs, None)
        while self._open:
            self._take()
        self._order.rest()
        sys.stdout.buffer.flush()

    @property
    def room(self) -> int:
        """How many jobs may be given out: as many as can run where that matters, else more."""
        width = self.plan.width
        return width if self.careful else width * (1 + _AHEAD) if self._mean else 2 * width

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM: start no more jobs; the second one ends those that run, as Ctrl-C does."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        usual = signal.signal(signal.SIGTERM, self._on_term)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, usual)

    def _on_term(self, number: int, frame: object) -> None:
        if self.fault:
            raise KeyboardInterrupt
        self.fault = True
        print("heald run: no more jobs are started; a second SIGTERM stops those that run", file=sys.stderr)
        self._stop()
        self._ended.put(None)

    def _stop(self) -> None:
        self.stopping = True
        self._session.cancel_waiting()

    def _take(self, timeout: float | None = None) -> None:
        """Deal with what has ended, waiting for something if nothing has."""
        self._send()
        if self._median:
            limit = self._check_times()
            timeout = limit if timeout is None else min(timeout, limit or timeout)
        try:
            future = self._ended.get(timeout=timeout)
        except Empty:
            return
        while True:
            if future is not None:
                self._over(future)
            if self._ended.empty():
                break
            future = self._ended.get()
        sys.stdout.buffer.flush()

    def _check_times(self) -> float | None:
        """Stop what takes too long beside the others; seconds until somebody has to look again."""
        if len(self._times) < _ENOUGH:
            return None
        limit = self._median * self._times[len(self._times) // 2]
        now = time.time()
        for future, (_, started) in list(self._running.items()):
            if now - started >= limit and future.cancel():
                self._late.add(future)
        return max(0.01, limit - now + min((started for _, started in self._running.values()), default=now))

    # -- one job -----------------------------------------------------------------------------------------------------

    def _start(self, job: Job, place: int = 0) -> None:
        options = self.options
        job.tries += 1
        if self.careful and not job.slot:
            job.slot = self._slots.pop(0)
        stdin = stdout = stderr = ""
        if job.block is not None:
            stdin = self._write(job)
        if self._wide:
            stdout, stderr = (f"/proc/{os.getpid()}/fd/{stream.fileno()}" for stream in (sys.stdout, sys.stderr))
        elif self._lines is not None:
            stdout, stderr = self._lines.paths(job.slot, self.plan.tag_of(job))
        elif self._median:
            stdout, stderr = self._path(job, "out"), self._path(job, "err")
        variables = {"PARALLEL_SEQ": str(job.sequence)}
        if job.slot:
            variables["PARALLEL_JOBSLOT"] = str(job.slot)
        words = self.plan.words(job)
        if job.tries == 1:
            self._places += 1
            place = self._places
            if options.trace:
                print(self.plan.text(job), file=sys.stderr)
            if options.verbose and (self._wide or self._lines is not None):
                self._say(job)
        self._bundle.append((job, place, CommandLine(words, variables, stdin, stdout, stderr, check=False)))
        self._open += 1
        if self.careful or len(self._bundle) * self._mean >= _TOGETHER or len(self._bundle) >= _MOST or not self._mean:
            self._send()

    def _send(self) -> None:
        """Give out what is in the bundle."""
        bundle, self._bundle = self._bundle, []
        if bundle:
            folder = "" if self.careful else self._folder
            lines = [line for _, _, line in bundle]
            future = self._session.call(self._command, (lines, self._variables, _WITHIN, folder), {})
            self._running[future] = bundle, time.time()
            future.add_done_callback(self._ended.put)

    def _write(self, job: Job) -> str:
        path = self._path(job, "in")
        with open(path, "wb") as file:
            file.write(job.block or b"")
        if not self.options.cat:
            return path
        job.values = (path,)
        return ""

    def _path(self, job: Job, kind: str) -> str:
        return f"{self._folder}/{job.sequence}.{kind}"

    def _over(self, future: Any) -> None:
        bundle, started = self._running.pop(future)
        ends = ends_of(future, started, len(bundle))
        late = future in self._late
        self._late.discard(future)
        self._open -= len(ends)
        for (job, place, _), end in zip(bundle, ends, strict=False):
            self._mean = end.seconds if not self._mean else self._mean + 0.2 * (end.seconds - self._mean)
            if late:
                end.dropped = False
                end.stdout, end.stderr = Path(self._path(job, "out")), Path(self._path(job, "err"))
                end.message = f"it was stopped after {self.options.timeout} of the median time"
            self._job_over(job, place, end)
        for job, place, line in bundle[len(ends) :]:  # they have not been run
            if self.stopping:
                self._open -= 1
                self._job_over(job, place, End(started, 0.0, -1, signal.SIGTERM, dropped=True))
            else:
                self._bundle.append((job, place, line))
                self._send()

    def _job_over(self, job: Job, place: int, end: End) -> None:
        if end.code and not end.dropped and job.tries < self.options.retries and not self.stopping:
            self._remove(job, end)
            self._start(job, place)
            return
        received = self._lines.finish(job.slot) if self._lines is not None else _size(end.stdout)
        if job.slot:
            bisect.insort(self._slots, job.slot)
        if end.dropped or (self.stopping and self.halt.when == "now"):
            self._remove(job, end)
            self._order.add(place, lambda: None)
            return
        if self._median:
            bisect.insort(self._times, end.seconds)
        entry = Entry(
            job.sequence, end.started, end.seconds, job.sent, received, end.status, end.signal, self._text(job)
        )
        self._note(job, entry, end)
        if self.options.keep_order:
            self._order.add(place, lambda: self._print(job, end))
        else:
            self._print(job, end)
        self._counted(job, end)

    def _text(self, job: Job) -> str:
        needed = self.log is not None or self.results is not None
        return self.plan.text(job) if needed else ""

    def _note(self, job: Job, entry: Entry, end: End) -> None:
        """Write down that the job is over; where that cannot be, no more are started, and its output is printed."""
        if not self._noting:
            return
        try:
            self._check_room(end)
            if self.results is not None:
                self.results.keep(entry, job.values, end.stdout, end.stderr)
            if self.log is not None:
                self.log.write(entry)
        except OSError as raised:
            self.fault = True
            self._noting = False
            self.results = None
            print(
                f"heald run: job {job.sequence} cannot be written down: {raised}\n"
                "  hint: no more jobs are started; put that right, then start again with --resume",
                file=sys.stderr,
            )
            self._stop()

    def _check_room(self, end: End) -> None:
        """Raises OSError when what the job wrote may be cut short, the disk that it is kept on being full."""
        kept = not self._wide and self._lines is None
        if kept and (end.code or end.stdout or end.stderr) and (lack := full([self._session.logs])):
            raise OSError(f"{lack}, so its output may not be whole")

    def _say(self, job: Job) -> None:
        sys.stdout.buffer.write(self.plan.tag_of(job) + os.fsencode(self.plan.text(job)) + b"\n")

    def _print(self, job: Job, end: End) -> None:
        direct = self._wide or self._lines is not None
        if end.message:
            line = self.plan.text(job)
            line = line if len(line) <= _SHOWN else line[:_SHOWN] + "…"
            print(f"heald run: job {job.sequence}: {end.message}: {line}", file=sys.stderr)
        if not direct and self.results is None:
            if self.options.verbose:
                self._say(job)
            if end.stdout or end.stderr:
                tag = self.plan.tag_of(job)
                if self.options.files:
                    print(end.stdout or "", flush=True)
                else:
                    show(end.stdout, sys.stdout.buffer, tag)
                sys.stdout.buffer.flush()
                show(end.stderr, sys.stderr.buffer, tag)
                sys.stderr.buffer.flush()
        self._remove(job, end)

    def _remove(self, job: Job, end: End) -> None:
        if not (self._wide or self._lines is not None):
            for path in (end.stdout if not self.options.files else None, end.stderr):
                if path is not None:
                    path.unlink(missing_ok=True)
        if job.block is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(job, "in"))

    def _counted(self, job: Job, end: End) -> None:
        self.count.add(end.code)
        if self._display is not None:
            self._display.update(self.count.failed + self.count.succeeded, self.count.failed)
        if self.halt.when == "never":
            return
        counts = {"fail": bool(end.code), "success": not end.code, "done": True}[self.halt.why]
        if counts:
            print(f"heald run: job {job.sequence} ended with status {end.code}: {self.plan.text(job)}", file=sys.stderr)
        if counts and not self.stopping and halt.reached(self.halt, self.count):
            print(f"heald run: --halt {self.options.halt}: no more jobs are started", file=sys.stderr)
            self._stop()
            if self.halt.when == "now":
                for future in list(self._running):
                    future.cancel()

    def _close(self) -> None:
        for part in (self._display, self._lines, self.log, self.results):
            if part is not None:
                part.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0


def _sockets() -> bool:
    """Whether one of our own streams is a socket: jobs cannot open that by its path."""
    return any(stat.S_ISSOCK(os.fstat(stream.fileno()).st_mode) for stream in (sys.stdout, sys.stderr))
