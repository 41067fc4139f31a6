from __future__ import annotations

import queue
from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec
import pytest

from heald.core.errors import ConfigurationError
from heald.core.placement import Placement
from heald.core.resources import Resources
from heald.run.cluster.settings import AgentSettings
from heald.run.guest.landlord import ClusterLost, Look, Place
from heald.run.guest.lodging import Lodging
from heald.site.profile import Site
from heald.wire.key import Pair

SMALL, LARGE = Place("small", 2, memory=100), Place("large", 8, gpus=1)
GIVEN = AgentSettings(
    allocation="",
    endpoints=(),
    head="h" * 40,
    pair=Pair("p" * 40, "s" * 40),
    run="",
    directory="",
    path=(),
    site=Site("x"),
)


class FakeLandlord:
    """Does what it is told, and says so."""

    name = "the cluster"

    def __init__(self) -> None:
        self.places = [SMALL, LARGE]
        self.begun: queue.SimpleQueue[tuple[str, Place, AgentSettings]] = queue.SimpleQueue()
        self.ended: list[str] = []
        self.over: dict[str, str] = {}
        self.fault: Exception | None = None
        self.closed = False

    def look(self) -> Look:
        if self.fault is not None:
            raise self.fault
        over, self.over = self.over, {}
        return Look(tuple(self.places), tuple(self.places), over)

    def begin(self, agent: str, place: Place, given: bytes) -> None:
        self.places.remove(place)
        self.begun.put((agent, place, msgspec.json.decode(given, type=AgentSettings)))

    def end(self, agents: Collection[str]) -> None:
        self.ended.extend(agents)

    def close(self) -> None:
        self.closed = True


class Remote:
    def __init__(self) -> None:
        self.idle = 0.0

    def idle_for(self, now: float) -> float:
        return self.idle


class FakeOwner:
    """The engine's thread is the test's own: what is posted is done by `turn`."""

    label = "x"

    def __init__(self) -> None:
        self.placement = Placement()
        self.inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.there: dict[str, Remote] = {}
        self.retired: list[str] = []
        self.given_up: list[tuple[str, str]] = []
        self.reasons: list[str] = []

    def post(self, act: Callable[[], None]) -> None:
        self.inbox.put(act)

    def broken(self, reason: str) -> None:
        self.reasons.append(reason)

    def remotes(self, allocation: str) -> list[Any]:
        return [self.there[allocation]] if allocation in self.there else []

    def retire(self, allocation: str, reason: str) -> None:
        self.retired.append(allocation)

    def give_up(self, allocation: str, reason: str) -> None:
        self.given_up.append((allocation, reason))

    def turn(self, until: Callable[[], object]) -> None:
        while not until():
            self.inbox.get(timeout=10)()


class Case:
    def __init__(self) -> None:
        self.landlord, self.owner = FakeLandlord(), FakeOwner()
        self.lodging = Lodging(self.landlord, self.landlord.look(), GIVEN, 5.0, self.owner)
        self.lodging.start()

    def push(self, task: int, **needs: Any) -> None:
        self.owner.placement.push(task, Resources(**needs))
        self.lodging.consider()

    def serve(self) -> str:
        """The agent that was begun comes."""
        name, _, _ = self.landlord.begun.get(timeout=10)
        self.owner.there[name] = Remote()
        self.lodging.met(name)
        return name


@pytest.fixture
def case() -> Iterator[Case]:
    case = Case()
    yield case
    case.lodging.close()
    assert case.landlord.closed


def test_the_largest_place_is_taken_first_and_told_what_it_has(case: Case) -> None:
    case.push(1)
    name, place, told = case.landlord.begun.get(timeout=10)
    assert place == LARGE
    assert (told.allocation, told.workers) == (name, 8)
    assert len(case.lodging.agents) == 1


def test_as_many_places_are_taken_as_there_are_tasks_for(case: Case) -> None:
    case.owner.placement.push(1, Resources(cpus=4))
    case.owner.placement.push(2, Resources(cpus=5))
    case.lodging.consider()
    assert [case.landlord.begun.get(timeout=10)[1] for _ in range(2)] == [LARGE, SMALL]


def test_nothing_is_taken_without_a_task(case: Case) -> None:
    case.lodging.consider()
    assert not case.lodging.agents


def test_what_is_idle_is_given_back(case: Case) -> None:
    case.push(1)
    name = case.serve()
    case.owner.placement.place(0.0)
    case.owner.placement.discard(1, Resources())
    case.owner.there[name].idle = 6.0
    case.owner.turn(lambda: case.owner.retired == [name])
    case.lodging.lost(name, "it had nothing to do")
    assert not case.lodging.agents
    assert not case.owner.reasons


def test_a_lost_agent_is_given_up_with_the_reason(case: Case) -> None:
    case.push(1)
    name = case.serve()
    case.landlord.over = {name: "the worker is gone"}
    case.owner.turn(lambda: case.owner.given_up)
    assert case.owner.given_up == [(name, "the worker is gone")]


def test_agents_that_never_come_are_not_begun_for_ever(case: Case) -> None:
    case.push(1)
    for _ in range(3):
        name, place, _ = case.landlord.begun.get(timeout=10)
        case.landlord.places.append(place)
        case.landlord.over = {name: "no module named heald"}
        case.owner.turn(lambda name=name: name not in case.lodging.agents)  # type: ignore[misc]
    assert case.owner.reasons == ["no agent can be started in the cluster: no module named heald"]


def test_an_agent_of_another_version_is_enough(case: Case) -> None:
    case.push(1)
    name, _, _ = case.landlord.begun.get(timeout=10)
    case.lodging.refused(name, "heald 1 there and 2 here")
    assert case.owner.reasons == ["no agent can be started in the cluster: heald 1 there and 2 here"]


@pytest.mark.parametrize("fault", [ClusterLost("it is lost"), ValueError("odd")])
def test_a_lost_cluster_breaks_what_has_no_agent(case: Case, fault: Exception) -> None:
    case.landlord.fault = fault
    case.owner.turn(lambda: case.owner.reasons)
    assert case.owner.reasons == [
        "it is lost" if isinstance(fault, ClusterLost) else "the cluster cannot be used: ValueError: odd"
    ]


def test_agents_of_a_lost_cluster_go_on(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    case.push(1)
    name = case.serve()
    case.landlord.fault = ClusterLost("it is lost")
    case.owner.turn(lambda: caplog.records)
    assert not case.owner.reasons
    case.lodging.lost(name, "silence")
    assert case.owner.reasons == ["it is lost"]


def test_unfit_goes_by_the_largest_place(case: Case) -> None:
    assert case.lodging.unfit(Resources(cpus=8, gpus=1)) is None
    assert "needs 9 cpus on a node" in str(case.lodging.unfit(Resources(cpus=9)))
    case.landlord.places.clear()
    empty = Lodging(case.landlord, case.landlord.look(), GIVEN, 5.0, case.owner)
    assert empty.unfit(Resources(cpus=9)) is None  # there may be one some day


def test_closing_ends_all(case: Case) -> None:
    case.push(1)
    name = case.serve()
    case.lodging.close()
    assert case.landlord.ended == [name]


def test_configuration_errors_are_told(case: Case) -> None:
    case.landlord.fault = ConfigurationError("not so")
    case.owner.turn(lambda: case.owner.reasons)
    assert "not so" in case.owner.reasons[0]
