"""`heald data`: the memo, where results of tasks with `memo=True` are kept for later runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from heald.cli.group import Group
from heald.cli.option import Json, Limit, Yes
from heald.cli.screen import confirmed, say, say_table, some

app = typer.Typer(
    cls=Group, help="Look at results that are kept for later runs, and remove them.", no_args_is_help=True
)

MemoOption = Annotated[
    Path | None,
    typer.Option("--memo", metavar="FOLDER", help="Folder of the memo; by default the user's.", show_default=False),
]


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The results that are kept of the tasks of one name. `seconds`: what computing them took, `size` in bytes."""

    name: str
    entries: int
    size: int
    seconds: float
    used: datetime


@app.command("ls")
def ls(memo: MemoOption = None, limit: Limit = None, json: Json = False) -> None:
    """List the results that are kept, by the names of their tasks; the largest first.

    \b
    heald data ls
    """
    from heald.cli.moment import moment
    from heald.cli.table import Column, document
    from heald.core.quantity import amount, duration
    from heald.data.memo import Memo

    found: dict[str, Kept] = {}
    for entry in Memo(memo).ls():
        used = datetime.fromtimestamp(entry.used, UTC)
        known = found.get(entry.name) or Kept(name=entry.name, entries=0, size=0, seconds=0.0, used=used)
        found[entry.name] = Kept(
            name=entry.name,
            entries=known.entries + 1,
            size=known.size + entry.size,
            seconds=known.seconds + entry.seconds,
            used=max(known.used, used),
        )
    views = sorted(found.values(), key=lambda view: -view.size)
    if json:
        say(document(views[:limit]))
        return
    today = datetime.now(UTC)
    columns = [
        Column("NAME", lambda view: view.name, flexible=True),
        Column("RESULTS", lambda view: f"{view.entries:,}", right=True),
        Column("SIZE", lambda view: amount(view.size), right=True),
        Column("TOOK", lambda view: duration(view.seconds), right=True),
        Column("LAST USED", lambda view: moment(view.used, today), right=True),
    ]
    say_table(columns, some(views, limit))
    if not views:
        say("Nothing is kept: @heald.task(memo=True) keeps the results of a function.")


@app.command("info")
def info(memo: MemoOption = None, json: Json = False) -> None:
    """Say where the memo is, how large it is, and how much time its results took to compute.

    \b
    heald data info
    """
    from heald.cli.table import document
    from heald.core.quantity import amount, duration
    from heald.data.memo import Memo

    found = Memo(memo).info()
    if json:
        shown = {name: getattr(found, name) for name in ("path", "count", "size", "seconds")}
        say(document(shown))
    else:
        say(f"{found.path}: {found.count:,} results, {amount(found.size)}, computed in {duration(found.seconds)}")


@app.command("prune")
def prune(
    older_than: Annotated[str | None, typer.Option(metavar="TIME", help="Those not used for so long: 30d.")] = None,
    larger_than: Annotated[
        str | None, typer.Option(metavar="SIZE", help="The least recently used, until the rest is no larger: 10GB.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="PATTERN", help="Only of tasks of that name: fit_*.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="All that is kept.")] = False,
    memo: MemoOption = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove results that are kept; says what would go, and asks.

    \b
    heald data prune --older-than 30d
    heald data prune --larger-than 10GB
    heald data prune --name 'fit_*' --yes
    """
    from heald.cli.table import document
    from heald.core.errors import UsageError
    from heald.core.quantity import amount
    from heald.data.memo import Memo, Pruned

    if older_than is None and larger_than is None and name is None and not everything:
        raise UsageError(
            "nothing to prune is named",
            hint="give --older-than 30d, --larger-than 10GB, --name 'fit_*' or --everything",
        )
    kept = Memo(memo)

    def pruned(*, pretend: bool) -> Pruned:
        return kept.prune(
            older_than=older_than, larger_than=larger_than, name=name, everything=everything, pretend=pretend
        )

    old = pruned(pretend=True)
    question = f"Remove {old.count:,} results, {amount(old.bytes)}?"
    if not (yes or json):
        say(question.replace("Remove", "To be removed:").replace("?", ""))
    removed = pruned(pretend=False) if old.count and confirmed(question, yes) else Pruned(0, 0)
    say(document(removed) if json else f"{removed.count:,} results removed, {amount(removed.bytes)}")
