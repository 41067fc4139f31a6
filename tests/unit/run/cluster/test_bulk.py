from __future__ import annotations

import gc
import os

import pytest

from heald.core.errors import UsageError
from heald.core.ref import Ref
from heald.core.task import Payload
from heald.data.arena import Arena, ArenaFull
from heald.run.cluster.bulk import Inlet, Outlet, closed
from heald.run.cluster.dialogue import Drop, Release

PART = 2**16
SIZES = (0, 1, PART, 5 * PART + 7)


class Way:
    """From one machine to another: what `outlet` gives, `inlet` gets. `bring` does what a porter does."""

    def __init__(self, *, keep=False, capacity=2**26):
        self.woken = 0
        self.keep = keep
        self.here, self.there = Arena(capacity=2**26), Arena(capacity=capacity)
        self.outlet = Outlet(self.here, self._wake, keep=keep)
        self.begin()

    def begin(self):
        """The receiver is another process than before, if there was one."""
        self.asked = []
        self.sent = 0
        self.inlet = Inlet(self.there, lambda *asked: self.asked.append(asked), _nothing, keep=not self.keep)

    def _wake(self):
        self.woken += 1

    def payload(self, *sizes):
        return Payload(b"data", tuple(self.here.write(os.urandom(size)) for size in sizes))

    def bring(self, *travelling):
        """Bring over what these mention."""
        for payload in travelling:
            self.inlet.want(payload)
        while self.asked:
            serial, window, ref = self.asked.pop(0)
            window[:] = self.outlet.find(serial)
            self.sent += window.nbytes
            assert self.inlet.came(serial, ref)
            if not self.keep:
                self.outlet.released((serial,))

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
    way.bring(travelling)
    assert way.inlet.complete(travelling)
    assert way.content(way.inlet.opened(travelling)) == way.original(payload)


def test_what_has_no_large_values_stays_as_it_is(way):
    payload = Payload(b"small")
    assert closed(payload, way.outlet) is payload
    assert way.inlet.complete(payload)
    assert way.inlet.opened(payload) is payload
    way.inlet.want(payload)
    assert not way.asked


def test_values_within_inputs(way):
    payload = Payload(b"frame", way.payload(10).buffers, (way.payload(20), Payload(b"x", (), (way.payload(30),))))
    travelling = closed(payload, way.outlet)
    assert not way.inlet.complete(travelling)
    way.bring(travelling)
    opened = way.inlet.opened(travelling)
    assert way.content(opened.inputs[1].inputs[0]) == way.original(payload.inputs[1].inputs[0])
    assert opened.size == payload.size


def test_what_both_can_read_travels_by_name(way):
    file = Ref("file:///shared/values/1", 10**9)
    payload = Payload(b"", (file,))
    assert closed(payload, way.outlet) == payload
    assert way.inlet.complete(payload)
    assert way.inlet.opened(payload) == payload


def test_what_was_dropped_meanwhile_is_not_taken_in(way):
    travelling = closed(way.payload(PART), way.outlet)
    way.inlet.want(travelling)
    way.inlet.drop((1,))
    ((serial, _, ref),) = way.asked
    assert not way.inlet.came(serial, ref)
    assert not way.inlet.complete(travelling)


def test_what_was_asked_for_in_another_conversation_is_not_taken_in(way):
    travelling = closed(way.payload(PART), way.outlet)
    way.inlet.want(travelling)
    ((serial, _, former),) = way.asked
    way.begin()
    way.inlet.want(travelling)
    assert not way.inlet.came(serial, former)
    assert not way.inlet.complete(travelling)


def test_a_size_that_cannot_be(way):
    with pytest.raises(UsageError, match="a value of -1 bytes"):
        way.inlet.want(Payload(b"", (Ref("far:1", -1),)))


# -- once --------------------------------------------------------------------------------------------------------------


def test_a_value_that_many_mention_is_sent_once(way):
    payload = way.payload(3 * PART)
    travelling = [closed(Payload(b"%d" % number, payload.buffers), way.outlet) for number in range(5)]
    way.bring(*travelling)
    assert way.sent == 3 * PART
    found = {way.inlet.opened(one).buffers[0].uri for one in travelling}
    assert len(found) == 1


