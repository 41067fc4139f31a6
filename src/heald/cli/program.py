"""The program `heald`: its nouns, its help, and how it reports errors.

Each command loads what it needs when it runs: `heald --help` loads typer and nothing of heald's own.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from heald.cli import allocation, attach, compat, data, run, site, task
from heald.cli.group import Group
from heald.core.errors import HealdError, UsageError


class Program(Group):
    """The nouns; what goes wrong below them becomes one line and a hint, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run what was asked for."""
        try:
            return super().invoke(ctx)
        except HealdError as error:
            typer.echo(f"heald: {error.message}", err=True)
            if error.hint:
                typer.echo(f"  {error.hint}", err=True)
            raise typer.Exit(2 if isinstance(error, UsageError) else 1) from error
        except BrokenPipeError as error:  # `heald task ls | head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
            raise typer.Exit(1) from error
        except OSError as error:
            typer.echo(f"heald: {error}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    name="heald",
    cls=Program,
    no_args_is_help=True,
    rich_markup_mode=None,  # rich would take as long to load as all the rest
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(run.app, name="run")
app.command("attach")(attach.attach)
app.add_typer(task.app, name="task")
app.add_typer(data.app, name="data")
app.add_typer(site.app, name="site")
app.add_typer(allocation.app, name="allocation")
app.add_typer(compat.programs(), name="compat")


def _version(wanted: bool) -> None:
    if wanted:
        from heald import __version__

        typer.echo(f"heald {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run functions, commands and MPI programs as tasks; look at them from any terminal, also while they run.

    Tasks come from Python (functions decorated with @heald.task, @heald.command or @heald.join) or from a command
    line over inputs, as with GNU Parallel. A run with a journal can be killed and goes on when it is started again:
    heald run SCRIPT keeps one, as does heald.Session(journal="run.heald"). The commands that look take the newest
    run in this folder, or the one named.

    \b
    To begin with:
      heald run study.py           run a script, keep what it did in study.heald
      heald run --detach study.py  let it outlive this terminal: heald attach
      heald run gzip ::: *.log     run a command for each file, on all cores
      heald run show               how the newest run goes: counts, failures
      heald task ls state=failed   the tasks that failed, and of what
      heald task log -f 7          what task 7 prints, while it runs

    \b
    Each command has --help with examples, and each listing has --json.
    Documentation: docs/index.md in heald's source; or python -m pydoc heald
    """
