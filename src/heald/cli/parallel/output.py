"""Prints what jobs print: each job's in one piece, in the order of the inputs if asked for, or line by line at once."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_LARGE = 1 << 20
_PIPE = 1 << 16


def show(path: Path | None, stream: BinaryIO, tag: bytes = b"") -> None:
    """Print a file, with `tag` before each line."""
    if path is None:
        return
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed below)
    except FileNotFoundError:
        return
    with file:
        if tag:
            with os.fdopen(os.dup(file.fileno()), "rb") as lines:
                for line in lines:
                    stream.write(tag + line)
            return
        data = file.read(_LARGE)
        stream.write(data)
        if len(data) == _LARGE:
            shutil.copyfileobj(file, stream, _LARGE)


class InOrder:
    """Calls what is to be done for each job in the order of their numbers, as soon as all before are done."""

    def __init__(self, first: int = 1) -> None:
        self._next = first
        self._waiting: dict[int, Callable[[], None]] = {}

    def add(self, number: int, act: Callable[[], None]) -> None:
        """Job `number` is over."""
        self._waiting[number] = act
        while (ready := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            ready()

    def rest(self) -> None:
        """Some jobs will never be over: do what waits for them."""
        for number in sorted(self._waiting):
            self._waiting.pop(number)()


class Lines:
    """Prints whole lines as jobs write them: each slot has a pipe for each stream, which jobs open by its path."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipes: dict[tuple[int, int], _Pipe] = {}
        self._by_end: dict[int, _Pipe] = {}
        self._wake, self._woken = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._thread = threading.Thread(target=self._serve, name="heald-lines", daemon=True)
        self._thread.start()

    def paths(self, slot: int, tag: bytes) -> tuple[str, str]:
        """Where a job in that slot writes its output and its errors; `tag` goes before each line."""
        return self._path(slot, 1, tag), self._path(slot, 2, tag)

    def _path(self, slot: int, stream: int, tag: bytes) -> str:
        with self._lock:
            pipe = self._pipes.get((slot, stream))
            if pipe is None:
                pipe = self._pipes[slot, stream] = _Pipe(sys.stdout.buffer if stream == 1 else sys.stderr.buffer)
                self._by_end[pipe.reads] = pipe
                self._poll.register(pipe.reads, select.POLLIN)
                os.write(self._woken, b"!")
            pipe.tag = tag
            return f"/proc/{os.getpid()}/fd/{pipe.writes}"

    def finish(self, slot: int) -> int:
        """The job in that slot is over: print what is left. Returns how many bytes it had on standard output."""
        with self._lock:
            for stream in (1, 2):
                self._pipes[slot, stream].drain(last=True)
            count, self._pipes[slot, 1].count = self._pipes[slot, 1].count, 0
            return count

    def _serve(self) -> None:
        while True:
            for end, _ in self._poll.poll():
                if end == self._wake:
                    if os.read(self._wake, 64).endswith(b"."):
                        return
                    continue
                with self._lock:
                    self._by_end[end].drain()

    def close(self) -> None:
        """Stop."""
        os.write(self._woken, b".")
        self._thread.join()
        for pipe in self._pipes.values():
            pipe.close()
        os.close(self._wake)
        os.close(self._woken)


class _Pipe:
    """What one slot writes to one stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self.reads, self.writes = os.pipe2(os.O_CLOEXEC)
        fcntl.fcntl(self.reads, fcntl.F_SETFL, os.O_NONBLOCK)
        self.stream = stream
        self.tag = b""
        self.rest = b""
        self.count = 0

    def drain(self, *, last: bool = False) -> None:
        """Print what is there, up to the last whole line, or all of it."""
        while True:
            try:
                data = os.read(self.reads, _PIPE)
            except BlockingIOError:
                break
            self.count += len(data)
            *lines, self.rest = (self.rest + data).split(b"\n")
            self._print([line + b"\n" for line in lines])
        if last and self.rest:
            self._print([self.rest])
            self.rest = b""

    def _print(self, lines: list[bytes]) -> None:
        try:
            self.stream.writelines(self.tag + line for line in lines)
            self.stream.flush()
        except BrokenPipeError:
            pass  # nobody reads any more: the next job's end finds out

    def close(self) -> None:
        """Close both ends."""
        os.close(self.reads)
        os.close(self.writes)
