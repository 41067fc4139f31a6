from __future__ import annotations

import os
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heald.core.errors import UsageError
from heald.wire import key
from heald.wire.seal import TAG, Agreement
from heald.wire.stream import PART, Stream, Want

KEYS = key.new()
HEADER = struct.Struct("!BQQ")
WANT, PART_OF = 1, 2


class End:
    """One end of a connection, and what it was told."""

    def __init__(self, connection, agreement, name=b""):
        self.values = {}
        self.names, self.came = [], []
        self.refusal = None
        self.stream = Stream(
            connection, agreement, find=self._find, came=self.came.append, named=self._named, name=name
        )

    def _find(self, serial):
        content = self.values.get(serial)
        return None if content is None else memoryview(content)

    def _named(self, name):
        if self.refusal:
            raise UsageError(self.refusal)
        self.names.append(name)

    def want(self, serial, size, window=None):
        window = bytearray(size) if window is None else window
        self.stream.want(serial, Want(memoryview(window)))
        return window

    def turn(self):
        """Do what can be done now; whether there was anything."""
        before = self.stream.waiting, len(self.came), sum(want.filled for want in self.stream.wants.values())
        self.stream.write()
        self.stream.read()
        return before != (self.stream.waiting, len(self.came), sum(want.filled for want in self.stream.wants.values()))


class Pair:
    def __init__(self):
        one, other = socket.socketpair()
        self.near = End(one, Agreement(KEYS.agent, KEYS.head.public, begins=True), b"agent")
        self.far = End(other, Agreement(KEYS.head, KEYS.agent.public, begins=False), b"head")

    def settle(self):
        idle = 0
        while idle < 3:
            idle = 0 if self.near.turn() | self.far.turn() else idle + 1

    def close(self):
        self.near.stream.close()
        self.far.stream.close()


@pytest.fixture
def pair():
    pair = Pair()
    yield pair
    pair.close()


def test_each_end_learns_the_name_of_the_other_once(pair):
    pair.settle()
    assert (pair.near.names, pair.far.names) == ([b"head"], [b"agent"])
    assert pair.near.stream.proven
    assert pair.far.stream.proven


@pytest.mark.parametrize("size", [1, PART - 1, PART, PART + 1, 9 * PART + 7])
def test_a_value_comes_whole(pair, size):
    pair.far.values[7] = os.urandom(size)
    window = pair.near.want(7, size)
    pair.settle()
    assert window == pair.far.values[7]
    assert pair.near.came == [7]
    assert not pair.near.stream.wants
    assert not pair.near.stream.waiting


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3 * PART)), max_size=8))
@settings(deadline=None, max_examples=25)
def test_values_of_any_sizes_come_and_go_at_once(values):
    pair = Pair()
    expected = []
    for serial, (down, size) in enumerate(values):
        giver, taker = (pair.far, pair.near) if down else (pair.near, pair.far)
        giver.values[serial] = os.urandom(size)
        expected.append((taker.want(serial, size), giver.values[serial]))
    pair.settle()
    assert all(window == value for window, value in expected)
    assert pair.near.came == [serial for serial, (down, _) in enumerate(values) if down]
    pair.close()


def test_the_rest_is_asked_for_over_another_connection(pair):
    value = os.urandom(8 * PART)
    pair.far.values[1] = value
    window = pair.near.want(1, len(value))
    want = pair.near.stream.wants[1]
    while not want.filled:
        pair.near.turn()
        pair.far.turn()
    assert 0 < want.filled < len(value)
    before = want.filled
    again = Pair()
    again.far.values[1] = value
    window[:before] = bytes(before)  # what is here is not sent again
    again.near.stream.want(1, want)
    again.settle()
    assert again.near.came == [1]
    assert window == bytes(before) + value[before:]
    again.close()


def test_buffers_are_used_again(pair):
    spare = pair.near.stream._spare
    pair.far.values[1] = bytes(PART)
    for _ in range(3):
        pair.near.want(1, PART)
        pair.settle()
        assert len(spare) == 1
    assert pair.near.stream._in is pair.near.stream._out is None


# -- what cannot be ----------------------------------------------------------------------------------------------------


def test_an_end_that_is_cut_off(pair):
    pair.settle()
    pair.far.stream.close()
    with pytest.raises(ConnectionResetError, match="closed"):
        pair.near.stream.read()


def test_a_name_that_is_refused(pair):
    pair.far.refusal = "go away"
    with pytest.raises(UsageError, match="go away"):
        pair.settle()
    assert not pair.far.stream.proven


@pytest.mark.parametrize(("serial", "offset"), [(8, 0), (7, 100), (7, 2**60)])
def test_asked_for_what_was_not_given(pair, serial, offset):
    pair.far.values[7] = bytes(100)
    pair.near.stream._words.append(HEADER.pack(WANT, serial, offset))
    with pytest.raises(UsageError, match=f"asks for byte {offset} of value {serial}"):
        pair.settle()


@pytest.mark.parametrize(("serial", "offset", "size"), [(8, 0, 5), (7, 1, 5), (7, 0, 11), (7, 0, 0)])
def test_given_what_was_not_asked_for(pair, serial, offset, size):
    window = pair.near.want(7, 10)
    pair.far.stream._words.extend([HEADER.pack(PART_OF, serial, offset), b"x" * size])
    pair.far.values[7] = b""
    pair.near.stream._words.pop()  # the wish itself is not sent
    with pytest.raises(UsageError, match=f"{size} bytes at {offset} of value {serial} were not asked for"):
        pair.settle()
    assert window == bytes(10)


@pytest.mark.parametrize("word", [b"", b"x" * 10, b"x" * 2000, HEADER.pack(9, 1, 1)])
def test_words_that_are_none(pair, word):
    pair.settle()
    pair.near.stream._words.append(word)
    with pytest.raises(UsageError):
        pair.settle()


def test_who_does_not_say_who_it_is(pair):
    pair.near.stream._words[0] = HEADER.pack(WANT, 1, 0)
    with pytest.raises(UsageError, match="does not say who it is"):
        pair.settle()


@given(st.binary(min_size=1, max_size=200))
@settings(deadline=None)
def test_garbage_is_an_error_or_waited_for(garbage):
    one, other = socket.socketpair()
    end = End(other, Agreement(KEYS.head, KEYS.agent.public, begins=False))
    one.sendall(garbage)
    try:
        end.stream.read()
    except UsageError:
        pass
    assert not end.names
    one.close()
    end.stream.close()


@pytest.mark.parametrize("length", [0, TAG - 1, PART + TAG + 1, 2**32 - 1])
def test_records_of_a_length_that_cannot_be(length):
    one, other = socket.socketpair()
    end = End(other, Agreement(KEYS.head, KEYS.agent.public, begins=False))
    one.sendall(Agreement(KEYS.agent, KEYS.head.public, begins=True).opening + struct.pack("!I", length))
    with pytest.raises(UsageError, match=f"a record of {length} bytes"):
        end.stream.read()
    one.close()
    end.stream.close()
