"""`heald run --trace FILE`: replays a workflow as it once ran elsewhere, and prints how it went here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from heald.cli.option import Json
from heald.cli.screen import say


def trace(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A workflow in WfFormat, of WfCommons.")],
    speed: Annotated[
        float, typer.Option(min=0, help="Real seconds for each second of the trace; 0: empty tasks.")
    ] = 0.01,
    size: Annotated[float, typer.Option(min=0, help="Bytes really written for each byte of its files.")] = 0.0,
    cores: Annotated[bool, typer.Option("--cores", help="Ask for as many cores as its tasks had.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="Cores to use; by default all.")] = None,
    journal: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep the run there.")] = None,
    json: Json = False,
) -> None:
    """Replay a recorded workflow: makespan, critical path, efficiency, and whether every dependency was kept.

    \b
    heald run trace montage.json    the same as heald run --trace montage.json
    heald run --trace montage.json --speed 0.1 --size 0.001 --cores
    """
    from heald.flow.session import Session
    from heald.flow.trace import Trace
    from heald.run.process import ProcessExecutor

    read = Trace.read(file)
    options: dict[str, Any] = {"journal": journal, "memo": None}
    with Session([ProcessExecutor(workers)], **options) as session:
        found = read.replay(session, speed=speed, size=size, cores=cores)
    if json:
        from heald.cli.table import document

        say(document(found))
    else:
        say(found.table())
    raise typer.Exit(1 if found.broken else 0)