def test_a_value_that_came_is_not_sent_back():
    """An agent's result becomes the argument of a task on the same node."""
    home = Way(keep=True)  # agent to head
    out = Way()  # head to agent
    out.outlet = Outlet(home.there, int)
    out.inlet = Inlet(home.here, lambda *asked: out.asked.append(asked), home.outlet.kept, keep=True)
    result = home.payload(2 * PART)
    told = closed(result, home.outlet)
    home.bring(told)
    known = home.inlet.opened(told, out.outlet.came)
    asked = closed(known, out.outlet)
    assert [ref.uri for ref in asked.buffers] == ["own:1"]
    assert out.inlet.complete(asked)
    assert out.inlet.opened(asked).buffers[0] is result.buffers[0]
    out.inlet.want(asked)
    assert not out.asked
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
    way.bring(travelling)
    assert way.inlet.opened(travelling).buffers
    with pytest.raises(UsageError, match="names no value"):
        way.inlet.opened(travelling)


# -- when they are needed no more --------------------------------------------------------------------------------------


def test_the_other_end_is_told_what_to_drop(way):
    payloads = [way.payload(PART) for _ in range(3)]
    travelling = [closed(one, way.outlet) for one in payloads]
    way.bring(*travelling)
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
    way.bring(closed(payload, way.outlet))
    del payload
    gc.collect()
    other = way.payload(10)  # perhaps where the former was in memory
    assert closed(other, way.outlet).buffers[0].uri == "far:2"
    assert way.outlet.over() == [Drop((1,))]


def test_a_value_is_kept_until_the_other_end_has_it(way):
    payload = way.payload(2 * PART)
    content = way.original(payload)
    travelling = closed(payload, way.outlet)
    del payload
    gc.collect()
    assert way.outlet.over() == []
    way.bring(travelling)
    assert way.content(way.inlet.opened(travelling)) == content
    gc.collect()
    assert way.outlet.over() == [Drop((1,))]
    assert way.outlet.find(1) is None


def test_memory_at_the_other_end_is_free_again_when_a_value_is_dropped():
    way = Way(capacity=4 * PART)
    for serial in range(1, 10):
        payload = way.payload(3 * PART)
        travelling = closed(payload, way.outlet)
        way.bring(travelling)
        way.inlet.opened(travelling)
        way.inlet.drop((serial,))


# -- no room -----------------------------------------------------------------------------------------------------------


def test_a_value_without_room_is_an_error_of_whoever_needs_it():
    way = Way(capacity=4 * PART)
    small, large, other = way.payload(PART), way.payload(20 * PART), way.payload(PART)
    travelling = [closed(one, way.outlet) for one in (small, large, other)]
    way.bring(*travelling)
    assert all(map(way.inlet.complete, travelling))
    assert way.content(way.inlet.opened(travelling[0])) == way.original(small)
    assert way.content(way.inlet.opened(travelling[2])) == way.original(other)
    for _ in range(2):
        with pytest.raises(ArenaFull, match=f"no room for a value of {20 * PART} bytes"):
            way.inlet.opened(travelling[1])


def test_a_value_without_room_comes_once_there_is_some():
    way = Way(capacity=4 * PART)
    first, second = (closed(way.payload(3 * PART), way.outlet) for _ in range(2))
    way.bring(first, second)
    with pytest.raises(ArenaFull):
        way.inlet.opened(second)
    way.inlet.drop((1,))
    way.bring(second)
    assert way.inlet.opened(second).buffers[0].size == 3 * PART


def test_a_value_without_room_is_released_with_those_beside_it():
    """The head has no room for one of an agent's results: the agent need keep none of them."""
    way = Way(keep=True, capacity=4 * PART)
    back = Outlet(way.there, int)
    travelling = closed(way.payload(PART, 20 * PART, PART), way.outlet)
    way.bring(travelling)
    with pytest.raises(ArenaFull):
        way.inlet.opened(travelling, back.came)
    gc.collect()
    (release,) = back.over()
    assert isinstance(release, Release)
    assert sorted(release.serials) == [1, 2, 3]


# -- another process than before ---------------------------------------------------------------------------------------


def test_a_new_head_gets_what_it_is_told_and_nothing_else():
    way = Way(keep=True)
    committed, told, half = way.payload(PART), way.payload(2 * PART), way.payload(3 * PART)
    travelling = [closed(one, way.outlet) for one in (committed, told, half)]
    way.bring(*travelling[:2])
    way.begin()
    way.outlet.renew(travelling[1:])
    way.bring(*travelling[1:])
    assert way.sent == 5 * PART
    for one, original in zip(travelling[1:], (told, half), strict=True):
        assert way.content(way.inlet.opened(one)) == way.original(original)
    with pytest.raises(KeyError):
        way.outlet.kept(1)
    # What was forgotten gets a new name, should it ever be mentioned again.
    again = closed(committed, way.outlet)
    assert again.buffers[0].uri == "far:4"
    way.bring(again)
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
