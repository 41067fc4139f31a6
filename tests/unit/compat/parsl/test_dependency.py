from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from heald.compat.parsl.dependency import DEEP_DEPENDENCY_RESOLVER, SHALLOW_DEPENDENCY_RESOLVER


def done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def test_shallow_sees_the_argument_only() -> None:
    future = done(1)
    assert SHALLOW_DEPENDENCY_RESOLVER.traverse_to_gather(future) == [future]
    assert SHALLOW_DEPENDENCY_RESOLVER.traverse_to_gather([future]) == []
    assert SHALLOW_DEPENDENCY_RESOLVER.traverse_to_unwrap(future) == 1


def test_deep_sees_containers() -> None:
    one, two, three = done(1), done(2), done(3)
    value = [(one,), {two: {three}}]
    assert DEEP_DEPENDENCY_RESOLVER.traverse_to_gather(value) == [one, two, three]
    assert DEEP_DEPENDENCY_RESOLVER.traverse_to_unwrap(value) == [(1,), {2: {3}}]
