"""Futures of other executors; what they do to a run is tested with real ones in tests/live/test_dependency.py."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator

import pytest

import heald


@pytest.fixture
def session() -> Iterator[heald.Session]:
    with heald.Session([heald.ThreadExecutor(workers=1)], memo=None) as session:
        yield session


def test_its_value_stands_for_it(session: heald.Session) -> None:
    foreign: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = session.submit(sum, [foreign, 1])
    assert not future.done()
    foreign.set_result(2)
    assert future.result(10) == 3


def test_its_failure_is_a_dependency_that_failed(session: heald.Session) -> None:
    foreign: concurrent.futures.Future[int] = concurrent.futures.Future()
    foreign.set_exception(KeyError("gone"))
    with pytest.raises(heald.DependencyError) as caught:
        session.submit(abs, foreign).result(10)
    assert isinstance(caught.value.__cause__, KeyError)


def test_its_cancellation_cancels(session: heald.Session) -> None:
    foreign: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = session.submit(abs, foreign)
    foreign.cancel()
    foreign.set_running_or_notify_cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(10)


def test_one_future_in_two_places_is_one_task(session: heald.Session) -> None:
    foreign: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = session.submit(max, foreign, foreign)
    foreign.set_result(5)
    assert future.result(10) == 5
    assert session.tally.submitted == 2
