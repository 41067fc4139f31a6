"""`heald attach RUN`: what the script of a run prints, and how far the run is, until it ends."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from heald.cli.option import RunArgument
from heald.cli.screen import say


def attach(
    run: RunArgument = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")] = False,
) -> None:
    """Show what a run's script prints, and how far the run is, until it ends.

    All that it has printed comes first. The exit status is the script's. Ctrl-C leaves the run alone; heald run stop
    ends it. What a script prints that was not started by heald run --detach is in its own terminal; the exit status
    then says whether all tasks are done.

    \b
    heald attach                the newest run here
    heald attach study.heald > results.txt
    """
    from heald.cli.follow import follow, progress, status
    from heald.flow.run import find_run

    looked = find_run(run)
    try:
        with progress(looked, quiet):
            follow(looked)
    except KeyboardInterrupt:
        name = shlex.quote(str(looked.path))
        say(f"\n{looked.path} goes on: heald attach {name} shows it again, heald run stop {name} ends it", error=True)
        raise typer.Exit(130) from None
    raise typer.Exit(status(looked))
