"""Where inputs come from: words after `:::`, lines of files and of standard input; combined, linked, in columns.

Everything is read as it is needed: a million lines on standard input are never in memory together.
"""

from __future__ import annotations

import itertools
import os
import re
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

import msgspec

from heald.core.errors import UsageError

Row = tuple[str, ...]
_CHUNK = 1 << 16


class Source(msgspec.Struct, frozen=True):
    """Inputs: `values` themselves, or those in `file` ("-" for standard input). `linked`: go along with the source
    before, one by one.
    """

    values: tuple[str, ...] = ()
    file: str = ""
    linked: bool = False

    def waits(self) -> bool:
        """Whether to read on may mean to wait: for another program, or for a person."""
        if not self.file:
            return False
        if self.file == "-":
            return not select.select([sys.stdin], [], [], 0)[0]
        return not os.path.isfile(self.file)


class Reading(msgspec.Struct, frozen=True):
    """How inputs are cut and cleaned. `delimiter`: None for lines. `columns`: a pattern that parts the columns of an
    input. `header`: the first input of each source is its name. `stop`: an input that ends its source. `trim`: sides
    to strip, of "l" and "r". `link`: all sources go along with each other, short ones from the beginning again.
    """

    delimiter: str | None = None
    columns: str | None = None
    csv: bool = False
    header: bool = False
    stop: str | None = None
    skip_empty: bool = False
    trim: str = ""
    link: bool = False


class Inputs(msgspec.Struct):
    """The rows of values, one for each job, and what is known of them. `width`: values in a row; None when rows have
    their own; `names`: from the header.
    """

    rows: Iterator[Row]
    width: int | None
    names: tuple[str, ...] = ()


def inputs(sources: Sequence[Source], reading: Reading, stdin: BinaryIO | None = None) -> Inputs:
    """The inputs of some sources. Raises UsageError for a file that cannot be read.

    >>> made = inputs([Source(("a", "b")), Source(("1", "2"))], Reading())
    >>> list(made.rows)
    [('a', '1'), ('a', '2'), ('b', '1'), ('b', '2')]
    """
    if sum(source.file == "-" for source in sources) > 1:
        raise UsageError("standard input can be read once, and several sources name it", hint="put it into a file")
    streams = [_columns(_clean(_values(source, reading, stdin), reading), reading) for source in sources]
    names: tuple[str, ...] = ()
    if reading.header:
        names = tuple(name for stream in streams for name in next(stream, ()))
    split = reading.columns is not None or reading.csv
    return Inputs(_combined(sources, streams, reading.link), None if split else len(sources), names)


def _values(source: Source, reading: Reading, stdin: BinaryIO | None) -> Iterator[str]:
    if not source.file:
        for value in source.values:
            yield from value.split(reading.delimiter) if reading.delimiter not in (None, "\0") else (value,)
        return
    if source.file == "-":
        yield from _cut(stdin or standard_input(), reading.delimiter)
        return
    try:
        stream = open(source.file, "rb")  # noqa: SIM115 (closed below, when its last line is read)
    except OSError as raised:
        raise UsageError(
            f"the input file {source.file} cannot be read: {raised.strerror}",
            hint="words themselves stand after :::, files of inputs after ::::",
        ) from raised
    with stream:
        yield from _cut(stream, reading.delimiter)


def standard_input() -> BinaryIO:
    """It, as bytes. A person at a terminal, who may have forgotten to name inputs, is told what is waited for."""
    if sys.stdin.isatty():
        print("heald run: reading inputs from this terminal, until Ctrl-D; others stand after :::", file=sys.stderr)
    return sys.stdin.buffer


def _cut(stream: BinaryIO, delimiter: str | None) -> Iterator[str]:
    """The inputs in a stream; bytes that are no text are kept as Python keeps them in file names."""
    if delimiter is None:
        for line in stream:
            yield os.fsdecode(line[:-1] if line.endswith(b"\n") else line)
        return
    sign = os.fsencode(delimiter)
    rest = b""
    while chunk := stream.read(_CHUNK):
        *whole, rest = (rest + chunk).split(sign)
        yield from map(os.fsdecode, whole)
    if rest:
        yield os.fsdecode(rest)


def _clean(values: Iterable[str], reading: Reading) -> Iterator[str]:
    if reading.stop is not None:
        values = itertools.takewhile(lambda value: value != reading.stop, values)
    strip: Callable[[str], str] | None = {"l": str.lstrip, "r": str.rstrip, "lr": str.strip, "rl": str.strip}.get(
        reading.trim
    )
    for value in values:
        if "\0" in value:
            raise UsageError(
                f"an input has a NUL byte in it: {value[:60]!r}", hint="-0 reads inputs that end with NUL bytes"
            )
        if reading.skip_empty and not value:
            continue
        yield strip(value) if strip else value


def _columns(values: Iterator[str], reading: Reading) -> Iterator[Row]:
    if reading.csv:
        import csv

        for row in csv.reader(values, delimiter=reading.columns or ","):
            yield tuple(row)
    elif reading.columns is not None:
        try:
            pattern = re.compile(reading.columns)
        except re.error as raised:
            raise UsageError(f"--colsep {reading.columns!r} is no pattern: {raised}", hint="a dot is '\\.'") from None
        for value in values:
            yield tuple(pattern.split(value))
    else:
        for value in values:
            yield (value,)


class _Again(msgspec.Struct):
    """Rows that can be gone through many times, and are read once."""

    stream: Iterator[Row]
    seen: list[Row] = []

    def __iter__(self) -> Iterator[Row]:
        yield from self.seen
        for row in self.stream:
            self.seen.append(row)
            yield row


def _combined(sources: Sequence[Source], streams: Sequence[Iterator[Row]], link: bool) -> Iterator[Row]:
    if link:
        yield from _wrapped(streams)
        return
    groups: list[list[Iterator[Row]]] = []
    for source, stream in zip(sources, streams, strict=True):
        if source.linked and groups:
            groups[-1].append(stream)
        else:
            groups.append([stream])
    along = [_flat(zip(*group, strict=False)) if len(group) > 1 else group[0] for group in groups]
    if len(along) == 1:
        yield from along[0]
        return
    first, *others = along
    again: list[Iterable[Row]] = [_Again(other) for other in others]
    for row in first:
        yield from _product(row, again)


def _product(row: Row, others: Sequence[Iterable[Row]]) -> Iterator[Row]:
    if not others:
        yield row
        return
    for following in others[0]:
        yield from _product(row + following, others[1:])


def _flat(rows: Iterable[tuple[Row, ...]]) -> Iterator[Row]:
    for parts in rows:
        yield tuple(itertools.chain.from_iterable(parts))


def _wrapped(streams: Sequence[Iterator[Row]]) -> Iterator[Row]:
    """Sources side by side until the longest ends; those that end before begin again."""
    seen: list[list[Row]] = [[] for _ in streams]
    ended = [False] * len(streams)
    for count in itertools.count():
        parts: list[Row] = []
        for place, stream in enumerate(streams):
            row = None if ended[place] else next(stream, None)
            if row is None:
                ended[place] = True
                if not seen[place]:
                    return
                row = seen[place][count % len(seen[place])]
            elif len(streams) > 1:
                seen[place].append(row)
            else:
                seen[place] = [row]
            parts.append(row)
        if all(ended):
            return
        yield tuple(itertools.chain.from_iterable(parts))
