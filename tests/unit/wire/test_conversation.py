"""Hub and link over a line of paper: any order of events that connections and deaths can make."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from heald.wire import key
from heald.wire.channel import DATA, VERSION, WELCOME, WHO, Head, pack, unpack
from heald.wire.hub import Hub
from heald.wire.link import Link

KEYS = key.new()
AGENT = b"agent"


class Connection:
    """What is under way: in order, but nobody knows how much of it arrives, nor when."""

    def __init__(self):
        self.up, self.down = deque(), deque()


class PaperHub(Hub):
    def __init__(self, world):
        super().__init__(KEYS, world, interface="lo")
        self.world = world
        self.sent = []

    def _transmit(self, name, message):
        self.world.line.down.append(message)


class PaperLink(Link):
    def __init__(self, world):
        super().__init__(KEYS.head.public, KEYS.agent, AGENT, world)
        self.world = world

    def _transmit(self, _, message):
        self.world.line.up.append(message)

    def read(self, message):
        self._take(*unpack(message))


class World:
    """One agent, and one head after the other. `told`: what the agent has sent in this conversation."""

    def __init__(self):
        self.lines = [Connection()]
        self.told, self.record, self.unrecorded = [], [], []  # by the agent; on record, and not yet, at the head
        self.got = []
        self.heads = 0
        self.link = PaperLink(self)
        self.hub = PaperHub(self)
        self.link.say_hello()

    @property
    def line(self):
        return self.lines[-1]

    # -- as listeners

    def met(self, name, hello):
        return ""

    def lost(self, name, reason):
        raise AssertionError(reason)

    def hello(self):
        return b""

    def welcomed(self, greeting):
        self.told, self.got = [], []

    def heard(self, *words):
        text = bytes(words[-1])
        if len(words) == 2:
            self.unrecorded.append(text)
        else:
            self.got.append(text)

    # -- what may happen

    def agent_sends(self, number):
        if self.link.welcome:
            self.told.append(b"%d" % len(self.told))
            self.link.send(self.told[-1])

    def head_sends(self, number):
        if AGENT in self.hub._peers:
            self.hub.sent.append(b"%d" % len(self.hub.sent))
            self.hub.send(AGENT, self.hub.sent[-1])

    def up(self, number):
        line = self.lines[number % len(self.lines)]
        if line.up:
            self.hub._take(AGENT, line.up.popleft())

    def down(self, number):
        line = self.lines[number % len(self.lines)]
        if line.down:
            self.link.read(line.down.popleft())

    def agent_beats(self, number):
        self.link.beat()

    def head_beats(self, number):
        self.hub.beat(0.0)

    def commit(self, number):
        self.record += self.unrecorded
        self.unrecorded = []
        self.hub.commit(lambda name: True)

    def cut(self, number):
        """Some of what was under way is lost, some arrives late."""
        self.lines.append(Connection())

    def lose(self, number):
        line = self.lines[number % len(self.lines)]
        line.up.clear()
        line.down.clear()

    def die(self, number):
        """The head is killed, and another one starts: what was not on record is forgotten."""
        self.hub.close()
        for line in self.lines:
            line.up.clear()
        self.hub = PaperHub(self)
        self.record, self.unrecorded = [], []
        self.cut(number)

    def settle(self):
        for _ in range(6):
            for end in (self.agent_beats, self.head_beats, self.commit):
                end(0)
            for number, line in enumerate(self.lines):
                while line.up or line.down:
                    self.up(number)
                    self.down(number)

    def close(self):
        self.hub.close()
        self.link.close()


ACTS = {name: act for name, act in vars(World).items() if name in (
    "agent_sends", "head_sends", "up", "down", "agent_beats", "head_beats", "commit", "cut", "lose", "die"
)}  # fmt: skip
# Most of the time things go well, or nothing would ever be told.
names = st.sampled_from(sorted([*ACTS, *["up", "down"] * 4, *["agent_sends", "head_sends"] * 2]))


@given(st.lists(st.tuples(names, st.integers(0, 5)), max_size=80))
@settings(deadline=None, max_examples=150)
def test_a_conversation_loses_and_repeats_nothing(script):
    world = World()
    try:
        for name, number in script:
            ACTS[name](world, number)
            same = world.link.peer.channel.instance == world.hub.instance
            assert not same or world.got == world.hub.sent[: len(world.got)]
        world.settle()
        assert world.link.welcome
        assert world.link.peer.channel.instance == world.hub.instance
        assert world.record == world.told
        assert world.got == world.hub.sent
        assert world.link.peer.channel.kept == 0
        assert world.hub._peers[AGENT].channel.kept == 0
    finally:
        world.close()


def test_the_last_words_of_a_dead_head_are_not_listened_to():
    world = World()
    try:
        dead = world.hub.instance
        world.settle()
        world.die(0)
        world.settle()
        world.agent_sends(0)
        world.head_sends(0)
        world.settle()
        for kind in (WHO, WELCOME, DATA):  # they come on a connection that was slower than the new one
            world.link.read(pack(Head(VERSION, kind, dead, 2), b"from the dead"))
        world.agent_sends(0)
        world.settle()
        assert world.record == world.told == [b"0", b"1"]
        assert world.got == world.hub.sent == [b"0"]
    finally:
        world.close()
