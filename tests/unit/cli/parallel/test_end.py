from __future__ import annotations

import signal
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

import heald
from heald.cli.parallel.end import ends_of


class Over:
    """A future that is over."""

    def __init__(self, value: object) -> None:
        self.value = value

    def result(self) -> object:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


def test_ends() -> None:
    over = [heald.Completed(3, Path("out"), None, 0.5, 12.0), heald.Completed(-9, None, None, 0.5, 12.5)]
    done, killed = ends_of(Over(over), 1.0, 3)  # the third was not begun
    assert (done.status, done.signal, done.code, done.started, done.seconds) == (3, 0, 3, 12.0, 0.5)
    assert (killed.status, killed.signal, killed.code) == (0, 9, 137)
    assert (done.message, killed.message) == ("", "it was killed by SIGKILL (signal 9)")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (heald.WalltimeExceeded("job#2: too long", stdout="o"), (-1, signal.SIGTERM, False)),
        (heald.WorkerLost("gone"), (1, 0, False)),
        (CancelledError(), (-1, signal.SIGTERM, True)),
    ],
)
def test_bad_ends(raised: BaseException, expected: tuple[int, int, bool]) -> None:
    end, *others = ends_of(Over(raised), 1.0, 2)
    assert len(others) == end.dropped  # none is run of those that were given out together, when all are cancelled
    assert (end.status, end.signal, end.dropped) == expected
    assert end.code
    assert end.message == {heald.WalltimeExceeded: "too long", heald.WorkerLost: "gone"}.get(type(raised), "")  # type: ignore[call-overload]


def test_a_command_that_cannot_be_started() -> None:
    raised = heald.CommandFailed("there is no command 'x'")
    raised.returncode = 127
    assert [end.code for end in ends_of(Over(raised), 1.0, 2)] == [127]
