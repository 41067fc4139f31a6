"""Large values that one machine gives to another, and gets from it: what they are called, and how long they are kept.

Each end has an `Outlet` for what it gives and an `Inlet` for what it gets. A value that was given is named by a serial
number, never used twice, for as long as either end may mention it: so each value goes to each machine once. In what
travels, "far:7" is value 7 of the sender, and "own:7" value 7 of the receiver, which the sender has had from it. The
bytes go another way, at the receiver's wish: see `heald.wire.porter`.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TypeGuard

import msgspec

from heald.core.errors import UsageError
from heald.core.ref import Ref
from heald.core.task import Payload
from heald.data.arena import SCHEME, Arena, ArenaFull
from heald.run.cluster.dialogue import Drop, Release

_FAR, _OWN = "far:", "own:"
_FULL = "full:"  # there was no room for it here

Fetch = Callable[[int, memoryview, Ref], None]  # a serial number, where its bytes go, and what owns that place


class Outlet:
    """Values that this machine gives to one other.

    `wake` is called, in any thread, when there may be something to tell. `keep`: hold them until the other end releases
    them, since it may name them as its sender's own; if not, until it has got them.
    """

    def __init__(self, arena: Arena, wake: Callable[[], object], *, keep: bool = False) -> None:
        self._arena = arena
        self._wake = wake
        self._keep = keep
        self._serials = itertools.count(1)
        self._names: dict[int, str] = {}  # id of a Ref -> its name for the other end
        self._held: dict[int, Ref] = {}
        self._gone: list[tuple[int, str]] = []  # of Refs that were collected; filled in any thread
        self._over: list[str] = []  # names that the other end need not know any more

    def name(self, ref: Ref) -> Ref:
        """The Ref by which the other end knows the value, and may ask for it."""
        self._forget()
        name = self._names.get(id(ref))
        if name is None:
            serial = next(self._serials)
            name = f"{_FAR}{serial}"
            self._held[serial] = ref
            self._remember(ref, name)
        return Ref(name, ref.size)

    def find(self, serial: int) -> memoryview | None:
        """The bytes of a value that the other end asks for, to be read while it is held. From any thread."""
        ref = self._held.get(serial)
        return None if ref is None else self._arena.peek(ref)

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
        return self._held[serial]

    def released(self, serials: Iterable[int]) -> None:
        """The other end has got these, or will not name them again."""
        for serial in serials:
            self._held.pop(serial, None)

    def renew(self, told: Iterable[Payload]) -> None:
        """The other end is another process than before, and has nothing: keep the values of what it is told again, for
        which it will ask, and forget the others, which it will never name.
        """
        self._forget()
        self._over.clear()
        wanted = {_serial(ref, _FAR) for payload in told for ref in _buffers(payload)}
        self._held = {serial: ref for serial, ref in self._held.items() if serial in wanted}
        self._names = {id(ref): f"{_FAR}{serial}" for serial, ref in self._held.items()}

    def over(self) -> list[Drop | Release]:
        """Which values are not needed any more."""
        self._forget()
        names, self._over = [Ref(name) for name in self._over], []
        given = () if self._keep else tuple(filter(None, (_serial(name, _FAR) for name in names)))
        had = tuple(filter(None, (_serial(name, _OWN) for name in names)))
        return [*([Drop(given)] if given else []), *([Release(had)] if had else [])]


def _went(gone: list[tuple[int, str]], ref: tuple[int, str], wake: Callable[[], object]) -> None:
    gone.append(ref)
    wake()


class Inlet:
    """Values that this machine gets from one other, in its arena.

    `fetch` has the bytes of one brought here. `own`: gives a value that the other end names as one that it had from
    here. `keep`: values stay until the other end drops them; if not, each may be mentioned once.
    """

    def __init__(self, arena: Arena, fetch: Fetch, own: Callable[[int], Ref], *, keep: bool = False) -> None:
        self._arena = arena
        self._fetch = fetch
        self._own = own
        self._keep = keep
        self._here: dict[int, Ref] = {}
        self._coming: dict[int, Ref] = {}

    def want(self, payload: Payload) -> None:
        """Ask for the values that it mentions and that are not here; also for those that had no room before.

        Raises UsageError for one that cannot be.
        """
        for ref in _buffers(payload):
            serial = _serial(ref, _FAR)
            if serial and serial not in self._coming and self._here.get(serial, _NO_ROOM).uri == _FULL:
                self._ask(serial, ref.size)

    def _ask(self, serial: int, size: int) -> None:
        if size < 0:
            raise UsageError(f"a value of {size} bytes")
        try:
            ref, window = self._arena.allocate(size)
        except ArenaFull:
            self._here[serial] = Ref(_FULL, size)
            return
        if size:
            self._here.pop(serial, None)
            self._coming[serial] = ref
            self._fetch(serial, window, ref)
        else:
            self._here[serial] = ref

    def came(self, serial: int, ref: object) -> bool:
        """All bytes of a value are in the place that this Ref owns; whether anybody still wants them."""
        if self._coming.get(serial) is not ref:
            return False  # asked for in another conversation, or dropped meanwhile
        self._here[serial] = self._coming.pop(serial)
        return True

    def drop(self, serials: Iterable[int]) -> None:
        """The other end will not mention these again."""
        for serial in serials:
            self._here.pop(serial, None)
            self._coming.pop(serial, None)

    def complete(self, payload: Payload) -> bool:
        """Whether all values that it mentions are here, or have no room."""
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
        if not is_large(payload):
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
    if not is_large(payload):
        return payload
    buffers = tuple(outlet.name(ref) if ref.uri.startswith(SCHEME) else ref for ref in payload.buffers)
    inputs = tuple(closed(one, outlet) for one in payload.inputs)
    return msgspec.structs.replace(payload, buffers=buffers, inputs=inputs)


_NO_ROOM = Ref(_FULL)


def is_large(told: object) -> TypeGuard[Payload]:
    """Whether it is a payload that may mention large values."""
    return isinstance(told, Payload) and bool(told.buffers or told.inputs)


def _buffers(payload: Payload) -> Iterator[Ref]:
    yield from payload.buffers
    for one in payload.inputs:
        yield from _buffers(one)


def _serial(ref: Ref, prefix: str) -> int:
    """The number of a value in a name that begins so; 0 for other names."""
    number = ref.uri[len(prefix) :]
    return int(number) if ref.uri.startswith(prefix) and number.isdecimal() else 0
