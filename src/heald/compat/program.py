"""`heald compat …`: the programs that come with other tools, done by heald. Loads nothing but their options."""

from __future__ import annotations

import typer

from heald.compat.parsl.perf import perf
from heald.compat.parsl.visualization import visualize

app = typer.Typer(no_args_is_help=True)
app.command("parsl-perf")(perf)
app.command("parsl-visualize")(visualize)


@app.callback()
def main() -> None:
    """Programs of other tools, done by heald. Their scripts: heald run --compat SCRIPT.

    \b
    heald compat parsl-perf --config config.py --time 10         tasks a second of a configuration
    heald compat parsl-visualize runinfo/monitoring.db           a workflow in the browser
    heald compat parsl-visualize --workflow fit.py -o fit.html   the same as a file
    """
