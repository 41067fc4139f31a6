"""The agents that are here, found by whatever is known of them, however many they are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from heald.run.cluster.dialogue import Hello
from heald.run.cluster.lane import FarLane, Remote

_Place = tuple[str, str, int]


class Register:
    """Agents by name, node, allocation and place; and which lanes of others use a node too."""

    def __init__(self) -> None:
        self._agents: dict[bytes, Remote] = {}
        self.nodes: dict[str, Remote] = {}  # by the name of the node
        self._allocations: dict[str, dict[bytes, Remote]] = {}
        self._places: dict[_Place, Remote] = {}
        self._guests: dict[str, set[FarLane]] = {}  # by node: lanes that had a share of it; also of nodes to come

    def add(self, remote: Remote) -> None:
        """An agent has come."""
        self._agents[remote.name] = self.nodes[remote.node.name] = self._places[_place(remote.hello)] = remote
        self._allocations.setdefault(remote.hello.allocation, {})[remote.name] = remote

    def remove(self, name: bytes) -> Remote:
        """An agent has gone."""
        remote = self._agents.pop(name)
        del self.nodes[remote.node.name]
        if self._places.get(_place(remote.hello)) is remote:
            del self._places[_place(remote.hello)]
        others = self._allocations[remote.hello.allocation]
        del others[name]
        if not others:
            del self._allocations[remote.hello.allocation]
        return remote

    def get(self, name: bytes) -> Remote | None:
        """The agent of that name, if it is here."""
        return self._agents.get(name)

    def of(self, allocation: str) -> list[Remote]:
        """The agents of an allocation."""
        return list(self._allocations.get(allocation, {}).values())

    def before(self, hello: Hello) -> Remote | None:
        """The agent that was where this one is: the next one of a warden comes after the former one's death."""
        return self._places.get(_place(hello))

    def free_name(self, hello: Hello) -> str:
        """A name for the node of an agent that no other has."""
        name = f"{hello.allocation}.{hello.host}"
        others = (f"{name}#{number}" for number in itertools.count(2))
        return name if name not in self.nodes else next(one for one in others if one not in self.nodes)

    def spread(self, lane: FarLane) -> None:
        """The lane has a lease, perhaps of several nodes."""
        assert lane.lease is not None
        for share in lane.lease.shares[1:]:
            self._guests.setdefault(share.node, set()).add(lane)

    def guests(self, node: str) -> list[FarLane]:
        """The lanes that a node which has gone leaves with a share of it."""
        had = self._guests.pop(node, set())
        return [lane for lane in had if lane.lease and any(share.node == node for share in lane.lease.shares[1:])]

    def __iter__(self) -> Iterator[Remote]:
        return iter(self._agents.values())


def _place(hello: Hello) -> _Place:
    return hello.allocation, hello.host, hello.place
