"""A group of commands, such as `heald task`, whose help says in a whole sentence what each of them does."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

_WHOLE = 1000  # signs that a sentence may have before it is cut off; typer's own limit is what is left of one line


class Group(TyperGroup):
    """Commands, listed with the first sentence of their help, wrapped."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list."""
        rows = [(name, self.commands[name].get_short_help_str(_WHOLE)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
