"""`heald compat …`: the programs that come with other tools, done by heald. Loads nothing but their options."""

from __future__ import annotations

import typer

from heald.cli.group import Group
from heald.compat.parsl.perf import perf
from heald.compat.parsl.visualization import visualize

app = typer.Typer(cls=Group, no_args_is_help=True)
app.command("parsl-perf")(perf)
app.command("parsl-visualize")(visualize)


@app.callback()
def main() -> None:
    """Programs of other tools, done by heald. Their scripts: heald run --compat SCRIPT.

    \b
    heald compat parsl-perf --config config.py        tasks a second
    heald compat parsl-visualize                      workflows in the browser
    heald compat parsl-visualize run.heald -o x.html  a run as a file
    """
