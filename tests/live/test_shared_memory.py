"""Large results lie in memory that all workers share: none writes over another's, dead or alive."""

from __future__ import annotations

import os
from typing import Any

import pytest

import heald

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.live

SIZE = 200_000  # large enough to travel in shared memory


def filled(value: int) -> Any:
    print("filled with", value)
    return np.full(SIZE, value)


def die() -> None:
    os._exit(3)


def holds(array: Any, value: int) -> bool:
    return array.shape == (SIZE,) and bool((array == value).all())


def test_workers_of_two_executors_have_memory_and_logs_of_their_own(survivors: Any) -> None:
    executors = [heald.ProcessExecutor(workers=1, label=label) for label in ("one", "other")]
    with heald.Session(executors, memo=None, progress=False):
        fill = heald.task(filled)
        futures = {value: fill.options(executor=executors[value % 2].label).submit(value) for value in range(8)}
        heald.wait(futures.values())
        for value, future in futures.items():
            assert holds(future.result(), value)
            assert future.stdout is not None
            assert future.stdout.read_text() == f"filled with {value}\n"


def test_a_result_outlives_the_worker_that_made_it(survivors: Any) -> None:
    with heald.Session([heald.ProcessExecutor(workers=1)], memo=None, progress=False) as session:
        made = session.submit(filled, 7)
        heald.wait([made])
        with pytest.raises(heald.WorkerLost):
            heald.task(retries=heald.Retry(lost=0))(die).submit().result()
        again = [session.submit(filled, value) for value in range(3)]  # the next worker writes, too
        assert all(holds(future.result(), value) for value, future in enumerate(again))
        assert holds(made.result(), 7)


def test_workers_may_die_more_often_than_memory_has_parts(survivors: Any) -> None:
    with heald.Session([heald.ProcessExecutor(workers=1)], memo=None, progress=False) as session:
        arena: Any = session._engine.arena  # type: ignore[union-attr]
        arena._appointed.update(range(4090))  # as if so many lived
        lose = heald.task(retries=heald.Retry(lost=0))(die)
        for _ in range(10):
            with pytest.raises(heald.WorkerLost):
                lose.submit().result()
        assert session.submit(filled, 1).result()[0] == 1
