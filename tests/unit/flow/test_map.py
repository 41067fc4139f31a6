from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

import heald
from heald.core.errors import UsageError
from heald.flow.map import FutureMap


@pytest.fixture
def session() -> Iterator[heald.Session]:
    with heald.Session([heald.ThreadExecutor(workers=2)], memo=None) as session:
        yield session


class Reader:
    """Inputs without end, counted as they are read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count():
            self.read += 1
            yield number


def test_futures_come_in_order(session: heald.Session) -> None:
    assert [future.result() for future in session.map(abs, [-3, 1, -2])] == [3, 1, 2]


def test_several_inputs_go_together_and_the_shortest_ends_it(session: heald.Session) -> None:
    assert list(session.map(pow, [2, 3, 4], itertools.count(1)).results()) == [2, 9, 64]


def test_nothing_to_map(session: heald.Session) -> None:
    assert list(session.map(abs, [])) == []


def test_first_window_is_submitted_at_once_and_nothing_more(session: heald.Session) -> None:
    inputs = Reader()
    futures = session.map(abs, inputs, window=7)
    assert inputs.read == 7
    next(futures)
    assert inputs.read == 8


def test_inputs_without_end_are_read_as_the_results_are(session: heald.Session) -> None:
    inputs = Reader()
    futures = session.map(abs, inputs, window=50)
    for number, value in enumerate(itertools.islice(futures.results(), 2000)):
        assert value == number
        assert inputs.read <= number + 51


def test_results_raise_what_the_tasks_raise_and_go_on(session: heald.Session) -> None:
    futures = session.map(lambda x: 1 // x, [1, 0, 2], window=1)
    assert next(futures).result() == 1
    assert isinstance(next(futures).exception(), ZeroDivisionError)
    assert next(futures).result() == 0


def test_input_that_cannot_be_read_takes_no_future_with_it() -> None:
    def inputs() -> Iterator[tuple[int]]:
        yield (1,)
        yield (2,)
        raise OSError("no more")

    futures: FutureMap[Any] = FutureMap(lambda x: x, inputs(), 2)
    with pytest.raises(OSError, match="no more"):
        next(futures)
    assert list(futures) == [1, 2]


def test_a_function_maps_in_the_current_session(session: heald.Session) -> None:
    @heald.task
    def square(x: int) -> int:
        return x * x

    futures = square.map(range(4), window=2)
    assert list(futures.results(timeout=10)) == [0, 1, 4, 9]
    assert session.tally.submitted == 4


@pytest.mark.parametrize("window", [0, -1, True, 1.5, "8"])
def test_window_that_cannot_be(session: heald.Session, window: Any) -> None:
    with pytest.raises(UsageError, match="window="):
        session.map(abs, [1], window=window)
