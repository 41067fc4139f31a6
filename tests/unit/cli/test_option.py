from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.main import get_command

from heald.cli.program import app


def commands(group: Any = None, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command, with the words that lead to it."""
    group = group or get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


# What prints what the user's own programs wrote, and what writes a page.
WITHOUT_JSON = {
    ("task", "log"), ("run", "script"), ("run", "report"), ("run", "attach"), ("attach",), ("site", "detect"),
    ("compat", "parsl-perf"), ("compat", "parsl-visualize"),
}  # fmt: skip

every = pytest.mark.parametrize(("path", "command"), list(commands()))


@every
def test_help_has_an_example(path: tuple[str, ...], command: Any, heald: Callable[..., Any]) -> None:
    text = heald(*path, "--help").stdout
    assert f"\n  heald {' '.join(path)}" in text
    assert max(map(len, text.splitlines())) <= 80


@every
def test_it_speaks_json(path: tuple[str, ...], command: Any) -> None:
    if path not in WITHOUT_JSON:
        assert "--json" in {flag for option in command.params for flag in option.opts}


@every
def test_tasks_are_looked_for_in_a_run(path: tuple[str, ...], command: Any) -> None:
    if path[0] == "task":
        assert "--run" in {flag for option in command.params for flag in option.opts}


def test_run_from_the_environment(heald: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALD_RUN", "nowhere.heald")
    assert "nowhere.heald is no run" in heald("task", "ls").stderr
