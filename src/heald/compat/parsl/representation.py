"""Settings that print as the code that makes them, and accept the spellings of older Parsl."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

C = TypeVar("C", bound=Callable[..., Any])


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


def retired(*dropped: str, **renamed: str) -> Callable[[C], C]:
    """Lets a constructor take keywords that Parsl had once: those `dropped` mean nothing, those `renamed` go on as.

    >>> @retired("start_method", max_workers="max_workers_per_node")
    ... def make(max_workers_per_node=None):
    ...     return max_workers_per_node
    >>> make(max_workers=4, start_method="spawn")
    4
    """

    def decorate(init: C) -> C:
        @wraps(init)
        def accepting(*args: Any, **kwargs: Any) -> Any:
            for old in kwargs.keys() & set(dropped):
                del kwargs[old]
            for old in kwargs.keys() & renamed.keys():
                kwargs.setdefault(renamed[old], kwargs.pop(old))
            return init(*args, **kwargs)

        return accepting  # type: ignore[return-value]

    return decorate
