"""Which jobs are still to be run, by what an earlier run has left: its log, or its results."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from heald.cli.parallel import joblog
from heald.cli.parallel.option import Options
from heald.cli.parallel.plan import Job, Plan
from heald.cli.parallel.result import results


def resumes(options: Options) -> bool:
    """Whether an earlier run is gone on with."""
    return options.resume or options.resume_failed or options.retry_failed


def failed(options: Options) -> Iterator[Job]:
    """The jobs that the log says have failed, with the command lines that stand there."""
    entries = joblog.read(options.joblog.removeprefix("+"))
    return iter([Job(one.sequence, command=one.command) for one in entries.values() if one.failed])


def left(made: Plan, jobs: Iterator[Job]) -> Iterator[Job]:
    """Those of `jobs` that are still to be run. Warns when a job was another command then."""
    options = made.options
    done = joblog.read(options.joblog.removeprefix("+")) if options.joblog else {}
    kept = results(options.results, made.spelling) if options.results and not options.joblog else None
    warned = False
    for one in jobs:
        entry = done.get(one.sequence)
        if entry is None:
            if kept is None or not kept.has(one.sequence, one.values):
                yield one
            continue
        if not warned and one.block is None and entry.command != made.text(one):
            warned = True
            print(f"heald run: job {one.sequence} in {options.joblog} is another command than now", file=sys.stderr)
        if options.resume_failed and entry.failed:
            yield one
