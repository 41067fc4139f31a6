"""Environments as people write them: checked, and made the same wherever they are read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from heald.core.environment import PLAIN, Environment
from heald.core.errors import UsageError
from heald.core.text import recordable

OPTIONS = Environment.__struct_fields__
_FILES = (".txt", ".in", ".toml")  # that name packages


def environment(given: Mapping[str, Any] | Environment, base: Environment = PLAIN) -> Environment:
    """`base` changed by options of a task or an executor. Raises UsageError for what cannot be.

    >>> environment({"modules": "gcc/12", "uv": ["numpy>=2"]})
    Environment(modules=('gcc/12',), uv=('numpy>=2',))
    """
    if isinstance(given, Environment):
        return given
    unknown = [name for name in given if name not in OPTIONS]
    if unknown:
        raise UsageError(f"environments have no {unknown[0]!r}", hint=f"they have {', '.join(OPTIONS)}")
    changes: dict[str, Any] = {name: _CHECKS.get(name, _path)(name, value) for name, value in given.items()}
    if changes.get("directory", "auto") not in ("", "auto"):
        changes["directory"] = os.path.abspath(changes["directory"])
    found = msgspec.structs.replace(base, **changes)
    sources = [name for name in ("conda", "uv", "container") if getattr(found, name)]
    if len(sources) > 1:
        hint = "make it all one image, or one conda environment"
        raise UsageError(f"{' and '.join(sources)} exclude each other: each brings a Python of its own", hint=hint)
    if found.conda and found.python:
        raise UsageError("conda and python exclude each other", hint="leave python out: it is that of the environment")
    return found


def _path(name: str, given: Any) -> str:
    if not isinstance(given, str | os.PathLike):
        raise UsageError(f"{name}={given!r}: must be a path")
    return recordable(name, os.fspath(given))


def _place(name: str, given: Any) -> str:
    """A path, absolute from here on; or a name, which has no slash in it."""
    text = _path(name, given)
    return _absolute(text) if os.sep in text else text


def _image(name: str, given: Any) -> str:
    """A path; or what a container program makes of what comes after a colon."""
    text = _path(name, given)
    scheme, colon, rest = text.partition(":")
    if colon:
        return f"{scheme}:{_absolute(rest)}" if rest[:1] in (".", "~") else text
    return _absolute(text) if text else text


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _words(name: str, given: Any) -> tuple[str, ...]:
    words = (given,) if isinstance(given, str) else given
    if not isinstance(words, Sequence) or not all(isinstance(word, str) and word for word in words):
        raise UsageError(f"{name}={given!r}: must be a list of texts", hint=f'{name}=["…", "…"]')
    return tuple(recordable(name, word) for word in words)


def _packages(name: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, os.PathLike) or (isinstance(given, str) and given.endswith(_FILES)):
        file = os.path.abspath(_path(name, given))
        if not os.path.isfile(file):
            raise UsageError(f"{name}={os.fspath(given)!r}: there is no such file", hint=f'{name}=["numpy", "scipy"]')
        return "-r", file
    return _words(name, given)


def texts(name: str, given: Any) -> dict[str, str]:
    """Names with values, checked."""
    if not isinstance(given, Mapping):
        raise UsageError(f"{name}={given!r}: must be a mapping of names to values", hint=f'{name}={{"name": "value"}}')
    return {recordable(name, str(key)): recordable(name, str(value)) for key, value in given.items()}


_CHECKS: dict[str, Any] = {
    "variables": texts,
    "modules": _words,
    "setup": _words,
    "python": _place,
    "conda": _place,
    "uv": _packages,
    "container": _image,
}
