"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_GRAMMAR = "7, 3-7, name=sim*, state=failed, failure=walltime, tag:key=value; words of different sorts must all hold."

RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run",
        "-r",
        metavar="RUN",
        envvar="HEALD_RUN",
        help="Folder of the run, or its name in `heald run ls`; by default the newest *.heald here, else the newest.",
    ),
]
RunArgument = Annotated[
    str | None, typer.Argument(metavar="RUN", envvar="HEALD_RUN", help="Folder of the run, or its name in `ls`.")
]
Tasks = Annotated[list[str] | None, typer.Argument(metavar="TASKS", help=_GRAMMAR, show_default=False)]
TheTasks = Annotated[list[str], typer.Argument(metavar="TASKS", help=_GRAMMAR, show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Show so many; by default 50 on a terminal, else all.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
