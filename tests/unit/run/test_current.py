"""What a process knows of the attempt in it; how it comes to know, real workers show in test_worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

import heald
from heald.core.event import Failure
from heald.core.retry import REQUEUED, USER
from heald.run import current
from heald.run.protocol import LATE, LEAVING


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("running", "_told", "_why"):
        monkeypatch.setattr(current, name, getattr(current, name))
    handler = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, handler)


def test_outside_of_an_attempt_nothing_ends() -> None:
    attempt = heald.current_attempt()
    assert (attempt.task, attempt.number, attempt.ending, current.told()) == (0, 0, False, False)


def test_a_process_of_one_attempt_is_told_by_the_signal() -> None:
    current.be(7, 2)
    attempt = heald.current_attempt()
    assert (attempt.task, attempt.number, attempt.ending) == (7, 2, False)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert attempt.ending
    assert current.told()


def test_only_the_attempt_that_was_told_knows() -> None:
    current.running = lambda: (7, 2)
    current.tell(7, 1, LATE)
    assert not heald.current_attempt().ending
    assert not current.told()


@pytest.mark.parametrize(
    ("why", "failure", "kind"),
    [
        (LATE, Failure(REQUEUED, "Requeue"), REQUEUED),
        (LATE, Failure(USER, "", exit=75), REQUEUED),
        (LATE, Failure(USER, "", exit=-10), USER),
        (LEAVING, Failure(USER, "", exit=-10), REQUEUED),
        (LEAVING, Failure(USER, "", exit=138), REQUEUED),
        (LEAVING, Failure(USER, "", exit=1), USER),
    ],
)
def test_what_asks_to_be_run_again(why: bytes, failure: Failure, kind: str) -> None:
    current.tell(7, 1, why)
    assert current.judged(failure, 7, 1).kind == kind
    assert current.judged(failure, 7, 2).kind == USER
