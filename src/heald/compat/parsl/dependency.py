"""Where in its arguments a task's futures are looked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import singledispatch
from typing import Any


@dataclass
class DependencyResolver:
    """How to find the futures in an argument, and how to put their results in their places."""

    traverse_to_gather: Callable[[object], Sequence[Future[Any]]]
    traverse_to_unwrap: Callable[[object], object]


@singledispatch
def shallow_traverse_to_gather(value: Any) -> list[Future[Any]]:
    """The argument itself, when it is a future."""
    return []


@singledispatch
def shallow_traverse_to_unwrap(value: Any) -> Any:
    """The result of a future; anything else as it is."""
    return value


@singledispatch
def deep_traverse_to_gather(value: Any) -> list[Future[Any]]:
    """All futures in lists, tuples, sets and dicts, keys too."""
    return []


@singledispatch
def deep_traverse_to_unwrap(value: Any) -> Any:
    """The same containers with results in place of futures."""
    return value


def _one(future: Future[Any]) -> list[Future[Any]]:
    return [future]


def _result(future: Future[Any]) -> Any:
    return future.result(timeout=0)


def _gather(values: Any) -> list[Future[Any]]:
    return [future for value in values for future in deep_traverse_to_gather(value)]


def _unwrap(values: Any) -> Any:
    return type(values)(map(deep_traverse_to_unwrap, values))


shallow_traverse_to_gather.register(Future, _one)
shallow_traverse_to_unwrap.register(Future, _result)
deep_traverse_to_gather.register(Future, _one)
deep_traverse_to_unwrap.register(Future, _result)
for _container in (list, tuple, set):
    deep_traverse_to_gather.register(_container, _gather)
    deep_traverse_to_unwrap.register(_container, _unwrap)
deep_traverse_to_gather.register(dict, lambda found: _gather(part for item in found.items() for part in item))
deep_traverse_to_unwrap.register(dict, lambda found: dict(map(_unwrap, found.items())))

SHALLOW_DEPENDENCY_RESOLVER = DependencyResolver(shallow_traverse_to_gather, shallow_traverse_to_unwrap)
DEEP_DEPENDENCY_RESOLVER = DependencyResolver(deep_traverse_to_gather, deep_traverse_to_unwrap)
