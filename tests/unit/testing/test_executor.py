"""The suite must find what is wrong with an executor; that it finds nothing wrong with a right one is in contract/."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from heald.testing.executor import ExecutorContract, Gate
from heald.testing.work import held


class Wrong(ThreadPoolExecutor):
    """Right, until a test makes one thing of it wrong."""

    finish: Callable[[Any], Any] = staticmethod(lambda value: value)
    open_for_ever = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def call() -> Any:
            return self.finish(fn(*args, **kwargs))

        if self._shutdown and self.open_for_ever:
            return Future()
        return super().submit(call)

    def map(self, fn: Callable[..., Any], *iterables: Any, **kwargs: Any) -> Iterator[Any]:
        return iter(list(super().map(fn, *iterables))[::-1])


@pytest.fixture
def wrong() -> Iterator[Wrong]:
    with Wrong(2) as executor:
        yield executor


def test_finds_wrong_values(wrong: Wrong) -> None:
    wrong.finish = str
    with pytest.raises(AssertionError):
        ExecutorContract().test_gives_the_result(wrong)


def test_finds_a_wrong_order(wrong: Wrong) -> None:
    with pytest.raises(AssertionError):
        ExecutorContract().test_map_keeps_the_order(wrong)


def test_finds_that_it_takes_tasks_after_shutdown(wrong: Wrong) -> None:
    wrong.open_for_ever = True
    with pytest.raises(pytest.fail.Exception):
        ExecutorContract().test_shut_down_unused(wrong)


def test_finds_exceptions_of_another_class(wrong: Wrong) -> None:
    def fail_otherwise(fn: Callable[..., Any], exception: BaseException) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(RuntimeError(str(exception)))
        return future

    wrong.submit = fail_otherwise  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        ExecutorContract().test_exceptions_keep_type_and_args(wrong, ValueError("a"))


class TestGate:
    def test_holds_until_it_is_opened(self, tmp_path: Path) -> None:
        gate = Gate(tmp_path / "gate")
        values: list[str] = []
        inside = threading.Thread(target=lambda: values.append(held(gate.path)))
        inside.start()
        gate.wait_entered()
        assert not values
        gate.open()
        inside.join()
        assert values == ["let go"]

    def test_opened_it_lets_in_whoever_comes_later(self, tmp_path: Path) -> None:
        gate = Gate(tmp_path / "gate")
        gate.open()
        gate.open()
        assert held(gate.path) == "let go"

    def test_opening_wakes_who_is_just_entering(self, tmp_path: Path) -> None:
        gate = Gate(tmp_path / "gate")
        inside = threading.Thread(target=held, args=(gate.path,))
        inside.start()
        gate.open()
        inside.join()
