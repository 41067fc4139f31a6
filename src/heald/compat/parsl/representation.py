"""Settings that print as the code that makes them, and accept the spellings of older Parsl."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")
Change = Callable[[dict[str, Any]], None]


class RepresentationMixin:
    """Prints an object as a call of its class, with every argument of the constructor; each must be an attribute."""

    __max_width__ = 80
    _validate_repr = False

    def __repr__(self) -> str:
        parameters = list(inspect.signature(type(self)).parameters.values())
        taken = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        for one in taken:
            if self._validate_repr and not hasattr(self, one.name):
                name = type(self).__name__
                raise AttributeError(f"class {name} uses {one.name} in the constructor, but has no such attribute")
        plain = [one.name for one in taken if one.default is one.empty and one.kind is not one.KEYWORD_ONLY]
        named = sorted(one.name for one in taken if one.name not in plain)
        parts = [repr(getattr(self, name, "<unrecorded>")) for name in plain]
        parts += [f"{name}={getattr(self, name, '<unrecorded>')!r}" for name in named]
        line = f"{type(self).__name__}({', '.join(parts)})"
        if len(line) <= self.__max_width__:
            return line
        inner = ", ".join("\n    " + part.replace("\n", "\n    ") for part in parts)
        return f"{type(self).__name__}({inner}\n)"


def retired(dropped: str, change: Change | None = None, **renamed: str) -> Callable[[type[T]], type[T]]:
    """Lets a class be made with keywords that Parsl had once: those `dropped` mean nothing, those `renamed` go on as.

    `change`: does to the keywords what else is to be done.

    >>> @retired("start_method worker_ports", max_workers="max_workers_per_node")
    ... class Executor:
    ...     def __init__(self, max_workers_per_node=None):
    ...         print(max_workers_per_node)
    >>> executor = Executor(max_workers=4, start_method="spawn")
    4
    """

    def decorate(cls: type[T]) -> type[T]:
        made: Any = cls
        init = made.__init__

        @wraps(init)
        def accepting(self: T, *args: Any, **kwargs: Any) -> None:
            for old in kwargs.keys() & set(dropped.split()):
                del kwargs[old]
            for old in kwargs.keys() & renamed.keys():
                kwargs.setdefault(renamed[old], kwargs.pop(old))
            if change is not None:
                change(kwargs)
            init(self, *args, **kwargs)

        made.__init__ = accepting
        return cls

    return decorate
