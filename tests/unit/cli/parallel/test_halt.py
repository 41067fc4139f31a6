from __future__ import annotations

import pytest

from heald.cli.parallel.halt import Count, Halt, parse, reached, status
from heald.core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("never", Halt()),
        ("0", Halt()),
        ("1", Halt("soon", "fail", 1)),
        ("-2", Halt("now", "success", 1)),
        ("30%", Halt("soon", "fail", 0, 30.0)),
        ("now,done=4", Halt("now", "done", 4)),
    ],
)
def test_what_it_was_told(text: str, expected: Halt) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "later", "now,fail", "now,maybe=1", "5"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not understood"):
        parse(text)


def test_status_is_the_number_of_failures_at_most_101() -> None:
    count = Count()
    for _ in range(150):
        count.add(3)
    assert status(Halt(), count) == 101


def test_status_of_a_halt() -> None:
    count = Count(total=5)
    for code in (0, 7, 8):
        count.add(code)
    assert status(parse("now,fail=1"), count) == 8
    assert status(parse("now,fail=2"), count) == 2
    assert status(parse("soon,fail=40%"), count) == 40
    assert status(parse("now,success=1"), count) == 0
    assert status(parse("now,success=2"), count) == 2
    assert not reached(parse("soon,done=80%"), count)
    assert reached(parse("soon,done=60%"), count)
