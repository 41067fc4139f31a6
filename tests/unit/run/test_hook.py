from __future__ import annotations

import sys

from heald.core.event import Failure
from heald.core.retry import USER
from heald.run.hook import judged

NO = Failure(USER, "ValueError: no")


def test_the_hook_sees_the_failure_and_the_attempt() -> None:
    seen: list[tuple[Failure, int]] = []

    def hook(failure: Failure, attempt: int) -> bool:
        seen.append((failure, attempt))
        return True

    assert judged(hook, NO, 2) is NO
    assert seen == [(NO, 2)]


def test_who_wants_no_other_try_makes_it_final() -> None:
    assert judged(lambda failure, attempt: False, NO, 1) == Failure(USER, "ValueError: no", final=True)


def test_a_hook_that_raises_ends_it() -> None:
    found = judged(lambda failure, attempt: 1 / 0, NO, 1)
    assert found.final
    assert found.message == "ValueError: no; its retry hook raised ZeroDivisionError: division by zero"


def test_a_hook_that_calls_sys_exit_ends_it_and_no_more() -> None:
    found = judged(lambda failure, attempt: sys.exit(4), NO, 1)
    assert (found.message, found.final) == ("ValueError: no; its retry hook raised SystemExit: 4", True)
