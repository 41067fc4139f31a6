from __future__ import annotations

from collections import deque

import pytest

from heald.core.state import CASCADES, TRANSITIONS, State

WAYS = {state: {target for (source, _), targets in TRANSITIONS.items() if source is state for target in targets}
        for state in State}  # fmt: skip


def test_seven_states_of_which_three_are_final() -> None:
    assert len(State) == 7
    assert [state for state in State if state.final] == [State.done, State.failed, State.cancelled]


def test_nothing_leads_out_of_a_final_state() -> None:
    assert all(not WAYS[state] and state not in CASCADES for state in State if state.final)


@pytest.mark.parametrize("state", [state for state in State if not state.final], ids=lambda state: state.name)
def test_every_open_state_is_reached_and_left_for_each_end(state: State) -> None:
    assert state in reached(State.waiting)
    assert reached(state) >= {State.done, State.failed, State.cancelled}


@pytest.mark.parametrize("state", [state for state in State if not state.final], ids=lambda state: state.name)
def test_any_open_task_can_be_cancelled(state: State) -> None:
    assert TRANSITIONS[state, "cancelled"] == (State.cancelled,)
    assert State.cancelled in CASCADES[state]


def test_nothing_runs_without_a_place() -> None:
    assert [source for source, ways in WAYS.items() if State.placed in ways] == [State.ready]
    assert [source for source, ways in WAYS.items() if State.running in ways] == [State.placed]


def reached(start: State) -> set[State]:
    seen, queue = {start}, deque([start])
    while queue:
        fresh = WAYS[queue.popleft()] - seen
        seen |= fresh
        queue.extend(fresh)
    return seen
