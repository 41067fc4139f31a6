"""`heald run`: runs something (see `cli.launch`), and shows the runs that there are and how each went."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from heald.cli.group import Group
from heald.cli.option import Json, Limit, RunArgument, Yes
from heald.cli.screen import confirmed, say, say_table, some, width
from heald.cli.script import script
from heald.cli.trace import trace

app = typer.Typer(
    cls=Group,
    help="Run a script, a command over inputs or a trace; look at runs.",
    no_args_is_help=True,
    epilog="""\b
heald run SCRIPT.py [ARGS]             options: heald run script --help
heald run 'COMMAND {}' ::: INPUTS      options: heald run -k --help
heald run --trace FILE                 options: heald run trace --help""",
)
app.command("script", context_settings={"allow_interspersed_args": False})(script)
app.command("trace")(trace)

_COLOURS = {"running": "blue", "detached": "blue", "killed": "yellow", "damaged": "red"}


@app.command("ls")
def ls(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also those that ended without a journal.")] = False,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """List runs: *.heald here, and what else runs on this machine.

    Of a session without a journal only the logs are kept: --all lists these too.

    \b
    heald run ls
    heald run ls --all --json
    """
    from heald.cli.moment import moment
    from heald.cli.table import Column, document
    from heald.cli.view import RunView, run_view
    from heald.core.errors import JournalError
    from heald.flow.run import ENDED, Run, runs

    found, views = [run for run in runs() if everything or run.recorded or run.state != ENDED], []
    for run in found[:limit] if json else some(found, limit):
        try:
            views.append(run_view(Run(run.path)))  # a Run remembers its tasks: one at a time is enough in memory
        except JournalError as error:
            views.append(RunView(run=run.path.name, state="damaged", command=error.message))
    if json:
        say(document(views))
        return
    today = datetime.now(UTC)
    columns = [
        Column("RUN", lambda view: view.run, flexible=True),
        Column("STATE", _state, colour=lambda text: _COLOURS.get(text, "")),
        Column("STARTED", lambda view: moment(view.started, today), right=True),
        Column("TASKS", lambda view: _count(view, *(view.counts or ())), right=True),
        Column("DONE", lambda view: _count(view, "done"), right=True),
        Column("FAILED", lambda view: _count(view, "failed"), right=True),
        Column("COMMAND", lambda view: view.command, flexible=True),
    ]
    say_table(columns, views)
    if not views:
        say('There are no runs here: a session keeps one as heald.Session(journal="run.heald").')


def _state(view: Any) -> str:
    return "detached" if view.supervisor else str(view.state)


def _count(view: Any, *states: str) -> str:
    return f"{sum(view.counts[state] for state in states):,}" if view.counts is not None else ""


@app.command("show")
def show(run: RunArgument = None, json: Json = False) -> None:
    """Show how a run goes or went: counts, time, cores used, failures, slowest tasks, where the logs are.

    \b
    heald run show              the newest
    heald run show run.heald
    """
    from heald.cli.summary import lines, summary
    from heald.cli.table import document
    from heald.flow.run import find_run

    looked = find_run(run)
    found = summary(looked)
    if json:
        say(document(found))
        return
    from heald.report.gantt import gantt_text

    say("\n".join(lines(found, width())))
    say(gantt_text(looked.history(), width() or 100))


@app.command("report")
def report(
    run: RunArgument = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The page; by default report.html in the run.")
    ] = None,
) -> None:
    """Write one HTML page of a run: summary, Gantt chart, graph, slowest tasks, failures with logs, utilisation.

    \b
    heald run report run.heald -o run.html
    """
    from heald.flow.run import find_run
    from heald.report.page import write_report

    looked = find_run(run)
    say(str(write_report(looked.history(), looked.path, output or looked.path / "report.html")))


@app.command("stop")
def stop(
    run: RunArgument = None,
    now: Annotated[bool, typer.Option("--now", help="Cancel the running tasks too.")] = False,
    json: Json = False,
) -> None:
    """End a run: running tasks are let to end, others are not begun; then its script is interrupted.

    Started again, the script goes on where it was. Only on the machine where the script runs.

    \b
    heald run stop                 the newest
    heald run stop study.heald --now
    """
    from heald.cli.table import document
    from heald.flow.run import find_run

    looked = find_run(run)
    running = looked.stop(now=now)
    if json:
        say(document(running))
        return
    many = f"{len(running):,} running task{'s' * (len(running) != 1)}"
    if not running or now:
        say(f"{looked.path} ends now" + f"; {many} cancelled" * bool(running))
    else:
        name = quote(str(looked.path))
        say(f"{looked.path} ends when {many} are over: heald attach {name} waits for that, --now cancels them")


@app.command("prune")
def prune(
    keep: Annotated[int, typer.Option(min=0, metavar="N", help="Leave the newest N.")] = 20,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove the oldest runs of sessions that were given no journal. *.heald folders are yours, and stay.

    \b
    heald run prune --keep 5    shows what would go, and asks
    """
    from heald.cli.table import document
    from heald.store import folder

    old = folder.prune(keep, pretend=True)
    if not json and old:
        say("\n".join(map(str, old)))
    removed = folder.prune(keep) if old and confirmed(f"Remove these {len(old)} runs?", yes) else []
    say(document([str(path) for path in removed]) if json else f"{len(removed)} runs removed")
