"""Memory that all processes of a run on one machine share, so that large buffers travel by name.

One sparse memory file, divided into strides: every process (owner) writes only inside its own stride and reads
everywhere, so that no lock crosses processes. Pages that were written once are reused, because the first touch of a
page costs several times more than the copy into it.

Who frees: *a Ref object owns its bytes.* The space behind a Ref that `write` returned is free again when that Ref
object is garbage-collected, so whoever keeps it (a Payload, a table of what other processes still use) keeps the
bytes. A Ref that was decoded from a message owns nothing by itself; `adopt` gives it a function to call when it is
collected, which may tell the owner. A view made by `read` keeps the Ref that it was made from.

Knows nothing of pickling (`payload.py`) nor of how the file descriptor reaches other processes.
"""

from __future__ import annotations

import functools
import math
import os
import resource
import threading
import weakref
from collections import deque
from collections.abc import Callable
from mmap import ALLOCATIONGRANULARITY as PAGE
from mmap import MAP_PRIVATE, MAP_SHARED, mmap
from typing import TypeVar

from heald.core.errors import UsageError
from heald.core.ref import Ref
from heald.data.space import Space

OWNERS = 4096
SCHEME = "shm:"
_STRIDES = tuple(2**power for power in (36, 32, 30))  # bytes for each owner: virtual, so as many as the system allows
_COPIED = 256 * 1024  # up to here a copy is cheaper for the reader than a mapping of its own
_CHUNK = 64 * 2**20  # copied at once; between chunks other threads may run
_COMPARED = 256 * 1024  # compared at once; stays in the processor's cache
_WARM = 64 * 2**20  # bytes that stay ready for the next writes
_TRIM_SECONDS = 10.0
_TRIMMED = 16 * 2**30  # bytes at once: the system takes a second for them, and so does whoever waits for this process
_MADV_REMOVE, _MADV_POPULATE_READ = 9, 22  # Linux; the mmap module of 3.11 does not name the second

OnRelease = Callable[[Ref], object]
T = TypeVar("T")


class ArenaFull(MemoryError):
    """There is no room for a buffer: let it travel in the message instead."""


class _Watch(weakref.ref):  # type: ignore[type-arg]
    """A weak reference that carries what its callback needs, so that the callback can be a plain method."""

    __slots__ = ("key", "on_release", "ref", "size", "start")
    key: object
    start: int
    size: int
    ref: Ref
    on_release: OnRelease | None


