from __future__ import annotations

import msgspec
import pytest

from heald.core.event import Failure, Usage
from heald.core.placement import Lease
from heald.core.ref import Ref
from heald.core.resources import Resources
from heald.core.room import Share
from heald.core.task import Payload, Work
from heald.run.cluster import dialogue
from heald.run.cluster.dialogue import (
    Began,
    Broken,
    Drop,
    Ended,
    Full,
    Gone,
    Got,
    Held,
    Hello,
    Late,
    Open,
    Orders,
    Release,
    Retire,
    Returned,
    Standing,
    Stands,
    Stop,
    Sweep,
    TakeBack,
    ToAgent,
    ToHead,
)
from heald.run.protocol import Define, Order

FAILURE = Failure("exit", "it failed", hint="do better")
PAYLOAD = Payload(b"pickled", (Ref("far:7", 10**9), Ref("own:3", 5)), (Payload(b"input"),))
LEASE = Lease(3, (Share("a1.n3", (4, 5), (("1", 0.5),), 2**30),), Resources(cpus=2, gpus=0.5))
BULK = [Drop((1, 2)), Release((3,))]
TO_AGENT = [
    *BULK,
    Define(b"digest", Work("square", "function", b"f"), b"pickled"),
    Open(1, "a1.n3-1"),
    Held(1, LEASE, ("n3",)),
    Orders(1, [Order(5, 2, b"digest", PAYLOAD, (PAYLOAD,))]),
    TakeBack(1, 3),
    Stop(1, 5, 2, FAILURE),
    Sweep(5, 2),
    Retire("the run is over"),
]
TO_HEAD = [
    *BULK,
    Got((1, 2)),
    Stands([Standing(1, "a1.n3-1", LEASE, [(5, 2)])], [Late(4, 1, PAYLOAD, Usage()), Late(3, 1, FAILURE, Usage())]),
    Began(1, 5, 2, 1.5, 4711),
    Ended(1, 5, 2, PAYLOAD, Usage(1.0)),
    Ended(1, 6, 1, FAILURE, Usage()),
    Returned(1, [(7, 1), (8, 1)]),
    Full("the disk of /tmp is full"),
    Gone(1),
    Gone(1, 5, 2, FAILURE, Usage(2.0)),
    Broken("no workers"),
]


def test_what_the_head_says_is_understood():
    assert dialogue.to_agent(dialogue.encode(TO_AGENT)) == TO_AGENT


def test_what_agents_say_is_understood():
    assert dialogue.to_head(dialogue.encode(TO_HEAD)) == TO_HEAD


@pytest.mark.parametrize(("union", "said"), [(ToAgent, TO_AGENT), (ToHead, TO_HEAD)])
def test_all_messages_are_tried_here(union, said):
    assert set(union.__args__) == {type(message) for message in said}


def test_no_two_messages_are_mistaken_for_each_other():
    kinds = {*ToAgent.__args__, *ToHead.__args__}
    assert len({kind.__struct_config__.tag for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("message", [message for message in TO_HEAD if message not in BULK], ids=repr)
def test_an_agent_does_not_understand_what_is_for_the_head(message):
    with pytest.raises(msgspec.ValidationError):
        dialogue.to_agent(dialogue.encode([message]))


@pytest.mark.parametrize("message", [message for message in TO_AGENT if message not in BULK], ids=repr)
def test_the_head_does_not_understand_what_is_for_an_agent(message):
    with pytest.raises(msgspec.ValidationError):
        dialogue.to_head(dialogue.encode([message]))


def test_hello():
    said = Hello("a1", "n3", 7, 6, "3.11.7", "1.0", "tcp://10.0.0.1:5", (0, 1), ("0",), 2**30, 1e9)
    assert dialogue.hello(dialogue.encode(said)) == said


@pytest.mark.parametrize("garbage", [b"", b"\xc1", dialogue.encode("text"), dialogue.encode([[99]])])
def test_what_is_no_message(garbage):
    for understand in (dialogue.to_head, dialogue.to_agent, dialogue.hello):
        with pytest.raises(msgspec.DecodeError):
            understand(garbage)


def test_an_end_is_small():
    assert len(dialogue.encode([Ended(1, 1_000_000, 1, Payload(b"\x80\x05K\x09."), Usage(0.1, 0.1, 0.0, 10**8))])) < 70
