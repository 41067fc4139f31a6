"""What to do: the Task, and the Work that many tasks share.

A task is immutable and the same bytes everywhere. What is alike for all calls of one function with one set of
options is its Work, kept once and named by its digest, so that a queued task is small. What happens to a task is
not in it: that is in events.
"""

from __future__ import annotations

from _blake2 import blake2b  # that of hashlib, which loads OpenSSL too: ten times slower

import msgspec

from heald.core.environment import PLAIN, Environment
from heald.core.ref import Ref
from heald.core.resources import SINGLE, Resources
from heald.core.retry import ONCE, Retry

FUNCTION, COMMAND, JOIN = "function", "command", "join"
FOREIGN = "foreign"  # stands for a future of another executor: nothing runs for it


class Payload(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=0):
    """A pickled value (protocol 5): `data`, and the large buffers that travel beside it.

    `inputs` fill its gaps: the value of a join is the frame that its body returned, with the values of its tasks.
    Only the one who asked for the value, and the worker that needs it, ever unpickle it.
    """

    data: bytes
    buffers: tuple[Ref, ...] = ()
    inputs: tuple[Payload, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all that belongs to the value.

        >>> Payload(b"12", (Ref("object:1", 300),), (Payload(b"4"),)).size
        303
        """
        return len(self.data) + sum(ref.size for ref in self.buffers) + sum(value.size for value in self.inputs)


class Work(msgspec.Struct, frozen=True, array_like=True):
    """What all calls of one function with one set of options share.

    `kind`: "function", "command" (the function returns the command line) or "join" (it returns futures).
    `function`: the pickled function's digest. `code`: digest of what it does, stable from run to run.
    `executor`: the label of the executor that must run it, or empty. `memo`: results are kept and found again.
    """

    name: str
    kind: str
    function: bytes
    code: bytes = b""
    resources: Resources = SINGLE
    retry: Retry = ONCE
    environment: Environment = PLAIN
    executor: str = ""
    priority: int = 0
    tags: tuple[tuple[str, str], ...] = ()
    memo: bool = False

    def digest(self) -> bytes:
        """The 16 bytes that name this work wherever it goes."""
        return blake2b(_ENCODER.encode(self), digest_size=16).digest()


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")


class Task(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One call. `id` counts up within a run.

    `work`: the digest of its Work. `arguments`: the pickled pair of positional and keyword arguments, in which
    the values of `inputs`, ids of the tasks whose results it needs, stand as numbered gaps. `key`: 16 bytes that
    name the call by content (work and arguments), the same in every run; empty when nobody needs to know.
    """

    id: int
    work: bytes
    arguments: Payload
    inputs: tuple[int, ...] = ()
    key: bytes = b""