class Arena:
    """The shared memory as one process sees it: it writes as `owner`, and reads what all owners wrote.

    `Arena()` makes a new memory file; `Arena(fd=..., owner=k)` attaches to the one behind a descriptor, which it takes
    over. `capacity`: bytes that this owner may fill; half of the machine's memory by default. Raises OSError when the
    system does not give such memory.

    >>> arena = Arena(capacity=2**20)
    >>> ref = arena.write(b"weft" * 100_000)
    >>> ref.size, bytes(arena.read(ref)[:4])
    (400000, b'weft')
    """

    def __init__(self, fd: int | None = None, owner: int = 0, *, capacity: int | None = None) -> None:
        if not 0 <= owner < OWNERS:
            raise UsageError(f"owner={owner}: must be from 0 to {OWNERS - 1}")
        if capacity is not None and capacity < 1:
            raise UsageError(f"capacity={capacity}: must be a number of bytes, at least 1")
        self.fd = _memory_file() if fd is None else fd
        self._closed = weakref.finalize(self, os.close, self.fd)
        self._closed.atexit = False
        self.owner = owner
        self._stride = os.fstat(self.fd).st_size // OWNERS
        self._start = owner * self._stride
        self.capacity = min(_pages(_half_of_memory() if capacity is None else capacity) * PAGE, self._stride)
        self._window = memoryview(mmap(self.fd, self.capacity, MAP_SHARED, offset=self._start))
        self._space = Space(self.capacity // PAGE)
        self._used = self._most = 0  # pages in use, and the most at once since they were trimmed
        self._kept = 0  # pages that were left then
        self._swept = 0  # up to this page, what is to go has gone already
        self._fresh = 0  # from this page on, none was ever written
        self._trimmed = -math.inf  # when; on the clock of the caller
        self._live: dict[int, _Watch] = {}  # start -> the watch on the Ref that owns the space there
        self._freed: deque[_Watch] = deque()  # what finalizers leave for the next write; appending needs no lock
        self._shared: dict[object, _Watch] = {}  # exporter and size -> the watch on the exporter, with its Ref
        self._watches: dict[int, _Watch] = {}  # keeps those on views and adopted Refs alive
        self._lock = threading.RLock()
        self._appointed = {owner}
        # Before Python 3.13 each mapping holds a descriptor, of which the user's own files need some too.
        self._mapped, self._most_mapped = 0, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4
        self._busy = False
        self._process = os.getpid()

    def write(self, buffer: bytes | bytearray | memoryview) -> Ref:
        """Copies a contiguous buffer into the arena. From any thread. Raises ArenaFull when there is no room."""
        view = memoryview(buffer).cast("B")
        fresh = self._start + self._fresh * PAGE
        ref, window = self.allocate(view.nbytes)
        if (start := self._locate(ref)) >= fresh:
            self._write_fresh(view, start)
            return ref
        for done in range(0, view.nbytes, _CHUNK):
            part = view[done : done + _CHUNK]
            window[done : done + part.nbytes] = part
        return ref

    def _write_fresh(self, view: memoryview, start: int) -> None:
        """The system fills pages that nobody has touched in half the time: it need not clear them before."""
        done = 0
        try:
            while done < view.nbytes:
                done += os.pwrite(self.fd, view[done : done + _CHUNK], start + done)
        except OSError as raised:
            raise ArenaFull(f"the system has no room for {view.nbytes} bytes: {raised.strerror}") from raised

    def allocate(self, size: int) -> tuple[Ref, memoryview]:
        """Room for so many bytes, to be filled before anybody reads them. Raises ArenaFull when there is none."""
        pages = _pages(size) or 1
        start = self._take(pages)
        ref = Ref(f"{SCHEME}{self._start + start * PAGE}", size)
        watch = _Watch(ref, self._freed.append)
        watch.start, watch.size = start, pages
        self._live[start] = watch
        return ref, self._window[start * PAGE : start * PAGE + size]

    def share(self, view: memoryview) -> Ref:
        """Like `write`, but one copy serves for as long as the object behind the view lives and keeps its content.

        The content is compared each time, since nothing tells when somebody writes to an array.
        """
        exporter = view.obj
        key = (id(exporter), view.nbytes)
        known = self._shared.get(key)
        if known is not None and known() is exporter and self._same(known.ref, view):
            if os.getpid() == self._process:  # else the parent may free it at any time
                return known.ref
        try:
            ref = self.write(view)
        except ArenaFull:
            self._shared.clear()  # copies that only this table keeps
            ref = self.write(view)
        try:
            watch = _Watch(exporter, self._forget)
        except TypeError:  # a bytearray, for one, knows no weak references
            return ref
        watch.key, watch.ref = key, ref
        self._shared[key] = watch
        return ref

    def read(self, ref: Ref, on_release: OnRelease | None = None) -> memoryview:
        """The bytes of any owner's Ref, as a view that may be written to: nobody else sees what is written.

        `on_release(ref)` is called when the last user of the view is gone, perhaps by the garbage collector in any
        thread: it must take no lock. Raises UsageError for a Ref that names no memory of this arena.
        """
        start = self._locate(ref)
        if ref.size > _COPIED and self._mapped < self._most_mapped:
            try:
                mapping = mmap(self.fd, ref.size, MAP_PRIVATE, offset=start)
            except OSError:  # too many descriptors (each mapping takes one before Python 3.13) or mappings
                pass
            else:
                _populate(mapping)
                self._mapped += 1
                self._watch(mapping, ref, functools.partial(self._unmapped, on_release))
                return memoryview(mapping)
        view = memoryview(bytearray(ref.size))
        done = 0
        while done < ref.size:
            done += os.preadv(self.fd, [view[done:]], start + done)
        if on_release is not None:
            on_release(ref)
        return view

    def peek(self, ref: Ref) -> memoryview:
        """Like `read`, for those who keep the Ref for as long as they look, and only look. From any thread."""
        start = self._locate(ref) - self._start
        if 0 <= start < self.capacity:
            return self._window[start : start + ref.size].toreadonly()
        return self.read(ref)

    def adopt(self, ref: Ref, on_release: OnRelease) -> Ref:
        """Calls `on_release` with an equal Ref when this one, decoded from a message, is collected.

        The caution of `read` about `on_release` holds here too.
        """
        self._watch(ref, Ref(ref.uri, ref.size, ref.digest), on_release)
        return ref

    def free(self, ref: Ref) -> None:
        """Gives up the space of an own Ref before it is collected. From any thread, and from finalizers."""
        start, offset = divmod(self._locate(ref) - self._start, PAGE)
        watch = self._live.get(start) if not offset else None
        if watch is not None:
            self._freed.append(watch)
        elif not 0 <= start < self.capacity // PAGE:
            raise UsageError(f"{ref.uri} belongs to another process, which alone can free it")

    @property
    def swollen(self) -> bool:
        """Whether there may soon be something to `trim`."""
        return max(self._most, self._kept) * PAGE > _WARM

    def trim(self, now: float) -> None:
        """Gives pages back to the system that were free ever since the last time, except some that are kept ready.

        To be called now and then: once in ten seconds it does something. `now`: seconds, on any clock of the caller's.
        """

        def punch() -> None:
            self._kept, self._most = max(_WARM // PAGE, self._most), self._used
            left = _TRIMMED // PAGE
            for start, size in sorted(self._space.surplus(self._kept - self._used)):
                first, last = max(start, self._swept), min(start + size, self._fresh)
                if last - first > left:  # the rest the next time
                    last, self._kept = first + left, self._fresh
                if last > first:
                    self._punch(self._start + first * PAGE, (last - first) * PAGE)
                    self._swept, left = last, left - (last - first)
            if left:
                self._swept = 0

        if now >= self._trimmed + _TRIM_SECONDS:
            self._trimmed = now
            self._alone(punch)

    def appoint(self) -> int:
        """The number of a new owner; it is nobody else's until `discard`. Raises ArenaFull when there are too many."""
        for owner in range(OWNERS):
            if owner not in self._appointed:
                self._appointed.add(owner)
                return owner
        raise ArenaFull(f"there are {OWNERS} owners already")

    def discard(self, owner: int) -> None:
        """Gives the pages of an owner that has died back to the system, once nobody reads there any more."""
        if owner == self.owner or not 0 <= owner < OWNERS:
            raise UsageError(f"owner={owner}: must be another owner's number")
        self._punch(owner * self._stride, self._stride)
        self._appointed.discard(owner)

    def close(self) -> None:
        """Nothing can be written or read any more; views that were read stay."""
        self._space = Space(0)
        self._closed()
        self.fd = -1

    def _take(self, pages: int) -> int:
        def take() -> int | None:
            start = self._space.take(pages)
            if start is not None:
                self._used += pages
                self._most = max(self._most, self._used)
                self._fresh = max(self._fresh, start + pages)
            return start

        start = self._alone(take)
        if start is None:
            raise ArenaFull(f"no room for {pages * PAGE} bytes within {self.capacity}")
        return start

    def _alone(self, act: Callable[[], T]) -> T | None:
        """What `act` gives, done by one thread at a time on free space that is up to date.

        None in a process forked from the owner, and when the garbage collector runs somebody's finalizer inside this
        very section: both must do without.
        """
        if os.getpid() != self._process:
            return None
        with self._lock:
            if self._busy:
                return None
            self._busy = True
            try:
                self._drain()
                return act()
            finally:
                self._busy = False

    def _drain(self) -> None:
        while self._freed:
            watch = self._freed.popleft()
            if self._live.get(watch.start) is watch:  # not twice, when freed by hand and then collected
                del self._live[watch.start]
                self._space.give(watch.start, watch.size)
                self._used -= watch.size

    def _locate(self, ref: Ref) -> int:
        if self.fd < 0:
            raise UsageError("the shared memory is closed")
        number = ref.uri.removeprefix(SCHEME)
        if ref.uri.startswith(SCHEME) and number.isdecimal() and number.isascii():
            start = int(number)
            within = start % self._stride + ref.size <= self._stride and start < self._stride * OWNERS
            if start % PAGE == 0 and within and ref.size >= 0:
                return start
        raise UsageError(f"{ref.uri!r} with {ref.size} bytes names no memory of this run")

    def _same(self, ref: Ref, view: memoryview) -> bool:
        start = self._locate(ref) - self._start
        for done in range(0, ref.size, _COMPARED):
            # Comparing views goes item by item; a bytearray compares with anything by memcmp.
            part = view[done : done + _COMPARED]
            if bytearray(part) != self._window[start + done : start + done + part.nbytes]:
                return False
        return True

    def _watch(self, thing: object, ref: Ref, on_release: OnRelease | None) -> None:
        watch = _Watch(thing, self._released)
        watch.ref, watch.on_release = ref, on_release
        self._watches[id(watch)] = watch

    def _unmapped(self, on_release: OnRelease | None, ref: Ref) -> None:
        self._mapped -= 1
        if on_release is not None:
            on_release(ref)

    def _released(self, watch: _Watch) -> None:
        del self._watches[id(watch)]
        # In a forked child the objects of its parent die too; that says nothing about the parent's.
        if watch.on_release is not None and os.getpid() == self._process:
            watch.on_release(watch.ref)

    def _forget(self, watch: _Watch) -> None:
        self._shared.pop(watch.key, None)

    def _punch(self, start: int, size: int) -> None:
        mmap(self.fd, size, MAP_SHARED, offset=start).madvise(_MADV_REMOVE)


def _memory_file() -> int:
    fd = _memfd_create()
    for stride in _STRIDES:
        try:
            os.ftruncate(fd, stride * OWNERS)
        except OSError as error:  # a limit on file sizes (ulimit -f)
            refusal = error
        else:
            return fd
    os.close(fd)
    raise OSError(refusal.errno, f"no shared memory: a file of {_STRIDES[-1] * OWNERS} bytes is refused (ulimit -f?)")


def _memfd_create() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("heald", os.MFD_CLOEXEC)
    # Pythons built for old systems (conda, python-build-standalone) lack it, though the C library at hand has it.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.memfd_create(b"heald", 1) if hasattr(libc, "memfd_create") else -1
    if fd < 0:
        raise OSError(ctypes.get_errno(), "no shared memory: this system has no memfd_create")
    return fd


def _pages(size: int) -> int:
    return -(-size // PAGE)


def _half_of_memory() -> int:
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
    return half if addresses == resource.RLIM_INFINITY else min(half, addresses // 4)


def _populate(mapping: mmap) -> None:
    try:
        mapping.madvise(_MADV_POPULATE_READ)  # one call instead of a fault for every 16 pages
    except OSError:  # Linux before 5.14
        pass
