"""`heald run SCRIPT [ARGS]`: a Python script, with a session and a journal of its own around it."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from heald.cli.compat import serve
from heald.cli.screen import say, width


def script(
    file: Annotated[Path, typer.Argument(metavar="SCRIPT", help="The Python file to run.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="What it finds in sys.argv.")] = None,
    journal: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keeps the run; by default the script's name with .heald.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="Cores to use; by default all.")] = None,
    executor: Annotated[str, typer.Option(help="process or thread.")] = "process",
    site: Annotated[
        str, typer.Option(metavar="SITE", help="Run on nodes of this site (see heald site ls), not on this machine.")
    ] = "",
    nodes: Annotated[int, typer.Option(min=1, metavar="N", help="Nodes of each batch job at the site.")] = 1,
    walltime: Annotated[str, typer.Option(metavar="TIME", help="Of each batch job, as 30m or 1:30:00.")] = "",
    blocks: Annotated[int, typer.Option(min=1, metavar="N", help="Batch jobs at a time, at most.")] = 1,
    retries: Annotated[int, typer.Option(min=0, metavar="N", help="For tasks that name no number of their own.")] = 0,
    progress: Annotated[
        bool | None, typer.Option("--progress/--quiet", help="Show a progress bar, or nothing.")
    ] = None,
    compat: Annotated[bool, typer.Option("--compat", help="Serve `import parsl` with heald.")] = False,
) -> None:
    """Run a Python script with a session around it; its tasks are kept in a journal.

    Killed and run again, it goes on where it was. Ctrl-C once lets running tasks end; twice stops them.

    \b
    heald run script study.py    the same as heald run study.py
    heald run --workers 4 --retries 2 study.py --steps 1000
    heald run --site polaris --nodes 4 --walltime 1h study.py
    """
    from heald.flow.current import standard
    from heald.flow.session import Session

    if compat:
        serve("parsl")
    chosen = _at_site(site, nodes, walltime, blocks, workers) if site else _here(executor, workers)
    standard[:] = [chosen]
    folder = journal or file.with_suffix(".heald")
    session = Session([chosen], journal=folder, retries=retries, progress=progress)
    status = _within(session, file, arguments or [])
    if progress is not False:
        _summarise(folder)
    raise typer.Exit(status)


def _here(executor: str, workers: int | None) -> Any:
    """What runs tasks on this machine."""
    from heald.run.process import ProcessExecutor
    from heald.run.thread import ThreadExecutor

    makers: dict[str, Any] = {"process": ProcessExecutor, "thread": ThreadExecutor}
    if executor not in makers:
        raise typer.BadParameter("must be process or thread", param_hint="--executor")
    return makers[executor](workers) if workers is not None else makers[executor]()


def _at_site(site: str, nodes: int, walltime: str, blocks: int, workers: int | None) -> Any:
    """What runs them on nodes of a site. No batch job is asked for before the first task."""
    from heald.run.cluster.executor import ClusterExecutor

    return ClusterExecutor(site, nodes=nodes, walltime=walltime or 0, blocks=(0, 0, blocks), workers=workers)


def _within(session: Any, file: Path, arguments: list[str]) -> int:
    """Run the script inside the session, and let the session end as the script did."""
    session.start()
    status = 0
    try:
        status = _exit_status(file, arguments)
        session.close()
    except KeyboardInterrupt:
        status = 130
        try:
            typer.echo("\nheald: running tasks are let to end, others are not begun; Ctrl-C again stops them", err=True)
            session.cancel_waiting()
            session.close()
        except KeyboardInterrupt:
            session.close(cancel=True)
    except BaseException:
        session.close(cancel=True)
        raise
    return status


def _exit_status(file: Path, arguments: list[str]) -> int:
    sys.argv = [str(file), *arguments]
    sys.path[0] = str(file.parent.absolute())
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

    shown = lines(summary(Run(folder)), width())
    end = shown.index("") if "" in shown else len(shown)
    say("\n".join(["", *shown[:end], f"more: heald run show {folder}"]), error=True)
