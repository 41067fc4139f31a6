from __future__ import annotations

import pytest

from heald.core.event import Failure
from heald.core.resources import Resources
from heald.core.retry import OUT_OF_MEMORY, USER, WORKER_LOST
from heald.core.task import Payload, Work
from heald.run.cluster import dialogue
from heald.run.cluster.loss import Losses
from heald.run.protocol import Define, Order


def losses(notice: float = 0.0, *, of_work: float = 0.0) -> Losses:
    work = Work("f", "function", b"", resources=Resources(notice=of_work))
    return Losses(notice, lambda digest: Define(digest, work, b""))


def order(task: int, work: bytes = b"w") -> Order:
    return Order(task, 1, work, Payload(b""))


@pytest.mark.parametrize(
    ("reason", "hint"), [("its power failed", "memory"), (dialogue.OVER, "walltime"), (dialogue.ENDED, "preempted")]
)
def test_a_task_may_lose_two_nodes_and_a_third_is_its_fault(reason: str, hint: str) -> None:
    counted = losses()
    assert [counted.by_node(order(task), "a1.n3", reason) for task in (7, 8, 7)] == [None, None, None]
    failure = counted.by_node(order(7), "a1.n3", reason)
    assert failure is not None
    assert failure.message == f"3 nodes were lost while it ran; the last, a1.n3: {reason}"
    assert (failure.kind, failure.final, hint in failure.hint) == (WORKER_LOST, True, True)


def test_one_whose_attempt_has_ended_begins_anew() -> None:
    counted = losses()
    for _ in range(2):
        counted.by_node(order(7), "a1.n3", "its power failed")
    counted.forget(7)
    assert counted.by_node(order(7), "a1.n3", "its power failed") is None


@pytest.mark.parametrize(("notice", "of_work", "work"), [(60.0, 0.0, b""), (0.0, 60.0, b"w")])
def test_the_end_of_an_allocation_is_expected_by_who_was_told(notice: float, of_work: float, work: bytes) -> None:
    counted = losses(notice, of_work=of_work)
    assert [counted.by_node(order(7, work), "a1.n3", dialogue.OVER) for _ in range(9)] == [None] * 9


def test_a_full_disk_may_be_why_a_task_fails_by_its_own_doing() -> None:
    counted = losses()
    assert not counted.by_disk(7, Failure(OUT_OF_MEMORY, "killed"))
    assert [counted.by_disk(7, Failure(USER, "OSError")) for _ in range(3)] == [True, True, False]
