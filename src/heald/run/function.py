"""Functions that travel by name: how a worker finds the function behind a decorated name."""

from __future__ import annotations

import importlib
from typing import Any


def attribute(module: str, qualname: str) -> Any:
    """What stands under that name.

    >>> attribute("os.path", "join").__name__
    'join'
    """
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def imported(module: str, qualname: str) -> Any:
    """The function under that name; of a decorated one, the function itself."""
    found = attribute(module, qualname)
    return found.__heald_code__() if hasattr(found, "__heald_code__") else found


class Imported:
    """Pickles to the function that stands under a name where it is unpickled."""

    def __init__(self, module: str, qualname: str) -> None:
        self.module = module
        self.qualname = qualname

    def __reduce__(self) -> tuple[Any, ...]:
        return imported, (self.module, self.qualname)
