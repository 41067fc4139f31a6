from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.resources import Resources
from heald.core.retry import (
    CANCELLED,
    DEPENDENCY,
    KINDS,
    ONCE,
    OUT_OF_MEMORY,
    REFUSED,
    REQUEUED,
    RESULT,
    STAGING,
    USER,
    WALLTIME,
    WORKER_LOST,
    Retry,
    decide,
)

NEEDS = Resources(cpus=2, memory=100, walltime=10.0)


@pytest.mark.parametrize(
    ("retry", "kind", "charged", "lost", "verdict"),
    [
        (Retry(), USER, 1, 0, None),
        (Retry(limit=2), USER, 1, 0, (0.0, NEEDS)),
        (Retry(limit=2), USER, 2, 0, (0.0, NEEDS)),
        (Retry(limit=2), USER, 3, 0, None),
        (Retry(limit=2), STAGING, 1, 0, (0.0, NEEDS)),
        (Retry(limit=2, on=(WALLTIME,)), USER, 1, 0, None),
        (Retry(limit=2, on=(WALLTIME,)), WALLTIME, 1, 0, (0.0, NEEDS)),
        (Retry(limit=2, grow=1.5), WALLTIME, 1, 0, (0.0, Resources(cpus=2, memory=100, walltime=15.0))),
        (Retry(limit=2, grow=1.5), OUT_OF_MEMORY, 1, 0, (0.0, Resources(cpus=2, memory=150, walltime=10.0))),
        (Retry(limit=2, grow=1.5), USER, 1, 0, (0.0, NEEDS)),
        (Retry(limit=3, delay=1.0), USER, 3, 0, (4.0, NEEDS)),
        (Retry(limit=3, delay=1.0, longest=3.0), USER, 3, 0, (3.0, NEEDS)),
        (Retry(), WORKER_LOST, 0, 1, (0.0, NEEDS)),  # a lost worker is nobody's fault at first
        (Retry(), WORKER_LOST, 0, 2, (0.0, NEEDS)),
        (Retry(), WORKER_LOST, 0, 3, None),
        (Retry(limit=9, lost=0), WORKER_LOST, 0, 1, None),
        (Retry(delay=1.0), WORKER_LOST, 0, 2, (2.0, NEEDS)),
        (Retry(limit=9, on=KINDS), RESULT, 1, 0, None),
        (Retry(limit=9, on=KINDS), DEPENDENCY, 1, 0, None),
        (Retry(limit=9, on=KINDS), CANCELLED, 1, 0, None),
        (Retry(limit=9, on=KINDS), REFUSED, 1, 0, None),
    ],
)
def test_table(retry: Retry, kind: str, charged: int, lost: int, verdict: object) -> None:
    assert decide(retry, kind, charged, lost, NEEDS) == verdict


def test_nothing_grows_that_was_not_stated() -> None:
    for kind in (OUT_OF_MEMORY, WALLTIME):
        assert decide(Retry(limit=1, grow=2), kind, 1, 0, Resources()) == (0.0, Resources())


@given(
    st.floats(0, 1e6),
    st.floats(1, 1e6),
    st.floats(0, 1e6),
    st.integers(1, 10**9),
)
def test_pauses_are_finite_and_never_shrink(delay: float, backoff: float, longest: float, tried: int) -> None:
    retry = Retry(delay=delay, backoff=backoff, longest=longest)
    assert 0 <= retry.pause(tried) <= retry.pause(tried + 1) <= longest


def test_pauses_are_written_as_people_write_them() -> None:
    assert Retry(delay="1m", longest="90s").pause(2) == 90.0


def test_who_asks_to_be_run_again_is_charged_nothing() -> None:
    needs = Resources(walltime=60.0)
    assert decide(ONCE, REQUEUED, charged=9, lost=9, needs=needs) == (0.0, needs)
