"""Large values on their way between two machines: cut into parts, a bounded number of bytes ahead of the receiver.

Each end has an `Outlet` for what it gives and an `Inlet` for what it gets. A value that was given is named by a serial
number, never used twice, for as long as either end may mention it: so each value goes to each machine once. In what
travels, "far:7" is value 7 of the sender, and "own:7" value 7 of the receiver, which the sender has had from it.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from heald.core.errors import UsageError
from heald.core.ref import Ref
from heald.core.task import Payload
from heald.data.arena import SCHEME, Arena
from heald.run.cluster.dialogue import Drop, Got, Part, Release

PART = 2**20  # bytes of a part: others get their turn between two
WINDOW = 32 * PART  # bytes under way
_FAR, _OWN = "far:", "own:"

Message = tuple[Part | Got | Drop | Release, "memoryview | None"]


class Outlet:
    """Values that this machine gives to one other.

    `keep`: hold them until the other end releases them, since it may name them as its sender's own.
    """

    def __init__(self, arena: Arena, *, keep: bool = False) -> None:
        self._arena = arena
        self._keep = keep
        self._serials = itertools.count(1)
        self._names: dict[int, str] = {}  # id of a Ref -> its name for the other end
        self._kept: dict[int, Ref] = {}
        self._queue: deque[tuple[int, Ref, int]] = deque()  # serial, value, how far it was sent
        self._gone: deque[tuple[int, str]] = deque()  # of Refs that were collected; filled in any thread
        self._view: memoryview | None = None  # of the first in the queue
        self._room = WINDOW

    def name(self, ref: Ref) -> Ref:
        """The Ref by which the other end knows the value, which is sent unless it has been."""
        self._forget()
        name = self._names.get(id(ref))
        if name is None:
            serial = next(self._serials)
            name = f"{_FAR}{serial}"
            self._queue.append((serial, ref, 0))
            if self._keep:
                self._kept[serial] = ref
            self._remember(ref, name)
        return Ref(name, ref.size)

    def came(self, ref: Ref, serial: int) -> None:
        """A value of this machine's that came from the other end, where it is value `serial`: it is not sent back."""
        self._remember(ref, f"{_OWN}{serial}")

    def _remember(self, ref: Ref, name: str) -> None:
        self._names[id(ref)] = name
        weakref.finalize(ref, self._gone.append, (id(ref), name)).atexit = False

    def _forget(self) -> list[str]:
        names = []
        while self._gone:
            key, name = self._gone.popleft()
            self._names.pop(key, None)
            names.append(name)
        return names

    def kept(self, serial: int) -> Ref:
        """A value that was given, as the other end names it. Raises KeyError for one that it has released."""
        return self._kept[serial]

    def released(self, serials: tuple[int, ...]) -> None:
        """The other end will not name these again."""
        for serial in serials:
            self._kept.pop(serial, None)

    def made_room(self, count: int) -> None:
        """The other end has taken so many bytes in."""
        self._room += count

    def renew(self) -> None:
        """The other end is another process than before, and has nothing."""
        self._room, self._view = WINDOW, None
        self._queue = deque((serial, ref, 0) for serial, ref in self._kept.items())

    def messages(self) -> Iterator[Message]:
        """What is to be sent now: parts for which there is room, and which values are not needed any more."""
        gone = self._forget()
        for prefix, kind in ((_FAR, Drop), (_OWN, Release)):
            serials = tuple(int(name[len(prefix) :]) for name in gone if name.startswith(prefix))
            if serials and not (self._keep and kind is Drop):
                yield kind(serials), None
        while self._queue and self._room > 0:
            serial, ref, offset = self._queue[0]
            if self._view is None:
                self._view = self._arena.read(ref)
            part = self._view[offset : offset + PART]
            self._room -= part.nbytes
            if offset + part.nbytes >= ref.size:
                self._queue.popleft()
                self._view = None
            else:
                self._queue[0] = serial, ref, offset + part.nbytes
            yield Part(serial, ref.size, offset), part


class _Arriving:
    """A value of which parts are missing."""

    def __init__(self, ref: Ref, window: memoryview) -> None:
        self.ref = ref
        self.window = window
        self.missing = set(range(0, ref.size, PART))


class Inlet:
    """Values that this machine gets from one other, in its arena.

    `own`: gives a value that the other end names as one that it had from here. `keep`: values stay until the other end
    drops them; if not, each may be mentioned once.
    """

    def __init__(self, arena: Arena, own: Callable[[int], Ref], *, keep: bool = False) -> None:
        self._arena = arena
        self._own = own
        self._keep = keep
        self._here: dict[int, Ref] = {}
        self._arriving: dict[int, _Arriving] = {}
        self._got = 0

    def take(self, part: Part, data: bytes) -> None:
        """Some bytes of a value. Raises ArenaFull when there is no room, UsageError for a part that cannot be."""
        self._got += len(data)
        if part.serial in self._here:
            return  # it was sent again
        value = self._arriving.get(part.serial)
        if value is None:
            value = self._arriving[part.serial] = _Arriving(*self._arena.allocate(part.size))
        if len(data) != min(PART, part.size - part.offset) or part.offset % PART:
            raise UsageError(f"a part of {len(data)} bytes at {part.offset} of {part.size}")
        value.window[part.offset : part.offset + len(data)] = data
        value.missing.discard(part.offset)
        if not value.missing:
            del self._arriving[part.serial]
            self._here[part.serial] = value.ref

    def got(self) -> Got | None:
        """How much was taken in since the last time, for the other end."""
        count, self._got = self._got, 0
        return Got(count) if count else None

    def drop(self, serials: tuple[int, ...]) -> None:
        """The other end will not mention these again."""
        for serial in serials:
            self._here.pop(serial, None)
            self._arriving.pop(serial, None)

    def complete(self, payload: Payload) -> bool:
        """Whether all values that it mentions are here."""
        here = all(not ref.uri.startswith(_FAR) or int(ref.uri[4:]) in self._here for ref in payload.buffers)
        return here and all(map(self.complete, payload.inputs))

    def opened(self, payload: Payload, came: Callable[[Ref, int], None] | None = None) -> Payload:
        """The payload with the values as they are here. `came(ref, serial)` is told of each that was the sender's."""
        if not payload.buffers and not payload.inputs:
            return payload
        buffers = tuple(self._found(ref, came) for ref in payload.buffers)
        inputs = tuple(self.opened(one, came) for one in payload.inputs)
        return msgspec.structs.replace(payload, buffers=buffers, inputs=inputs)

    def _found(self, ref: Ref, came: Callable[[Ref, int], None] | None) -> Ref:
        if ref.uri.startswith(_OWN):
            return self._own(int(ref.uri[4:]))
        if not ref.uri.startswith(_FAR):
            return ref  # a file that both can read
        serial = int(ref.uri[4:])
        found = self._here[serial] if self._keep else self._here.pop(serial)
        if came is not None:
            came(found, serial)
        return found


def closed(payload: Payload, outlet: Outlet) -> Payload:
    """The payload as it travels: its values in this machine's memory named for the other end, which will get them."""
    if not payload.buffers and not payload.inputs:
        return payload
    buffers = tuple(outlet.name(ref) if ref.uri.startswith(SCHEME) else ref for ref in payload.buffers)
    inputs = tuple(closed(one, outlet) for one in payload.inputs)
    return msgspec.structs.replace(payload, buffers=buffers, inputs=inputs)
