"""What does not need a running task; the rest is tests/contract/test_executor.py."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import heald
from heald.run.executor import Executor


class Mine(Executor):
    def __init__(self, label: str = "mine", *, nodes: int = 1) -> None:
        super().__init__(label)
        self.nodes = nodes

    def _arguments(self) -> dict[str, Any]:
        return {"label": self.label, "nodes": self.nodes}


def test_settings_are_shown_and_travel() -> None:
    made = Mine(nodes=4)
    assert repr(made) == "heald.Mine(label='mine', nodes=4)"
    again = pickle.loads(pickle.dumps(made))
    assert again.nodes == 4
    assert repr(again) == repr(made)


def test_it_has_nothing_to_shut_down_before_the_first_task() -> None:
    made = Mine()
    made.shutdown()
    made.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="after shutdown"):
        made.submit(abs, -1)


def test_a_copy_of_one_that_was_shut_down_is_fresh() -> None:
    made = heald.ThreadExecutor(1)
    made.shutdown()
    with pickle.loads(pickle.dumps(made)) as again:
        assert again.submit(abs, -1).result() == 1


def test_without_a_pool_it_runs_nothing() -> None:
    with pytest.raises(heald.ConfigurationError, match="Mine runs nothing"):
        Mine().submit(abs, -1)


@pytest.mark.parametrize("label", ["", "join", None, 3])
def test_a_label_is_a_name(label: Any) -> None:
    with pytest.raises(heald.ConfigurationError, match="label="):
        Mine(label)


def test_map_refuses_a_chunksize_below_one() -> None:
    with pytest.raises(ValueError, match="chunksize"):
        Mine().map(abs, [], chunksize=0)
