from __future__ import annotations

from heald.core.state import State
from heald.run.tally import Tally


def test_what_is_not_over_is_open() -> None:
    tally = Tally()
    tally.submitted = 10
    for state, times in ((State.done, 3), (State.failed, 2), (State.cancelled, 1)):
        for _ in range(times):
            tally.count(state)
    assert (tally.done, tally.failed, tally.cancelled, tally.open) == (3, 2, 1, 4)
