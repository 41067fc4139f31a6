"""What the tasks of the suites do: functions that any process can import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn


def echo(value: Any) -> Any:
    """`value`.

    >>> echo(3)
    3
    """
    return value


def add(first: Any, second: Any) -> Any:
    """Their sum.

    >>> add(1, second=2)
    3
    """
    return first + second


def fail(exception: BaseException) -> NoReturn:
    """Raise it."""
    raise exception


def touch(path: Path) -> str:
    """Make an empty file, and give its name."""
    path.touch()
    return path.name


def held(gate: Path) -> str:
    """Wait inside until the gate is opened; see `executor.Gate`."""
    return gate.read_text() or "let go"


def make_generator() -> Iterator[int]:
    """A value that no process can send to another."""
    return (number for number in range(3))
