"""`heald task cancel`, `retry` and `rm`: what is done to tasks from outside of their run, living or ended."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from heald.cli.option import Json, RunOption, TheTasks, Yes
from heald.cli.screen import confirmed, say, say_table, some

if TYPE_CHECKING:
    from heald.flow.plan import Change

_MANY = 10  # tasks that are cancelled or retried without a question


class _Verb(NamedTuple):
    """A method of a Run: what a task is then, and what there is to say about that of a living run and of another.

    `asks`: also before a single task.
    """

    name: str
    past: str
    living: str = ""
    ended: str = ""
    asks: bool = False


_CANCEL = _Verb("cancel", "cancelled")
_RETRY = _Verb(
    "retry",
    "to run again",
    living="their script keeps the ends that it was told",
    ended="they run when the script is started again",
)
_REMOVE = _Verb("remove", "removed", asks=True)

DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]


def cancel(
    tasks: TheTasks, run: RunOption = None, dry_run: DryRun = False, yes: Yes = False, json: Json = False
) -> None:
    """Cancel tasks, and what waits for them.

    Those that run are stopped, with all that they started. They stay cancelled when the script is started again, until
    heald task retry. On a terminal you are asked before more than ten tasks are touched. The exit code is 1 when
    nothing could be done.

    \b
    heald task cancel 7                     task 7, in the newest run here
    heald task cancel name=sim* state=running
    heald task cancel 3-9 --run run.heald --dry-run
    """
    _act(_CANCEL, tasks, run, dry_run=dry_run, yes=yes, json=json)


def retry(
    tasks: TheTasks, run: RunOption = None, dry_run: DryRun = False, yes: Yes = False, json: Json = False
) -> None:
    """Run tasks again, however they ended.

    With them run again what they failed of, and all that needs them. A run that goes on does it now; its script has
    been told how they ended, and takes the new values when it is started the next time. Of a run that has ended, they
    run when its script is started again. Results that are kept in the memo do not count. The exit code is 1 when
    nothing could be done.

    \b
    heald task retry state=failed
    heald task retry 7                also one that is done, or was cancelled
    heald task retry failure=walltime --dry-run
    """
    _act(_RETRY, tasks, run, dry_run=dry_run, yes=yes, json=json)


def remove(
    tasks: TheTasks, run: RunOption = None, dry_run: DryRun = False, yes: Yes = False, json: Json = False
) -> None:
    """Remove records, results and logs of tasks; asks.

    With them go their own directories, and all that needs them. Of a run that goes on, only tasks that are over can go.
    Files that tasks wrote elsewhere stay. When the script is started again, it runs them as if they never had. The
    exit code is 1 when nothing could be done.

    \b
    heald task rm 7
    heald task rm tag:phase=test --run run.heald --dry-run
    heald task rm state=failed --yes
    """
    _act(_REMOVE, tasks, run, dry_run=dry_run, yes=yes, json=json)


def _act(verb: _Verb, words: Sequence[str], path: Path | None, *, dry_run: bool, yes: bool, json: bool) -> None:
    """Do it to the tasks that the words choose, once the user has agreed."""
    from heald.cli.selector import chosen
    from heald.flow.run import RUNNING, find_run

    run = find_run(path)
    ids = [record.task.id for record in chosen(words, run.history(), run.path)]
    act = getattr(run, verb.name)
    changes = act(ids, pretend=True)
    count = sum(change.done for change in changes)
    if count and not dry_run:
        if verb.asks or (count > _MANY and sys.stdin.isatty()):
            if not json and not yes:
                _show(changes, verb.past, "WOULD BE")
            if not confirmed(f"{verb.name.capitalize()} {_tasks(count)} of {run.path}?", yes):
                raise typer.Exit(1)
        changes = act(ids)
        count = sum(change.done for change in changes)
    if json:
        from heald.cli.table import document

        say(document(changes))
    else:
        _show(changes, verb.past, "WOULD BE" if dry_run else "NOW")
        left = f"; {_tasks(len(changes) - count)} as before" if count < len(changes) else ""
        after = verb.living if run.state == RUNNING else verb.ended
        if dry_run:
            say(f"{_tasks(count)}{left}; nothing was done, since this is a dry run")
        else:
            say(f"{_tasks(count)} {verb.past}{left}" + (f": {after}" if count and after else ""))
    raise typer.Exit(0 if count else 1)


def _show(changes: Sequence[Change], past: str, title: str) -> None:
    from heald.cli.table import Column

    shown = some(changes, None)
    columns = [
        Column("ID", lambda change: str(change.task), right=True),
        Column("NAME", lambda change: change.name, flexible=True),
        Column("WAS", lambda change: change.state),
        Column(title, lambda change: past if change.done else "as before"),
        Column("NOTE", lambda change: change.note, flexible=True),
    ]
    say_table(columns, shown)
    if len(shown) < len(changes):
        say(f"{len(changes) - len(shown):,} more: --json lists all")


def _tasks(count: int) -> str:
    return f"{count:,} task{'s' * (count != 1)}"
