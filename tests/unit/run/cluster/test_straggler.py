from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from heald.core.placement import Lease, Share
from heald.core.resources import Resources
from heald.run.cluster.dialogue import Sweep
from heald.run.cluster.straggler import Stragglers

FOUR = Lease(1, (Share("a1.n1", (0, 1), ranks=2), Share("a1.n2", (0, 1), ranks=2)), Resources(ranks=4, nodes=2))


def remote(name: str) -> Any:
    told: list[Sweep] = []
    return SimpleNamespace(node=SimpleNamespace(name=name), told=told, tell=told.append)


def lane(lease: Lease | None) -> Any:
    return SimpleNamespace(lease=lease)


@pytest.fixture
def remotes() -> dict[str, Any]:
    return {name: remote(name) for name in ("a1.n1", "a1.n2", "a1.n3")}


def test_all_nodes_of_the_attempt_are_asked(remotes: dict[str, Any]) -> None:
    Stragglers(remotes).end(lane(FOUR), 7, 2)
    assert {name: one.told for name, one in remotes.items()} == {
        "a1.n1": [Sweep(7, 2)], "a1.n2": [Sweep(7, 2)], "a1.n3": [],
    }  # fmt: skip


@pytest.mark.parametrize("lease", [None, Lease(1, (Share("a1.n1", (0,)),), Resources())])
def test_what_has_one_rank_ends_with_its_worker(remotes: dict[str, Any], lease: Lease | None) -> None:
    Stragglers(remotes).end(lane(lease), 7, 1)
    assert not any(one.told for one in remotes.values())


def test_a_node_whose_agent_is_gone_is_asked_when_the_next_comes(remotes: dict[str, Any]) -> None:
    stragglers = Stragglers(remotes)
    del remotes["a1.n2"]
    stragglers.end(lane(FOUR), 7, 1)
    for again in (remote("a1.n2"), remote("a1.n4")):
        stragglers.met(again)
        assert again.told == ([Sweep(7, 1)] if again.node.name == "a1.n2" else [])
    once_more = remote("a1.n2")
    stragglers.met(once_more)
    assert not once_more.told
