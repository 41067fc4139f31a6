from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.wire import key
from heald.wire.seal import OPENING, TAG, Agreement, Forged

KEYS = key.new()


def agree(agent=KEYS, head=KEYS):
    """Both ends of one conversation; they may have the keys of two."""
    near = Agreement(agent.agent, agent.head.public, begins=True)
    far = Agreement(head.head, head.agent.public, begins=False)
    return near.seal(far.opening), far.seal(near.opening)


def record(seal, content):
    data = bytearray(len(content) + TAG)
    assert seal.close_into(content, data) == len(data)
    return data


def opened(seal, data):
    content = bytearray(len(data) - TAG)
    seal.open_into(data, content)
    return bytes(content)


@given(st.lists(st.binary(max_size=100)))
def test_records_open_as_they_were_closed_in_both_directions(contents):
    near, far = agree()
    for content in contents:
        assert opened(far, record(near, content)) == content
        assert opened(near, record(far, content)) == content


def test_nobody_can_read_them_and_no_two_are_alike():
    near, _ = agree()
    first, second = record(near, b"the same words"), record(near, b"the same words")
    assert b"words" not in first
    assert first != second


def test_each_conversation_has_keys_of_its_own():
    (near, _), (_, far) = agree(), agree()
    with pytest.raises(Forged):
        opened(far, record(near, b"weft"))


@pytest.mark.parametrize("place", [0, 5, -1])
def test_what_was_changed_does_not_open(place):
    near, far = agree()
    data = record(near, b"weft")
    data[place] ^= 1
    with pytest.raises(Forged, match="changed on its way"):
        opened(far, data)


def test_what_comes_twice_or_not_in_its_order_does_not_open():
    near, far = agree()
    first, second = record(near, b"one"), record(near, b"two")
    with pytest.raises(Forged):
        opened(far, second)
    near, far = agree()
    first = record(near, b"one")
    opened(far, first)
    with pytest.raises(Forged):
        opened(far, first)


def test_what_an_end_has_sent_itself_does_not_open():
    near, _ = agree()
    with pytest.raises(Forged):
        opened(near, record(near, b"one"))


def test_ends_of_two_runs_do_not_understand_each_other():
    other = key.new()
    for near, far in (agree(agent=other), agree(head=other), agree(head=key.Keys(KEYS.head, other.agent))):
        with pytest.raises(Forged, match="of another run"):
            opened(far, record(near, b"weft"))


@pytest.mark.parametrize(
    "opening", [b"", b"\1" * (OPENING - 1), b"\2" + bytes(OPENING - 1), b"GET / HTTP/1.1\r\nHost: somebody\r\n\r"]
)
def test_an_opening_of_something_else(opening):
    with pytest.raises(Forged, match="something else than heald"):
        Agreement(KEYS.agent, KEYS.head.public, begins=True).seal(opening)


def test_a_fresh_key_that_would_make_the_secret_known():
    with pytest.raises(Forged, match="a key that cannot be"):
        Agreement(KEYS.agent, KEYS.head.public, begins=True).seal(b"\1" + bytes(32))
