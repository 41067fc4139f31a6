"""`heald site`: the machines that heald knows how to use."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heald.cli.group import Group
from heald.cli.option import Json
from heald.cli.screen import say, say_table

if TYPE_CHECKING:
    from heald.flow.check import Check
    from heald.site.profile import Site

app = typer.Typer(
    cls=Group, help="Look at the machines that heald knows how to use, add one, try one.", no_args_is_help=True
)


@app.command("ls")
def ls(json: Json = False) -> None:
    """List the sites there are, yours first.

    \b
    heald site ls
    """
    from heald.cli.table import Column, document
    from heald.core.errors import ConfigurationError
    from heald.site import catalog

    rows: list[tuple[catalog.Found, Site | None]] = []
    for found in catalog.known():
        try:
            rows.append((found, catalog.find(found.name)))
        except ConfigurationError:  # one bad file does not hide the others; `heald site show` says what is wrong
            rows.append((found, None))
    if json:
        say(document([{"name": found.name, "path": str(found.path), "site": site} for found, site in rows]))
        return
    columns = [
        Column("NAME", lambda row: str(row[0].name)),
        Column("SCHEDULER", lambda row: row[1].scheduler if row[1] else "cannot be read"),
        Column("QUEUE", lambda row: (row[1].queue or row[1].qos) if row[1] else ""),
        Column("NODE", lambda row: row[1].node.words if row[1] else ""),
        Column("FILE", lambda row: _shown(row[0].path), flexible=True),
    ]
    say_table(columns, rows)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="SITE", help="Its name in `heald site ls`, or a TOML file.")],
    code: Annotated[bool, typer.Option("--code", help="As Python code.")] = False,
    json: Json = False,
) -> None:
    """Print all that is known of a site.

    That is its file, over the profile that it builds on, and under the variables HEALD_SITE_...

    \b
    heald site show polaris
    heald site show ./mine.toml --code
    """
    from heald.cli.table import document
    from heald.site import catalog, profile

    site = catalog.find(name)
    say(document(site) if json else repr(site) if code else profile.toml(site))


@app.command("detect")
def detect(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call this machine.")],
    scheduler: Annotated[
        str | None, typer.Option(metavar="NAME", help="Ask this one, when there are several (slurm, pbs, ...).")
    ] = None,
    queue: Annotated[str, typer.Option(metavar="QUEUE", help="Take this queue; by default the site's own.")] = "",
    login: Annotated[
        str, typer.Option(metavar="HOST", help="The login node of a machine far away, as ssh knows it.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there; - prints it. [default: yours]")
    ] = None,
) -> None:
    """Make a site of what this machine's scheduler tells, or that of another one.

    Look through the file afterwards: which account to charge, and what to load on the nodes, no scheduler tells.

    \b
    heald site detect mycluster
    heald site detect mycluster --queue gpu -o -
    heald site detect mycluster --login me@cluster.example.org  from afar
    """
    from heald.core.errors import UsageError
    from heald.site import catalog, profile

    text = profile.toml(_detected(name, scheduler, queue, login))
    path = output or catalog.user_folder() / f"{name}.toml"
    if str(path) == "-":
        say(text)
        return
    if path.exists():
        raise UsageError(f"{path} is there already", hint="remove it first, or print with -o -")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    say(f"{path}:\n\n{text}")


def _detected(name: str, scheduler: str | None, queue: str, login: str) -> Site:
    from heald.core.errors import SiteError, UsageError
    from heald.site import command
    from heald.site.detect import detect, schedulers
    from heald.site.login import connected

    with connected(login) if login else nullcontext(command.ask) as ask:
        known = schedulers(ask)
        if scheduler is None and len(known) > 1:
            raise UsageError(
                f"there are {' and '.join(known)} {f'on {login}' if login else 'here'}",
                hint=f"choose one: --scheduler {known[0]}",
            )
        if scheduler is None and login and not known:
            hint = "the programs of its scheduler must be on the PATH of a login shell there"
            raise SiteError(f"there is no scheduler on {login}", hint=hint)
        return detect(name, scheduler or next(iter(known), "local"), queue, login=login, ask=ask)


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(metavar="SITE", help="Its name in `heald site ls`, or a TOML file.")],
    nodes: Annotated[int, typer.Option(min=1, metavar="N", help="Try so many nodes.")] = 1,
    walltime: Annotated[str, typer.Option(metavar="TIME", help="Of the batch job, as 5m or 0:10:00.")] = "5m",
    login: Annotated[
        str | None, typer.Option(metavar="HOST", help="Go there by this login node, as ssh knows it.")
    ] = None,
    json: Json = False,
) -> None:
    """Try a site: ask for a few nodes, run a small task on each, and show what they found.

    It says what the scheduler says while the job waits; Ctrl-C and SIGTERM take the job back. The exit code is 1 when
    no task could be run, with the reason: the words of the scheduler, or what the job printed.

    \b
    heald site check polaris
    heald site check ./mine.toml --nodes 2
    heald site check mycluster --login me@cluster.example.org
    HEALD_SITE_QUEUE=debug heald site check mycluster
    """
    from heald.cli.table import document
    from heald.flow.check import check
    from heald.site import catalog

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found = check(catalog.find(name, login=login), nodes, walltime=walltime, told=lambda text: say(text, error=True))
    if json:
        say(document(found))
        return
    _show(found)


def _show(found: Check) -> None:
    from heald.cli.table import Column
    from heald.core.quantity import amount, duration

    columns = [
        Column("HOST", lambda row: row.host),
        Column("CORES", lambda row: str(row.shape.cores), right=True),
        Column("NUMA", lambda row: str(row.shape.numa), right=True),
        Column("GPUS", lambda row: f"{row.shape.gpus} {row.shape.gpu}" if row.shape.gpus else "", right=True),
        Column("MEMORY", lambda row: amount(row.shape.memory), right=True),
        Column("PYTHON", lambda row: row.python),
        Column("HEALD", lambda row: row.heald),
        Column("REACHES", lambda row: row.endpoint, flexible=True),
        Column("ROUND TRIP", lambda row: duration(row.trip), right=True),
        Column("LAUNCHER", lambda row: row.launcher),
        Column("MPI", lambda row: row.mpi or "none"),
    ]
    say_table(columns, found.nodes)
    job = f" (job {found.job})" if found.job else ""
    say(f"\nthe first result came {duration(found.seconds)} after the request for nodes{job}")
    for remark in found.remarks:
        say(f"note: {remark}")


def _shown(path: Path) -> str:
    """Where that is, for people."""
    home = Path.home()
    if path.parent.name == "shipped":
        return "comes with heald"
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
