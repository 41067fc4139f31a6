"""What the command line has of `heald.compat`, the floor above: by its name, since layers import downwards only."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def serve(tool: str) -> None:
    """Serve the names of another tool ("parsl") in this process. Raises UsageError when it is imported already."""
    import_module("heald.compat").install(tool)


def programs() -> Any:
    """`heald compat …`: the programs that come with other tools, as a Typer."""
    return import_module("heald.compat.program").app
