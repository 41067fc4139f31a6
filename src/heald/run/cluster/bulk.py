"""Large values on their way between two machines: cut into parts, a bounded number of bytes ahead of the receiver.

Each end has an `Outlet` for what it gives and an `Inlet` for what it gets. A value that was given is named by a serial
number, never used twice, for as long as either end may mention it: so each value goes to each machine once. In what
travels, "far:7" is value 7 of the sender, and "own:7" value 7 of the receiver, which the sender has had from it.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator

import msgspec

from heald.core.errors import UsageError
from heald.core.ref import Ref
from heald.core.task import Payload
from heald.data.arena import SCHEME, Arena, ArenaFull
from heald.run.cluster.dialogue import Drop, Got, Part, Release

PART = 2**18  # bytes of a part: others get their turn between two, and on a slow line it is a sign of life
WINDOW = 32 * PART  # bytes under way
_FAR, _OWN = "far:", "own:"
_FULL = "full:"  # there was no room for it here


class Outlet:
    """Values that this machine gives to one other.

    `wake` is called, in any thread, when there may be something to send. `keep`: hold them until the other end releases
    them, since it may name them as its sender's own.
    """

    def __init__(self, arena: Arena, wake: Callable[[], object], *, keep: bool = False) -> None:
        self._arena = arena
        self._wake = wake
        self._keep = keep
        self._serials = itertools.count(1)
        self._names: dict[int, str] = {}  # id of a Ref -> its name for the other end
        self._kept: dict[int, Ref] = {}
        self._queue: list[tuple[int, Ref, int]] = []  # serial, value, how far it was sent
        self._gone: list[tuple[int, str]] = []  # of Refs that were collected; filled in any thread
        self._over: list[str] = []  # names that the other end need not know any more
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
            self._wake()
            if self._keep:
                self._kept[serial] = ref
            self._remember(ref, name)
        return Ref(name, ref.size)

    def came(self, ref: Ref, serial: int) -> None:
        """A value of this machine's that came from the other end, where it is value `serial`: it is not sent back."""
        self._forget()
        self._remember(ref, f"{_OWN}{serial}")

    def _remember(self, ref: Ref, name: str) -> None:
        self._names[id(ref)] = name
        weakref.finalize(ref, _went, self._gone, (id(ref), name), self._wake).atexit = False

    def _forget(self) -> None:
        """Deal with Refs that were collected, before another has the id of one."""
        while self._gone:
            key, name = self._gone.pop()
            if self._names.pop(key, None) is not None:
                self._over.append(name)

    def kept(self, serial: int) -> Ref:
        """A value that was given, as the other end names it. Raises KeyError for one that it has released."""
        return self._kept[serial]

    def released(self, serials: Iterable[int]) -> None:
        """The other end will not name these again."""
        for serial in serials:
            self._kept.pop(serial, None)

    def made_room(self, count: int) -> None:
        """The other end has taken so many bytes in."""
        self._room += count
        self._wake()

    def renew(self, told: Iterable[Payload]) -> None:
        """The other end is another process than before, and has nothing: send it the values of what it is told again,
        and forget the others, which it will never name.
        """
        self._forget()
        self._over.clear()
        wanted = {_serial(ref, _FAR) for payload in told for ref in _buffers(payload)}
        self._kept = {serial: ref for serial, ref in self._kept.items() if serial in wanted}
        self._names = {id(ref): f"{_FAR}{serial}" for serial, ref in self._kept.items()}
        self._queue = [(serial, ref, 0) for serial, ref in self._kept.items()]
        self._room, self._view = WINDOW, None

    def over(self) -> list[Drop | Release]:
        """Which values are not needed any more."""
        self._forget()
        names, self._over = [Ref(name) for name in self._over], []
        given = () if self._keep else tuple(filter(None, (_serial(name, _FAR) for name in names)))
        had = tuple(filter(None, (_serial(name, _OWN) for name in names)))
        return [*([Drop(given)] if given else []), *([Release(had)] if had else [])]

    def parts(self) -> Iterator[tuple[Part, memoryview]]:
        """The parts for which there is room, each to be sent in a message of its own."""
        while self._queue and self._room > 0:
            serial, ref, offset = self._queue[0]
            if self._view is None:
                self._view = self._arena.read(ref)
            part = self._view[offset : offset + PART]
            self._room -= part.nbytes
            if offset + part.nbytes >= ref.size:
                del self._queue[0]
                self._view = None
            else:
                self._queue[0] = serial, ref, offset + part.nbytes
            yield Part(serial, ref.size, offset), part


