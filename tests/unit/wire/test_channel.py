from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heald.core.errors import UsageError
from heald.wire.channel import DATA, VERSION, Channel, Head, pack, unpack


def test_what_is_sent_is_kept_until_it_is_safe():
    channel = Channel()
    assert [channel.keep(text) for text in (b"one", b"two", b"three")] == [1, 2, 3]
    assert channel.kept == 3
    assert channel.first == 0
    channel.acknowledged(2)
    assert channel.after(0) == [(3, b"three")]
    assert channel.first == 2
    channel.acknowledged(1)  # an older word, that comes late
    channel.acknowledged(3)
    assert channel.kept == 0
    assert channel.first == 3


def test_after_the_last_that_was_heard():
    channel = Channel()
    for text in (b"one", b"two", b"three"):
        channel.keep(text)
    assert [number for number, _ in channel.after(1)] == [2, 3]


@given(st.lists(st.integers(0, 30)))
def test_each_number_is_taken_once_in_order(numbers: list[int]):
    channel = Channel()
    taken = [number for number in numbers if channel.take(number)]
    assert taken == list(range(1, len(taken) + 1))
    assert channel.heard == len(taken)
    assert channel.safe == 0
    channel.commit()
    assert channel.safe == len(taken)


def test_messages_say_what_they_should():
    channel = Channel(instance=7)
    channel.take(1)
    channel.commit()
    head, body = unpack(channel.message(DATA, 5, b"weft"))
    assert head == Head(VERSION, DATA, 7, 5, 1)
    assert body == b"weft"


@given(st.binary())
def test_a_body_is_unpacked_as_it_was_packed(body: bytes):
    assert unpack(pack(Head(VERSION), body))[1] == body


def test_another_head_begins_anew():
    channel = Channel(instance=7)
    channel.keep(b"one")
    channel.take(1)
    channel.commit()
    channel.renew(8)
    assert (channel.instance, channel.sent, channel.heard, channel.safe, channel.kept) == (8, 0, 0, 0, 0)


def test_another_version_can_be_told():
    assert unpack(bytes([99])) == (Head(99), b"")
    assert unpack(bytes([99]) + b"whatever that version says") == (Head(99), b"")


@given(st.binary())
def test_what_is_no_message(garbage: bytes):
    try:
        head, body = unpack(garbage)
    except UsageError:
        assert len(garbage) < len(pack(Head(VERSION)))
    else:
        assert head.version == garbage[0]
        assert len(body) <= len(garbage)


def test_a_message_costs_few_bytes():
    assert len(pack(Head(VERSION, DATA, 2**32 - 1, 2**63, 2**63), b"")) == 22
