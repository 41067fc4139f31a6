from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from heald.wire.channel import AGAIN, BEAT, DATA, unpack
from heald.wire.peer import Peer


class FakeTransport:
    """Carries messages one way, badly: `deliver` takes any of those under way, and may leave a copy there."""

    def __init__(self):
        self.flying = []
        self.peer = None  # who gets them

    def __call__(self, _, message):
        self.flying.append(message)

    def deliver(self, number=0, *, copy=False):
        if self.flying:
            number %= len(self.flying)
            self.peer.take(*unpack(self.flying[number] if copy else self.flying.pop(number)))

    def lose(self, number):
        if self.flying:
            del self.flying[number % len(self.flying)]


class End:
    def __init__(self, transport):
        self.got = []
        self.sent = []
        self.out = transport
        self.peer = Peer(b"other", transport, lambda _, body: self.got.append(bytes(body)))

    def send(self):
        self.sent.append(b"%d" % len(self.sent))
        self.peer.send(self.sent[-1])


def pair():
    there, back = FakeTransport(), FakeTransport()
    here, far = End(there), End(back)
    there.peer, back.peer = far.peer, here.peer
    return here, far


ACTS = {
    "send": lambda end, number: end.send(),
    "deliver": lambda end, number: end.out.deliver(),
    "overtake": lambda end, number: end.out.deliver(number),
    "duplicate": lambda end, number: end.out.deliver(number, copy=True),
    "lose": lambda end, number: end.out.lose(number),
    "break": lambda end, number: end.out.flying.clear(),
    "beat": lambda end, number: end.peer.beat(),
    "commit": lambda end, number: end.peer.channel.commit(),
}
acts = st.tuples(st.sampled_from(sorted(ACTS)), st.booleans(), st.integers(0, 50))


@given(st.lists(acts, max_size=60))
@settings(deadline=None, max_examples=300)
def test_everything_arrives_once_and_in_order_whatever_the_line_does(script):
    ends = pair()
    for name, which, number in script:
        ACTS[name](ends[which], number)
    # The line is good again: once that may be left out, once to find what is missing, to send it, to say it is safe.
    for _ in range(4):
        for end in ends:
            end.peer.channel.commit()
            end.peer.beat()
        while ends[0].out.flying or ends[1].out.flying:
            for end in ends:
                end.out.deliver()
    here, far = ends
    assert far.got == here.sent
    assert here.got == far.sent
    assert here.peer.channel.kept == far.peer.channel.kept == 0


def test_a_good_line_costs_one_message_each():
    here, far = pair()
    for _ in range(100):
        here.send()
        here.out.deliver()
    assert far.got == here.sent
    assert not far.out.flying


def test_a_gap_is_asked_for_once():
    here, far = pair()
    for _ in range(10):
        here.send()
    here.out.lose(0)
    while here.out.flying:
        here.out.deliver()
    assert [unpack(message)[0].kind for message in far.out.flying] == [AGAIN]
    far.out.deliver()
    assert len(here.out.flying) == 10


def test_only_what_was_not_heard_is_sent_again():
    here, far = pair()
    for _ in range(10):
        here.send()
    for _ in range(7):
        here.out.deliver()  # heard, and not safe yet
    here.out.flying.clear()
    here.peer.beat()
    here.peer.beat()
    here.out.deliver()
    far.out.deliver()
    assert [unpack(message)[0].number for message in here.out.flying] == [8, 9, 10]


def test_a_beat_finds_that_the_last_was_lost_also_when_the_question_is_lost():
    here, far = pair()
    here.send()
    here.out.lose(0)
    here.peer.beat()  # the message was one
    for _ in range(3):
        here.peer.beat()
        here.out.deliver()
        assert [unpack(message)[0].kind for message in far.out.flying] == [AGAIN]
        far.out.lose(0)
    here.peer.beat()
    here.out.deliver()
    far.out.deliver()
    here.out.deliver()
    assert far.got == [b"0"]


def test_a_busy_end_beats_too():
    # If it did not, a question for what is missing that was lost would never be asked again while it sends.
    here, _ = pair()
    for _ in range(2):
        here.send()
        here.peer.beat()
    assert [unpack(message)[0].kind for message in here.out.flying] == [DATA, DATA, BEAT]


def test_an_end_that_is_heard_needs_no_beats():
    here, far = pair()
    for _ in range(9):
        here.send()
        here.peer.beat()
        here.out.deliver()
        far.peer.channel.commit()
        far.peer.beat()
        far.out.deliver()
    assert not here.out.flying
    here.peer.beat()
    assert [unpack(message)[0].kind for message in here.out.flying] == [BEAT]


def test_what_was_dealt_with_is_safe_and_nothing_else():
    here, far = pair()
    here.send()
    here.send()
    here.out.deliver()
    far.peer.channel.commit()
    here.out.deliver()
    far.peer.beat()
    far.out.deliver()
    assert here.peer.channel.kept == 1