def _went(gone: list[tuple[int, str]], ref: tuple[int, str], wake: Callable[[], object]) -> None:
    gone.append(ref)
    wake()


class _Arriving:
    """A value of which parts are missing."""

    def __init__(self, arena: Arena, size: int) -> None:
        self.filled = 0
        self._window: memoryview | None = None
        try:
            self.ref, self._window = arena.allocate(size)
        except ArenaFull:
            self.ref = Ref(_FULL, size)

    def take(self, data: bytes) -> bool:
        """The next bytes; whether these were the last."""
        if self._window is not None:
            self._window[self.filled : self.filled + len(data)] = data
        self.filled += len(data)
        return self.filled == self.ref.size


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

    def take(self, part: Part, data: bytes) -> bool:
        """Some bytes of a value; they come in order. Whether all of it is here. Raises UsageError when it cannot be."""
        value = self._arriving.get(part.serial)
        size, filled = (part.size, 0) if value is None else (value.ref.size, value.filled)
        fits = len(data) == min(PART, size - filled)
        if part.serial in self._here or (part.size, part.offset) != (size, filled) or not fits:
            raise UsageError(f"{len(data)} bytes at {part.offset} of {part.size} cannot be part of a value")
        if value is None:
            value = self._arriving[part.serial] = _Arriving(self._arena, size)
        self._got += len(data)
        if not value.take(data):
            return False
        self._here[part.serial] = self._arriving.pop(part.serial).ref
        return True

    def got(self) -> Got | None:
        """How much was taken in since the last time, for the other end."""
        count, self._got = self._got, 0
        return Got(count) if count else None

    def drop(self, serials: Iterable[int]) -> None:
        """The other end will not mention these again."""
        for serial in serials:
            self._here.pop(serial, None)

    def complete(self, payload: Payload) -> bool:
        """Whether all values that it mentions are here."""
        serials = (_serial(ref, _FAR) for ref in _buffers(payload))
        return all(not serial or serial in self._here for serial in serials)

    def opened(self, payload: Payload, came: Callable[[Ref, int], None] | None = None) -> Payload:
        """The payload with the values as they are here. `came(ref, serial)` is told of each that was the sender's.

        Raises ArenaFull when there was no room for one of them, and UsageError when one was never given.
        """
        found = self._opened(payload, came)
        if full := [ref.size for ref in _buffers(found) if ref.uri == _FULL]:
            raise ArenaFull(f"no room for a value of {full[0]} bytes beside the others that are in use")
        return found

    def _opened(self, payload: Payload, came: Callable[[Ref, int], None] | None) -> Payload:
        if not payload.buffers and not payload.inputs:
            return payload
        buffers = tuple(self._found(ref, came) for ref in payload.buffers)
        inputs = tuple(self._opened(one, came) for one in payload.inputs)
        return msgspec.structs.replace(payload, buffers=buffers, inputs=inputs)

    def _found(self, ref: Ref, came: Callable[[Ref, int], None] | None) -> Ref:
        try:
            if own := _serial(ref, _OWN):
                return self._own(own)
            if not (serial := _serial(ref, _FAR)):
                return ref  # a file that both can read
            found = self._here[serial] if self._keep else self._here.pop(serial)
        except KeyError:
            raise UsageError(f"{ref.uri} names no value that was given") from None
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


def _buffers(payload: Payload) -> Iterator[Ref]:
    yield from payload.buffers
    for one in payload.inputs:
        yield from _buffers(one)


def _serial(ref: Ref, prefix: str) -> int:
    """The number of a value in a name that begins so; 0 for other names."""
    number = ref.uri[len(prefix) :]
    return int(number) if ref.uri.startswith(prefix) and number.isdecimal() else 0
