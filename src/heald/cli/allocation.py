"""`heald allocation`: the nodes that a run has from a scheduler, and having more or fewer of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from heald.cli.group import Group
from heald.cli.option import Json, RunArgument, RunOption
from heald.cli.screen import say, say_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from heald.core.allocation import AllocationStatus

app = typer.Typer(
    cls=Group, help="Look at the nodes that a run has, ask for more, give some back.", no_args_is_help=True
)

Label = Annotated[str, typer.Option("--executor", metavar="LABEL", help="Of this one, when several have allocations.")]

_COLOURS = {"running": "blue", "pending": "yellow", "draining": "yellow", "failed": "red"}


@app.command("ls")
def ls(run: RunArgument = None, json: Json = False) -> None:
    """List the allocations of a run: the scheduler's job, why it waits, its agents, how busy they are, the time left.

    Of a run that has ended, or was killed, they are shown as its process saw them last.

    \b
    heald allocation ls              of the newest run here
    heald allocation ls run.heald --json
    """
    from heald.cli.table import document
    from heald.flow.run import find_run

    found = find_run(run)
    statuses = found.allocations()
    if json:
        say(document(statuses))
        return
    _show(statuses)
    if not statuses:
        say(f"{found.path} has asked no scheduler for nodes: heald run --site, or heald.ClusterExecutor, does")


@app.command("add")
def add(
    blocks: Annotated[int, typer.Argument(min=1, metavar="N", help="How many more blocks.")],
    run: RunOption = None,
    executor: Label = "",
    json: Json = False,
) -> None:
    """Ask the scheduler for N more blocks now, for a run that goes on; from now on it may have as many more.

    A block is a batch job of as many nodes, and as much walltime, as the executor was given. One that has nothing to do
    is given back after a while, as all are.

    \b
    heald allocation add 2
    heald allocation add 1 --run study.heald
    """
    from heald.cli.table import document
    from heald.flow.run import find_run

    asked = find_run(run).acquire(blocks, executor)
    if json:
        say(document(asked))
    else:
        many = f"{blocks} more block{'s' * (blocks > 1)} of {asked[0].site}"
        say(f"asks for {many}: {', '.join(one.id for one in asked)}; heald allocation ls shows how they are")


@app.command("release")
def release(
    allocation: Annotated[str, typer.Argument(metavar="ID", help="Its id in `heald allocation ls`.")],
    run: RunOption = None,
    executor: Label = "",
    json: Json = False,
) -> None:
    """Give an allocation back: it gets no more work, and when what runs there has ended, its nodes are free.

    From now on the run may have one block fewer, so that no other is asked for in its place: heald allocation add does
    that.

    \b
    heald allocation release a2
    """
    from heald.cli.table import document
    from heald.flow.run import find_run

    status = find_run(run).release(allocation, executor)
    if json:
        say(document(status))
    else:
        nodes = f"{status.nodes} nodes" if status.nodes > 1 else "node"
        when = f"when what runs on {status.busy} cores has ended" if status.busy else "now"
        say(f"{allocation} gets no more work; {status.site} gets its {nodes} back {when}")


def _show(statuses: Sequence[AllocationStatus]) -> None:
    from datetime import UTC, datetime

    from heald.cli.table import Column
    from heald.site.hostlist import fold

    now, several = datetime.now(UTC), len({one.executor for one in statuses}) > 1
    columns = [
        Column("ID", lambda one: str(one.id)),
        Column("EXECUTOR", lambda one: one.executor if several else ""),
        Column("SITE", lambda one: str(one.site)),
        Column("JOB", lambda one: one.job or ""),
        Column("STATE", _state, colour=lambda text: _COLOURS.get(text, "")),
        Column("NODES", lambda one: str(one.nodes), right=True),
        Column("AGENTS", lambda one: "" if one.state.final else str(one.agents), right=True),
        Column("BUSY", lambda one: f"{one.busy}/{one.cores}" if one.cores else "", right=True),
        Column("LEFT", lambda one: _left(one, now), right=True),
        Column("HOSTS", lambda one: fold(one.hosts), flexible=True),
        Column("REASON", lambda one: str(one.reason), flexible=True),
    ]
    say_table(columns, statuses)


def _state(one: AllocationStatus) -> str:
    return "draining" if one.draining and not one.state.final else one.state.name


def _left(one: AllocationStatus, now: datetime) -> str:
    from heald.core.quantity import duration

    left = one.left(now)
    return "" if left is None or one.state.final else duration(left.total_seconds())
