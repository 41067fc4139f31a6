"""Where the command line prints to: its width and its colours."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import typer

from heald.cli.table import Column, documents, table

T = TypeVar("T")

_ROWS = 50
_AT_ONCE = 1000  # lines printed at once: each time, what is printed is looked through for colours, and flushed


def width() -> int | None:
    """Columns of the terminal (or COLUMNS), or None for a file or a pipe, which take any number."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None


def say(text: str, *, error: bool = False, end: str = "\n") -> None:
    """Print text; its colours only on a terminal, and not against the user's will (NO_COLOR)."""
    typer.echo(text + end, nl=False, err=error, color=False if os.environ.get("NO_COLOR") else None)


def say_table(columns: Sequence[Column], rows: Iterable[Any]) -> None:
    """Print a table as wide as there is room for."""
    lines = table(columns, rows, width())
    for start in range(0, len(lines), _AT_ONCE):
        say("\n".join(lines[start : start + _AT_ONCE]))


def say_documents(values: Iterable[Any]) -> None:
    """Print one JSON document of many records, while they come."""
    for part in documents(values):
        say(part, end="")
    say("")


def most(limit: int | None) -> int | None:
    """How many rows are to be shown: as many as the user says, else a page on a terminal; None for all."""
    return limit if limit is not None else _ROWS if sys.stdout.isatty() else None


def some(rows: Sequence[T], limit: int | None) -> Sequence[T]:
    """As many rows as are to be shown."""
    return rows[: most(limit)]


def confirmed(question: str, yes: bool) -> bool:
    """Whether the user wants it: `yes` says so already; without a terminal there is nobody to ask."""
    if yes:
        return True
    if not sys.stdin.isatty():
        say("Nothing is removed: add --yes", error=True)
        return False
    return typer.confirm(question, err=True)
