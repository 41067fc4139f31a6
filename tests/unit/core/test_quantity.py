"""Durations and sizes as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.quantity import amount, duration


@given(st.floats(1e-6, 1e8))
def test_every_duration_is_short_text(seconds: float) -> None:
    assert 0 < len(duration(seconds)) <= 9


@given(st.integers(0, 2**60))
def test_every_size_is_short_text(size: int) -> None:
    assert 0 < len(amount(size)) <= 12


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.94, "59.9 s"), (59.96, "1m 00s"), (3599.6, "1h 00m"), (86399, "1d 00h")]
)
def test_durations_round_into_the_next_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
