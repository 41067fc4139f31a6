"""What the head of a run and the agents on its nodes say to each other.

A message of `heald.wire` is a msgpack list of the records below. Lanes have numbers that the head gives out for each
agent. Large values are only named here (see `bulk`); whoever gets a record whose values are not all there yet asks for
them, and holds back the lane until they are.
"""

from __future__ import annotations

import math
import sys

import msgspec

from heald.core.event import Failure, Usage
from heald.core.placement import Lease
from heald.core.task import Payload
from heald.core.version import __version__
from heald.run.protocol import Define, Order

OVER = "the allocation is over"  # why an agent leaves whose time has come
ENDED = "its job was ended (SIGTERM)"  # why one leaves that was told to
PULSE = 5.0  # seconds between two beats at most: what a cut line has lost is asked for at the next

# -- both ways ---------------------------------------------------------------------------------------------------------


class Drop(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """These of the sender's values are not needed any more."""

    serials: tuple[int, ...]


class Release(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """These of the receiver's values are not needed any more."""

    serials: tuple[int, ...]


# -- head to agent -----------------------------------------------------------------------------------------------------


class Open(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Start a worker, for lane `lane`, that is called `name`."""

    lane: int
    name: str


class Held(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """From now on the lane has this lease; `hosts` are those of its shares."""

    lane: int
    lease: Lease
    hosts: tuple[str, ...]


class Orders(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Run these one after another, behind those that the lane has."""

    lane: int
    orders: list[Order]


class TakeBack(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Give back what the lane has not begun, except `keep` orders. It answers with `Returned`, perhaps an empty one."""

    lane: int
    keep: int


class Stop(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """End this attempt; `verdict` is what it failed of, if it has not ended well."""

    lane: int
    task: int
    attempt: int
    verdict: Failure


class Retire(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Nothing more will come: end."""

    reason: str


class Sweep(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Kill all processes of this attempt: whatever started them is no more, or cannot reach them."""

    task: int
    attempt: int


ToAgent = Drop | Release | Define | Open | Held | Orders | TakeBack | Stop | Retire | Sweep

# -- agent to head -----------------------------------------------------------------------------------------------------


class Got(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """These of the head's values are here: it need not keep them for this agent."""

    serials: tuple[int, ...]


class Began(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """The attempt has been running in process `pid` since `time`."""

    lane: int
    task: int
    attempt: int
    time: float
    pid: int


class Ended(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    """The attempt at the head of the lane is over."""

    lane: int
    task: int
    attempt: int
    outcome: Payload | Failure
    usage: Usage


class Returned(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """These, (task, attempt), the lane has given back: they were not begun."""

    lane: int
    orders: list[tuple[int, int]]


class Gone(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """The worker of the lane has died, and of it an attempt with this failure, unless task is 0. All else that it had
    is to be run elsewhere.
    """

    lane: int
    task: int = 0
    attempt: int = 0
    failure: Failure | None = None
    usage: Usage = Usage()


class Broken(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """Nothing can run on this node."""

    reason: str


class Full(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """What writes to a disk here fails: it is full."""

    reason: str


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """A lane as its agent has it: the attempts (task, attempt) that are under way there."""

    lane: int
    name: str
    lease: Lease
    orders: list[tuple[int, int]]


class Late(msgspec.Struct, frozen=True, array_like=True):
    """The end of an attempt that no head is known to have on record."""

    task: int
    attempt: int
    outcome: Payload | Failure
    usage: Usage


class Stands(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """What was under way when this head took the agent in: the first message to each head, and mostly empty.

    `left`: seconds from then until the scheduler takes the node away, infinite when that is not known. It is no time of
    day, since clocks differ; and who adds it to when it took the agent in, which was earlier, is never too late.
    """

    lanes: list[Standing]
    ends: list[Late]
    left: float = math.inf


ToHead = Stands | Got | Drop | Release | Began | Ended | Returned | Gone | Broken | Full


class Hello(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an agent is and has, for a head that does not know it.

    `place`: its warden's process, so the same for the agent that comes after it. `endpoint`: by which of the head's
    addresses it comes. `cpus`, `gpus`, `memory`: what of its node it may use. `clock`: the time of day there, by which
    the head understands all the others that it will tell.
    """

    allocation: str
    host: str
    pid: int
    place: int
    python: str
    heald: str
    endpoint: str
    cpus: tuple[int, ...]
    gpus: tuple[str, ...]
    memory: int
    clock: float


def skew(said: Hello) -> str:
    """Why an agent cannot run what this process pickles, or nothing."""
    here = sys.version.split()[0]
    if said.python.split(".")[:2] != here.split(".")[:2]:
        return (
            f"Python {said.python} on {said.host} and {here} here: functions cannot travel between them; set `python` "
            "of the site to an interpreter of this version"
        )
    if said.heald != __version__:
        return f"heald {said.heald} on {said.host} and {__version__} here: install the same on both"
    return ""


encode = msgspec.msgpack.Encoder().encode
to_agent = msgspec.msgpack.Decoder(list[ToAgent]).decode
to_head = msgspec.msgpack.Decoder(list[ToHead]).decode
hello = msgspec.msgpack.Decoder(Hello).decode
doors = msgspec.msgpack.Decoder(list[str]).decode  # where the head listens for data streams: its greeting
