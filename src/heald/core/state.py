"""The seven states of a task and the only ways between them.

Joining is no state: a join task goes back to `waiting` for the tasks that its body submitted.
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """Where a task is in its life.

    >>> [state.name for state in State if state.final]
    ['done', 'failed', 'cancelled']
    """

    waiting = 0  # for tasks that it needs, or for the end of a pause before a retry
    ready = 1  # for a place
    placed = 2  # it has a place, and may have been sent there
    running = 3
    done = 4
    failed = 5
    cancelled = 6

    @property
    def final(self) -> bool:
        """Nothing can happen to the task any more."""
        return self >= State.done


# (state, kind of event) -> the states that the event may lead to. What is not listed here is a late or
# repeated report, and is ignored: reports cross each other on the way.
TRANSITIONS: dict[tuple[State, str], tuple[State, ...]] = {
    (State.waiting, "submitted"): (State.waiting, State.ready, State.failed, State.cancelled),
    (State.waiting, "finished"): (State.waiting, State.ready, State.failed, State.cancelled, State.done),
    (State.waiting, "due"): (State.ready,),
    (State.waiting, "cancelled"): (State.cancelled,),
    (State.ready, "placed"): (State.placed,),
    (State.ready, "finished"): (State.done, State.failed),  # recalled from the memo, or refused by every place
    (State.ready, "cancelled"): (State.cancelled,),
    (State.placed, "started"): (State.running,),
    (State.placed, "returned"): (State.ready,),
    (State.placed, "expanded"): (State.waiting, State.done, State.failed),
    (State.placed, "finished"): (State.done, State.failed, State.waiting, State.ready),
    (State.placed, "cancelled"): (State.cancelled,),
    (State.running, "returned"): (State.ready,),
    (State.running, "expanded"): (State.waiting, State.done, State.failed),
    (State.running, "finished"): (State.done, State.failed, State.waiting, State.ready),
    (State.running, "cancelled"): (State.cancelled,),
}
