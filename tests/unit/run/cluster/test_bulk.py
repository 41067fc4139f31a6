from __future__ import annotations

import gc
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heald.core.errors import UsageError
from heald.core.ref import Ref
from heald.core.task import Payload
from heald.data.arena import Arena, ArenaFull
from heald.run.cluster.bulk import PART, WINDOW, Inlet, Outlet, closed
from heald.run.cluster.dialogue import Drop, Part, Release

SIZES = (0, 1, PART - 1, PART, PART + 1, 3 * PART, 5 * PART + 7)


class Way:
    """From one machine to another: what `outlet` gives, `inlet` gets."""

    def __init__(self, *, keep=False, capacity=2**26):
        self.woken = 0
        self.here, self.there = Arena(capacity=2**26), Arena(capacity=capacity)
        self.outlet = Outlet(self.here, self._wake, keep=keep)
        self.inlet = Inlet(self.there, _nothing, keep=not keep)
        self.sent = 0

    def _wake(self):
        self.woken += 1

    def payload(self, *sizes):
        return Payload(b"data", tuple(self.here.write(os.urandom(size)) for size in sizes))

    def step(self):
        """Bring over what there is room for; whether there was anything."""
        parts = list(self.outlet.parts())
        for part, data in parts:
            self.sent += len(data)
            self.inlet.take(part, bytes(data))
        if (got := self.inlet.got()) is not None:
            self.outlet.made_room(got.count)
        return bool(parts)

    def bring(self):
        while self.step():
            pass

    def content(self, payload):
        return [bytes(self.there.read(ref)) for ref in payload.buffers]

    def original(self, payload):
        return [bytes(self.here.read(ref)) for ref in payload.buffers]


def _nothing(serial):
    raise KeyError(serial)


@pytest.fixture
def way():
    return Way()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keep", [False, True])
def test_a_value_arrives_whole(size, keep):
    way = Way(keep=keep)
    payload = way.payload(size)
    travelling = closed(payload, way.outlet)
    assert [ref.size for ref in travelling.buffers] == [size]
    assert not way.inlet.complete(travelling)
    way.bring()
    assert way.inlet.complete(travelling)
    assert way.content(way.inlet.opened(travelling)) == way.original(payload)


@given(st.lists(st.integers(0, 4 * PART), max_size=6))
@settings(deadline=None, max_examples=30)
def test_values_of_any_sizes_arrive_whole(sizes):
    way = Way()
    payload = way.payload(*sizes)
    travelling = closed(payload, way.outlet)
    way.bring()
    assert way.content(way.inlet.opened(travelling)) == way.original(payload)
    assert way.sent == sum(sizes)


def test_what_has_no_large_values_stays_as_it_is(way):
    payload = Payload(b"small")
    assert closed(payload, way.outlet) is payload
    assert way.inlet.complete(payload)
    assert way.inlet.opened(payload) is payload
    assert not way.step()


def test_values_within_inputs(way):
    payload = Payload(b"frame", way.payload(10).buffers, (way.payload(20), Payload(b"x", (), (way.payload(30),))))
    travelling = closed(payload, way.outlet)
    assert not way.inlet.complete(travelling)
    way.bring()
    opened = way.inlet.opened(travelling)
    assert way.content(opened.inputs[1].inputs[0]) == way.original(payload.inputs[1].inputs[0])
    assert opened.size == payload.size


def test_what_both_can_read_travels_by_name(way):
    file = Ref("file:///shared/values/1", 10**9)
    payload = Payload(b"", (file,))
    assert closed(payload, way.outlet) == payload
    assert way.inlet.complete(payload)
    assert way.inlet.opened(payload) == payload


# -- how much is under way ---------------------------------------------------------------------------------------------


