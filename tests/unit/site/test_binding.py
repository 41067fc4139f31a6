from __future__ import annotations

import pytest

from heald.core.errors import ConfigurationError
from heald.site.binding import cores, devices


def test_cores_that_do_not_divide_stay_free() -> None:
    assert cores("block", range(7), 3) == ((0, 1), (2, 3), (4, 5))
    assert cores("block-reverse", range(7), 3) == ((5, 6), (3, 4), (1, 2))
    assert cores("alternating", range(7), 3) == ((0, 3), (1, 4), (2, 5))


def test_cores_are_those_that_there_are() -> None:
    assert cores("block", (4, 6, 8, 10), 2) == ((4, 6), (8, 10))
    assert cores("none", (4, 6), 2) == ((4, 6), (4, 6))


@pytest.mark.parametrize(
    ("affinity", "slots", "message"),
    [
        ("blocks", 1, "cpu_affinity='blocks' means nothing"),
        ("block", 5, "5 slots cannot share 4 cores"),
        ("list:0:1", 3, "is for 2 slots, there are 3"),
        ("list:0:9", 2, r"there are no cores \[9\] here"),
        ("list:0:x", 2, "invalid literal"),
        ("list:0:", 2, "gives a slot no cores"),
    ],
)
def test_what_cannot_be(affinity: str, slots: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        cores(affinity, range(4), slots)


def test_devices() -> None:
    assert devices(0) == devices([]) == ()
    assert devices(["0.0", "0.1"]) == (("0.0",), ("0.1",))
    assert devices("cuda:0, 1") == (("0", "1"),)
    with pytest.raises(ConfigurationError, match="cannot be negative"):
        devices(-1)
