"""What the driver and its workers say to each other, on one machine, over UNIX sockets.

A frame is a length (4 bytes, little-endian) and a msgpack list of messages. Beside the stream of frames, each worker
has a pipe of *claims*: one for each order that it may start, written before the order is sent and taken by the
worker just before the start. Whoever reads the claim has the order: so the driver takes unstarted orders back by
reading claims itself, without asking a worker that may be deep in somebody's C code. The claims taken back stand for
the last orders sent; `Drop` tells the worker which those were. The value of a claim is the count of drops so far:
a worker that meets a newer one reads its frames up to that `Drop` first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec

from heald.core.environment import PLAIN, Environment
from heald.core.event import Failure, Usage
from heald.core.ref import Ref
from heald.core.task import Payload, Work

# -- driver to worker --------------------------------------------------------------------------------------------------


class Define(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """A work, and its pickled function: sent once to each worker, before the first order that needs it.

    `path`: where the driver finds modules; when that changes, it is sent again.
    """

    digest: bytes
    work: Work
    function: bytes
    path: tuple[str, ...] = ()


class Order(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """Run this attempt. `inputs` fill the gaps of the arguments."""

    task: int
    attempt: int
    work: bytes
    arguments: Payload
    inputs: tuple[Payload, ...] = ()


class Drop(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Forget the last `count` orders: they were taken back. From now on claims carry `epoch`."""

    count: int
    epoch: int


class Hold(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """What the orders from now on may use: cores to bind to (empty: do not bind), and variables for the environment."""

    cpus: tuple[int, ...]
    variables: dict[str, str]


class Free(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """These regions, which the worker wrote, are no longer needed."""

    refs: tuple[Ref, ...]


Instruction = Define | Order | Drop | Hold | Free

# -- worker to driver --------------------------------------------------------------------------------------------------


class Began(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=0):
    """The attempt has been running since `time`; told of those that last longer than a few milliseconds."""

    task: int
    attempt: int
    time: float


class Ended(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """The attempt is over."""

    task: int
    attempt: int
    outcome: Payload | Failure
    usage: Usage


class Released(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The worker no longer reads these regions, which it had kept after the attempt that they came with."""

    refs: tuple[Ref, ...]


class Kept(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The worker still reads these regions, though the attempt that they came with is over."""

    refs: tuple[Ref, ...]


Report = Began | Ended | Released | Kept

# -- driver and spawner, one message a packet --------------------------------------------------------------------------


class Setup(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first message, with the descriptor of the arena: how workers of this run look at the world.

    `path`: where modules are found; `argv`: that of the driver. `initializer`: a pickled function that each calls
    before anything else, or nothing. `environment`: what attempts find around them where their tasks say nothing else.
    """

    directory: str
    logs: str
    run: str
    path: tuple[str, ...] = ()
    argv: tuple[bytes, ...] = ()
    initializer: bytes = b""
    environment: Environment = PLAIN


class Spawn(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Start worker `number`, called `name`; the packet carries its descriptors: frames, claims, stops."""

    number: int
    name: str


class Signal(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Send `signal` to the process group of worker `number`, or to the worker alone, if it lives."""

    number: int
    signal: int
    alone: bool = False


Command = Setup | Spawn | Signal


class Born(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """Worker `number` is process `pid`."""

    number: int
    pid: int


class Died(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Worker `number` is gone: exit `status` as in `subprocess`, peak `memory` in bytes.

    `starved`: the kernel killed something for want of memory since the last such notice.
    """

    number: int
    status: int
    memory: int
    starved: bool


Notice = Born | Died

encode = msgspec.msgpack.Encoder().encode
instructions = msgspec.msgpack.Decoder(list[Instruction]).decode
reports = msgspec.msgpack.Decoder(list[Report]).decode
command = msgspec.msgpack.Decoder(Command).decode
notice = msgspec.msgpack.Decoder(Notice).decode


# What a signal to a worker is about stands in a pipe: words, each of which names an attempt. So one that comes too late
# is taken for nothing else.
STOP, LATE, LEAVING = b"s", b"l", b"n"  # it is to end; its walltime is about to end; its node is about to be taken away
_WORD = struct.Struct("<cqq")
WORDS = 200 * _WORD.size  # bytes to read at once


def word(kind: bytes, task: int, attempt: int) -> bytes:
    """A word for a worker.

    >>> list(words(word(STOP, 7, 1)))
    [(b's', 7, 1)]
    """
    return _WORD.pack(kind, task, attempt)


words = _WORD.iter_unpack


CLAIM = 2  # bytes; a pipe gives and takes so few at once
EPOCHS = 1 << 16  # counts of drops that a claim can tell apart


def claim(epoch: int) -> bytes:
    """The claim of an order, sent after so many drops."""
    return epoch.to_bytes(CLAIM, "little")


def frame(messages: Sequence[Instruction | Report]) -> bytes:
    """The frame of some messages."""
    body = encode(messages)
    return len(body).to_bytes(4, "little") + body


class Frames:
    """Cuts a stream of bytes into the bodies of frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """The bodies that are whole now."""
        held = self._bytes
        held += data
        start, end = 0, len(held)
        while end - start >= 4:
            size = int.from_bytes(held[start : start + 4], "little")
            if end - start - 4 < size:
                break
            yield bytes(held[start + 4 : start + 4 + size])
            start += 4 + size
        if start:
            del held[:start]
