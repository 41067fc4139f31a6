from __future__ import annotations

from heald.core.attempt import attempts
from heald.core.event import Cancelled, Failure, Finished, Placed, Returned, Started, Usage
from heald.core.task import Payload

FAILED = Failure("user", "ValueError")


def test_attempts_in_order() -> None:
    events = [
        Placed(1, 1.0, 1, "process", "worker-1"),
        Placed(2, 1.0, 1, "process", "worker-2"),
        Started(1, 2.0, 1, 4711),
        Finished(1, 3.0, 1, FAILED, Usage(started=1.5, seconds=1.5)),
        Placed(1, 4.0, 2, "process", "worker-2"),
        Finished(1, 5.0, 2, Payload(b""), Usage(started=4.5)),
    ]
    first, second = attempts(events, 1)
    assert (first.number, first.worker, first.pid, first.started, first.ended) == (1, "worker-1", 4711, 1.5, 3.0)
    assert first.failure is FAILED
    assert (second.number, second.pid, second.started, second.failure) == (2, 0, 4.5, None)


def test_what_was_taken_back_was_no_attempt() -> None:
    events = [
        Placed(1, 1.0, 1, "process", "worker-1"),
        Returned(1, 2.0, 1),
        Placed(1, 3.0, 2, "process", "worker-2"),
        Cancelled(1, 4.0, "no more"),
    ]
    (only,) = attempts(events, 1)
    assert (only.number, only.ended) == (2, 0.0)


def test_reports_of_unknown_attempts_are_left_out() -> None:
    assert attempts([Started(1, 1.0, 3, 5), Finished(1, 1.0, 0, Payload(b""), recalled=True)], 1) == []
