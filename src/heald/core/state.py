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


_OVER = (State.done, State.failed, State.cancelled)
_OPEN = (State.waiting, State.ready, State.placed, State.running)

# (state, kind of event) -> the states that the event may lead to. What is not listed here is a late or repeated
# report, and is ignored: reports cross each other on the way. The graph looks here which events a state accepts.
TRANSITIONS: dict[tuple[State, str], tuple[State, ...]] = {
    (State.waiting, "submitted"): (State.waiting, State.ready, State.failed, State.cancelled),
    (State.waiting, "due"): (State.ready,),
    (State.waiting, "finished"): _OVER,  # recalled from an earlier process
    (State.ready, "finished"): _OVER,  # recalled from the memo, or refused by every place
    (State.ready, "placed"): (State.placed,),
    (State.placed, "started"): (State.running,),
    (State.placed, "returned"): (State.ready,),
    (State.placed, "expanded"): (State.waiting, *_OVER),
    (State.placed, "finished"): (State.waiting, State.ready, *_OVER),
    (State.running, "returned"): (State.ready,),
    (State.running, "expanded"): (State.waiting, *_OVER),
    (State.running, "finished"): (State.waiting, State.ready, *_OVER),
    **{(state, "cancelled"): (State.cancelled,) for state in _OPEN},
}

# What the end of one task may do to another: to one that needs it, and to one whose future a cancelled join returned.
CASCADES: dict[State, tuple[State, ...]] = {
    State.waiting: (State.ready, *_OVER),
    State.ready: (State.cancelled,),
    State.placed: (State.cancelled,),
    State.running: (State.cancelled,),
}
