from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.scale import Facts, Limits, more

FOUR = Limits(init=1, fewest=0, most=4, parallelism=1.0, cores=8)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(wanted=0, coming=0, blocks=0, asked=0), 1),  # the first, before anything is wanted
        (Facts(wanted=0, coming=0, blocks=0, asked=1), 0),  # none to have, none wanted
        (Facts(wanted=1, coming=0, blocks=0, asked=1), 1),
        (Facts(wanted=8, coming=8, blocks=1, asked=1), 0),  # it is on its way
        (Facts(wanted=9, coming=8, blocks=1, asked=1), 1),
        (Facts(wanted=1000, coming=8, blocks=1, asked=1), 3),  # as many as there may be
        (Facts(wanted=1000, coming=0, blocks=4, asked=9), 0),
    ],
)
def test_more(facts: Facts, expected: int) -> None:
    assert more(facts, FOUR) == expected


def test_half_of_what_is_wanted() -> None:
    limits = Limits(init=0, fewest=0, most=9, parallelism=0.5, cores=1)
    assert more(Facts(wanted=8, coming=0, blocks=0, asked=0), limits) == 4


def test_there_are_always_the_fewest() -> None:
    limits = Limits(init=0, fewest=2, most=9, parallelism=1.0, cores=1)
    assert more(Facts(wanted=0, coming=0, blocks=0, asked=0), limits) == 2
    assert more(Facts(wanted=0, coming=0, blocks=1, asked=5), limits) == 1


@given(st.builds(Facts, *[st.integers(0, 100)] * 4), st.integers(1, 5), st.floats(0.1, 1.0))
def test_never_more_than_there_may_be(facts: Facts, most: int, parallelism: float) -> None:
    limits = Limits(init=min(1, most), fewest=0, most=most, parallelism=parallelism, cores=3)
    assert 0 <= more(facts, limits) <= max(0, most - facts.blocks)
