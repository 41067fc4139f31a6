"""`heald run SCRIPT [ARGS]`: a Python script, with a session and a journal of its own around it."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from heald.cli.compat import serve
from heald.cli.screen import say, width


def script(
    file: Annotated[
        Path, typer.Argument(metavar="SCRIPT", exists=True, dir_okay=False, help="The Python file to run.")
    ],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="What it finds in sys.argv.")] = None,
    journal: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keeps the run; by default the script's name with .heald.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="Cores to use; by default all.")] = None,
    executor: Annotated[str, typer.Option(help="process or thread.")] = "process",
    site: Annotated[
        str, typer.Option(metavar="SITE", help="Run on nodes of this site (see heald site ls), not on this machine.")
    ] = "",
    nodes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Nodes of each batch job; by default 1.")
    ] = None,
    walltime: Annotated[str, typer.Option(metavar="TIME", help="Of each batch job, as 30m or 1:30:00.")] = "",
    blocks: Annotated[int | None, typer.Option(min=1, metavar="N", help="Batch jobs at a time; by default 1.")] = None,
    account: Annotated[str, typer.Option(metavar="NAME", help="To be charged, where it is not the site's usual.")] = "",
    queue: Annotated[str, typer.Option(metavar="NAME", help="Or partition, where it is not the site's usual.")] = "",
    retries: Annotated[int, typer.Option(min=0, metavar="N", help="For tasks that name no number of their own.")] = 0,
    progress: Annotated[
        bool | None, typer.Option("--progress/--quiet", help="Show a progress bar, or nothing.")
    ] = None,
    compat: Annotated[bool, typer.Option("--compat", help="Serve `import parsl` with heald.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Let it run without this terminal, and come back; see heald attach.")
    ] = False,
) -> None:
    """Run a Python script with a session around it; its tasks are kept in a journal.

    Killed and run again, it goes on where it was. Ctrl-C once lets running tasks end; twice stops them, as SIGTERM
    does. With --detach it outlives this terminal, and is started again when something kills it; what it prints is in
    the run's folder.

    \b
    heald run script study.py    the same as heald run study.py
    heald run --workers 4 --retries 2 study.py --steps 1000
    heald run --site polaris --nodes 4 --walltime 1h study.py
    heald run --detach study.py    then: heald attach study.heald
    """
    from heald.flow.current import standard
    from heald.flow.session import Session

    folder = journal or file.with_suffix(".heald")
    asked: dict[str, Any] = {"nodes": nodes, "walltime": walltime, "blocks": blocks, "account": account, "queue": queue}
    asked = {name: value for name, value in asked.items() if value}
    chosen = _at_site(site, executor, workers, **asked) if site else _here(executor, workers, asked)
    if detach:
        from heald.cli.detach import detached

        raise typer.Exit(detached(folder))
    if compat:
        serve("parsl")
    standard[:] = [chosen]
    session = Session([chosen], journal=folder, retries=retries, progress=progress)
    status, terminated = 0, False
    try:
        status = _within(session, file, arguments or [])
    except _Terminated:
        terminated = True
    if progress is not False:
        _summarise(folder)
    if terminated:
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGTERM)
    raise typer.Exit(status)


def _here(executor: str, workers: int | None, asked: Mapping[str, Any]) -> Any:
    """What runs tasks on this machine. Raises BadParameter when something was asked of a site."""
    from heald.run.process import ProcessExecutor
    from heald.run.thread import ThreadExecutor

    makers: dict[str, Any] = {"process": ProcessExecutor, "thread": ThreadExecutor}
    if executor not in makers:
        raise typer.BadParameter("must be process or thread", param_hint="--executor")
    if asked:
        raise typer.BadParameter("it is for batch jobs: say where, with --site", param_hint=f"--{next(iter(asked))}")
    return makers[executor](workers) if workers is not None else makers[executor]()


def _at_site(site: str, executor: str, workers: int | None, *, blocks: int = 1, **asked: Any) -> Any:
    """What runs them on nodes of a site. No batch job is asked for before the first task."""
    from heald.run.cluster.executor import ClusterExecutor

    if executor != "process":
        raise typer.BadParameter("nodes run tasks in processes", param_hint="--executor")
    return ClusterExecutor(site, blocks=(0, 0, blocks), workers=workers, **asked)


class _Terminated(BaseException):
    """Somebody wants this process to end."""


def _on_term(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise _Terminated


def _within(session: Any, file: Path, arguments: list[str]) -> int:
    """Run the script inside the session, and let the session end as the script did."""
    # Not SIGHUP: a terminal that is lost is nobody's wish, and what runs on nodes waits for the next start.
    signal.signal(signal.SIGTERM, _on_term)
    # As Python would have it; before the session starts, since its workers have the same.
    sys.argv = [str(file), *arguments]
    sys.path[0] = str(file.parent.absolute())
    session.start()
    status = 0
    try:
        status = _exit_status(file)
        session.close()
    except _Terminated:
        session.close(cancel=True)
        raise
    except KeyboardInterrupt:
        status = 130
        try:
            typer.echo("\nheald: running tasks are let to end, others are not begun; Ctrl-C again stops them", err=True)
            session.cancel_waiting()
            session.close()
        except KeyboardInterrupt:
            session.close(cancel=True)
    except BaseException as raised:
        session.close(cancel=True)
        if not _told(raised, file):
            raise
        status = 1
    return status


def _told(raised: BaseException, file: Path) -> bool:
    """Print what the script raised as Python would, from its own line on; False when it is not the script's doing."""
    trace = raised.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != str(file):
        trace = trace.tb_next
    if trace is None and not isinstance(raised, SyntaxError):
        return False
    traceback.print_exception(raised.with_traceback(trace))
    return True


def _exit_status(file: Path) -> int:
    try:
        runpy.run_path(str(file), run_name="__main__")
    except SystemExit as left:
        if isinstance(left.code, str):
            typer.echo(left.code, err=True)
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    return 0


def _summarise(folder: str | os.PathLike[str]) -> None:
    from heald.cli.summary import lines, summary
    from heald.flow.run import Run

    found = summary(Run(folder))
    if not any((found.counts or {}).values()):  # it failed before its first task, or has none
        return
    shown = lines(found, width())
    end = shown.index("") if "" in shown else len(shown)
    say("\n".join(["", *shown[:end], f"more: heald run show {quote(str(folder))}"]), error=True)