def test_no_more_is_under_way_than_the_window(way):
    travelling = closed(way.payload(3 * WINDOW // 2, PART), way.outlet)
    first = list(way.outlet.parts())
    assert sum(len(data) for _, data in first) == WINDOW
    assert not list(way.outlet.parts())
    for part, data in first[:2]:
        way.inlet.take(part, bytes(data))
    assert way.woken == 2  # by two values
    way.outlet.made_room(way.inlet.got().count)
    assert way.woken == 3
    second = list(way.outlet.parts())
    assert sum(len(data) for _, data in second) == 2 * PART
    for part, data in [*first[2:], *second]:
        way.inlet.take(part, bytes(data))
    way.outlet.made_room(way.inlet.got().count)
    way.bring()
    assert way.inlet.complete(travelling)
    assert way.inlet.got() is None


def test_parts_are_of_one_size_and_in_order(way):
    closed(way.payload(2 * PART + 1), way.outlet)
    assert [part for part, _ in way.outlet.parts()] == [Part(1, 2 * PART + 1, offset) for offset in (0, PART, 2 * PART)]


@pytest.mark.parametrize(
    ("part", "size"),
    [
        (Part(7, 10, 0), 9),
        (Part(7, 10, 0), 11),
        (Part(7, 10, 5), 5),
        (Part(7, -1, 0), 0),
        (Part(7, 3 * PART, PART), PART),
        (Part(7, 3 * PART, 0), 3 * PART),
        (Part(1, 2 * PART, 0), PART),  # once more
        (Part(1, 3 * PART, PART), PART),  # it grew
        (Part(2, 5, 0), 5),  # it is here already
    ],
)
def test_a_part_that_cannot_be(way, part, size):
    way.inlet.take(Part(1, 2 * PART, 0), bytes(PART))
    way.inlet.take(Part(2, 5, 0), bytes(5))
    with pytest.raises(UsageError, match="cannot be part of a value"):
        way.inlet.take(part, bytes(size))


# -- once --------------------------------------------------------------------------------------------------------------


def test_a_value_that_many_mention_is_sent_once(way):
    payload = way.payload(3 * PART)
    travelling = [closed(Payload(b"%d" % number, payload.buffers), way.outlet) for number in range(5)]
    way.bring()
    assert way.sent == 3 * PART
    found = {way.inlet.opened(one).buffers[0].uri for one in travelling}
    assert len(found) == 1


def test_a_value_that_came_is_not_sent_back():
    """An agent's result becomes the argument of a task on the same node."""
    home = Way(keep=True)  # agent to head
    out = Way()  # head to agent
    out.here = home.there
    out.outlet = Outlet(home.there, int)
    out.inlet = Inlet(home.here, home.outlet.kept, keep=True)
    result = home.payload(2 * PART)
    told = closed(result, home.outlet)
    home.bring()
    known = home.inlet.opened(told, out.outlet.came)
    asked = closed(known, out.outlet)
    assert [ref.uri for ref in asked.buffers] == ["own:1"]
    assert out.inlet.complete(asked)
    assert out.inlet.opened(asked).buffers[0] is result.buffers[0]
    assert not out.step()
    # When the head needs it no more, the agent may forget it.
    del known
    gc.collect()
    assert out.outlet.over() == [Release((1,))]
    home.outlet.released((1,))
    with pytest.raises(UsageError, match="own:1 names no value that was given"):
        out.inlet.opened(asked)


def test_a_value_that_may_be_mentioned_once_is_gone_then():
    way = Way(keep=True)
    travelling = closed(way.payload(10), way.outlet)
    way.bring()
    assert way.inlet.opened(travelling).buffers
    with pytest.raises(UsageError, match="names no value"):
        way.inlet.opened(travelling)


# -- when they are needed no more --------------------------------------------------------------------------------------


def test_the_other_end_is_told_what_to_drop(way):
    payloads = [way.payload(PART) for _ in range(3)]
    travelling = [closed(one, way.outlet) for one in payloads]
    way.bring()
    assert way.outlet.over() == []
    woken = way.woken
    del payloads[1]
    gc.collect()
    assert way.woken == woken + 1
    assert way.outlet.over() == [Drop((2,))]
    assert way.outlet.over() == []
    way.inlet.drop((2,))
    assert [way.inlet.complete(one) for one in travelling] == [True, False, True]


def test_nothing_that_was_collected_is_forgotten_when_another_value_is_named(way):
    payload = way.payload(10)
    closed(payload, way.outlet)
    way.bring()
    del payload
    gc.collect()
    other = way.payload(10)  # perhaps where the former was in memory
    assert closed(other, way.outlet).buffers[0].uri == "far:2"
    assert way.outlet.over() == [Drop((1,))]


def test_a_value_is_kept_until_all_of_it_was_sent(way):
    payload = way.payload(2 * WINDOW)
    content = way.original(payload)
    travelling = closed(payload, way.outlet)
    way.step()
    del payload
    gc.collect()
    assert way.outlet.over() == []
    way.bring()
    assert way.content(way.inlet.opened(travelling)) == content
    gc.collect()
    assert way.outlet.over() == [Drop((1,))]


def test_memory_at_the_other_end_is_free_again_when_a_value_is_dropped():
    way = Way(capacity=4 * PART)
    for serial in range(1, 10):
        payload = way.payload(3 * PART)
        travelling = closed(payload, way.outlet)
        way.bring()
        way.inlet.opened(travelling)
        way.inlet.drop((serial,))


# -- no room -----------------------------------------------------------------------------------------------------------


def test_a_value_without_room_is_an_error_of_whoever_needs_it():
    way = Way(capacity=4 * PART)
    small, large, other = way.payload(PART), way.payload(20 * PART), way.payload(PART)
    travelling = [closed(one, way.outlet) for one in (small, large, other)]
    way.bring()
    assert all(map(way.inlet.complete, travelling))
    assert way.content(way.inlet.opened(travelling[0])) == way.original(small)
    assert way.content(way.inlet.opened(travelling[2])) == way.original(other)
    for _ in range(2):
        with pytest.raises(ArenaFull, match=f"no room for a value of {20 * PART} bytes"):
            way.inlet.opened(travelling[1])


def test_a_value_without_room_is_released_with_those_beside_it():
    """The head has no room for one of an agent's results: the agent need keep none of them."""
    way = Way(keep=True, capacity=4 * PART)
    back = Outlet(way.there, int)
    travelling = closed(way.payload(PART, 20 * PART, PART), way.outlet)
    way.bring()
    with pytest.raises(ArenaFull):
        way.inlet.opened(travelling, back.came)
    gc.collect()
    (release,) = back.over()
    assert isinstance(release, Release)
    assert sorted(release.serials) == [1, 2, 3]


# -- another process than before ---------------------------------------------------------------------------------------


def test_a_new_head_gets_what_it_is_told_and_nothing_else():
    way = Way(keep=True)
    committed, told, half = way.payload(PART), way.payload(2 * PART), way.payload(2 * WINDOW)
    travelling = [closed(one, way.outlet) for one in (committed, told, half)]
    way.step()
    way.inlet, way.sent = Inlet(way.there, _nothing), 0
    way.outlet.renew(travelling[1:])
    way.bring()
    assert way.sent == 2 * PART + 2 * WINDOW
    for one, original in zip(travelling[1:], (told, half), strict=True):
        assert way.content(way.inlet.opened(one)) == way.original(original)
    with pytest.raises(KeyError):
        way.outlet.kept(1)
    # What was forgotten gets a new name, should it ever be mentioned again.
    again = closed(committed, way.outlet)
    assert again.buffers[0].uri == "far:4"
    way.bring()
    assert way.content(way.inlet.opened(again)) == way.original(committed)


@pytest.mark.parametrize("uri", ["far:", "far:x", "far:-1", "far:0", "own:", "own:²", "shm:4096"])
def test_names_that_are_none_are_left_to_whoever_reads_them(way, uri):
    payload = Payload(b"", (Ref(uri, 1),))
    assert way.inlet.complete(payload)
    assert way.inlet.opened(payload) == payload


def test_names_of_values_that_were_never_given(way):
    for uri in ("far:7", "own:7"):
        with pytest.raises(UsageError, match=f"{uri} names no value that was given"):
            way.inlet.opened(Payload(b"", (Ref(uri, 1),)))
