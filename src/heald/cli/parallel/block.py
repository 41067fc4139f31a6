"""Cuts a stream into blocks of whole records, each the standard input of one job (--pipe, --pipepart)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from heald.cli.parallel.option import Options, block_size
from heald.core.errors import UsageError

_GROWTH = 1 << 16
_LONGEST = 1024  # bytes of what parts two records


class Records(msgspec.Struct, frozen=True):
    """Where one record ends and the next begins. `pattern` finds the place between two: its group `end` is the end of
    the one before. `size`: bytes in a block. `number`: records in a block, whatever its size. `lines`: records that
    stay together. `bare`: leave out what parts them.
    """

    pattern: re.Pattern[bytes] | None
    size: int
    number: int = 0
    lines: int = 1
    bare: bool = False
    header: re.Pattern[bytes] | None = None


def records(options: Options) -> Records:
    """What the options say of records. Raises UsageError for a pattern that is none."""
    recend = options.recend
    if recend is None:
        recend = "" if options.recstart else "\n"
    plain = (lambda text: text.encode()) if options.regexp else (lambda text: re.escape(os.fsencode(text)))
    end, start = plain(recend), plain(options.recstart)
    header = options.header
    if re.fullmatch(r"\d+", header):
        header = rf"(?:[^\n]*\n){{{header}}}"
    elif header == ":":
        header = r"[^\n]*\n"
    try:
        pattern = re.compile(b"(?P<end>" + end + b")(?=(?P<start>" + start + b"))") if end or start else None
        head = re.compile(header.encode()) if header else None
    except re.error as raised:
        raise UsageError(f"--recend, --recstart or --header is no pattern: {raised}") from None
    number = options.max_replace or 0
    return Records(
        pattern, block_size(options.block), number, max(1, options.max_lines or 1), options.remove_separators, head
    )


def blocks(stream: BinaryIO, how: Records) -> Iterator[bytes]:
    """The blocks of a stream.

    >>> import io
    >>> how = Records(re.compile(rb"(?P<end>\\n)(?=(?P<start>))"), size=5)
    >>> list(blocks(io.BytesIO(b"1\\n2\\n3\\n4"), how))
    [b'1\\n2\\n', b'3\\n4']
    """
    buffer = header = b""
    if how.header is not None:
        buffer = stream.read(max(how.size, _GROWTH))
        found = how.header.match(buffer)
        if found is not None:
            header, buffer = found[0], buffer[found.end() :]
    ended = False
    while not ended or buffer:
        cut, buffer = _cut(buffer, how, ended=ended)
        for block in cut:
            yield header + block
        if not cut:
            wanted = _GROWTH if how.number else how.size - len(buffer)
            if wanted <= 0:  # a record is longer than a block
                wanted = how.size
            more = stream.read(wanted)
            ended = len(more) < wanted
            buffer += more


def _cut(buffer: bytes, how: Records, *, ended: bool) -> tuple[list[bytes], bytes]:
    """The blocks that are whole, and the rest; of the end, all."""
    if how.pattern is None:
        return _even(buffer, how, ended=ended)
    if how.number:
        return _counted(buffer, how, how.number, ended=ended)
    if not ended and len(buffer) < how.size:
        return [], buffer
    if ended and len(buffer) <= how.size and how.lines == 1:
        return ([_kept(buffer, how)] if buffer else []), b""
    places = _places(buffer, how, ended=ended)[how.lines - 1 :: how.lines]
    inside = [place for place in places if place <= how.size]
    if not places:
        return ([_kept(buffer, how)], b"") if ended and buffer else ([], buffer)
    place = inside[-1] if inside else places[0]
    return [_kept(buffer[:place], how)], buffer[place:]


def _even(buffer: bytes, how: Records, *, ended: bool) -> tuple[list[bytes], bytes]:
    whole = len(buffer) // how.size * how.size
    cut = [buffer[place : place + how.size] for place in range(0, whole, how.size)]
    rest = buffer[whole:]
    return ([*cut, rest], b"") if ended and rest else (cut, rest)


def _counted(buffer: bytes, how: Records, number: int, *, ended: bool) -> tuple[list[bytes], bytes]:
    cut: list[bytes] = []
    begin = 0
    for place in _places(buffer, how, ended=ended)[number - 1 :: number]:
        cut.append(_kept(buffer[begin:place], how))
        begin = place
    rest = buffer[begin:]
    return ([*cut, _kept(rest, how)], b"") if ended and rest else (cut, rest)


def _places(buffer: bytes, how: Records, *, ended: bool) -> list[int]:
    """Where records end. One that ends with the buffer may go on in the next."""
    assert how.pattern is not None
    return [
        found.end("end")
        for found in how.pattern.finditer(buffer)
        if found.end("end") and (ended or found.end() < len(buffer) or (not found["start"] and found["end"] == b"\n"))
    ]


def _kept(block: bytes, how: Records) -> bytes:
    if not how.bare or how.pattern is None:
        return block
    return how.pattern.sub(b"", block)


def parts(path: str, how: Records) -> Iterator[bytes]:
    """The blocks of a file, each at least `size` bytes but the last, cut after the record in which that many end."""
    assert how.pattern is not None
    with open(path, "rb") as file:
        rest = b""
        while True:
            while len(rest) <= how.size and (more := file.read(how.size)):
                rest += more
            if not rest:
                return
            found = how.pattern.search(rest, min(how.size, len(rest)))
            while found is None and (more := file.read(_GROWTH)):
                begin = len(rest)
                rest += more
                found = how.pattern.search(rest, max(how.size, begin - _LONGEST))  # it may lie across the border
            place = found.end("end") if found is not None and found.end("end") else len(rest)
            yield rest[:place]
            rest = rest[place:]
