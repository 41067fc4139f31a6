from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.cli.parallel.source import Reading, Row, Source, inputs
from heald.core.errors import UsageError

values = st.lists(st.text("abc", max_size=2), max_size=4).map(tuple)


def rows(*sources: Source, text: bytes = b"", reading: Reading | None = None) -> list[Row]:
    return list(inputs(sources, reading or Reading(), io.BytesIO(text)).rows)


@given(st.lists(values, min_size=1, max_size=3))
def test_sources_are_combined_as_a_product(lists: list[tuple[str, ...]]) -> None:
    assert rows(*map(Source, lists)) == list(itertools.product(*lists))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_person_is_told_what_is_waited_for(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = io.TextIOWrapper(io.BytesIO(b"a\nb\n"))
    monkeypatch.setattr(typed, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stdin", typed)
    assert list(inputs([Source(file="-")], Reading()).rows) == [("a",), ("b",)]
    assert ("from this terminal, until Ctrl-D" in capsys.readouterr().err) == terminal


@given(values, values)
def test_linked_sources_go_along_and_end_with_the_shortest(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    assert rows(Source(first), Source(second, linked=True)) == list(zip(first, second, strict=False))


def test_link_wraps_the_short_ones() -> None:
    found = rows(Source(("a", "b", "c")), Source(("1", "2")), reading=Reading(link=True))
    assert found == [("a", "1"), ("b", "2"), ("c", "1")]
    assert rows(Source(("a",)), Source(()), reading=Reading(link=True)) == []


class Endless(io.RawIOBase):
    """Lines without end; counts how many were read."""

    def __init__(self) -> None:
        self.read_lines = 0

    def __iter__(self) -> Iterator[bytes]:  # type: ignore[override]
        return self

    def __next__(self) -> bytes:
        self.read_lines += 1
        return b"line\n"


def test_inputs_are_read_as_they_are_needed() -> None:
    stream = Endless()
    found = inputs([Source(file="-"), Source(("1", "2"))], Reading(), stream)  # type: ignore[arg-type]
    assert len(list(itertools.islice(found.rows, 10))) == 10
    assert stream.read_lines <= 6


@pytest.mark.parametrize(
    ("text", "reading", "expected"),
    [
        (b"a\n\nb", Reading(), ["a", "", "b"]),
        (b"a\n\nb\n", Reading(skip_empty=True), ["a", "b"]),
        (b"a\nb\0c\nd\0", Reading(delimiter="\0"), ["a\nb", "c\nd"]),
        (b"a,b,", Reading(delimiter=","), ["a", "b"]),
        (b" a \n", Reading(trim="l"), ["a "]),
        (b"a\nstop\nb\n", Reading(stop="stop"), ["a"]),
        (b"\xff\n", Reading(), ["\udcff"]),
    ],
)
def test_how_a_stream_is_cut(text: bytes, reading: Reading, expected: list[str]) -> None:
    assert rows(Source(file="-"), text=text, reading=reading) == [(value,) for value in expected]


def test_long_inputs_cross_the_borders_of_reads() -> None:
    long = b"x" * 100_000
    assert rows(Source(file="-"), text=long + b"\0" + long, reading=Reading(delimiter="\0")) == [(long.decode(),)] * 2


def test_words_are_inputs_whatever_is_in_them() -> None:
    assert rows(Source(("a\nb",))) == [("a\nb",)]


def test_columns_and_header() -> None:
    found = inputs([Source(file="-")], Reading(columns="\t", header=True), io.BytesIO(b"x\ty\n1\t2\n"))
    assert (found.names, list(found.rows), found.width) == (("x", "y"), [("1", "2")], None)
    assert rows(Source(('a,"b, c"',)), reading=Reading(csv=True)) == [("a", "b, c")]


def test_what_may_have_to_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    waits = [Source(("a",)).waits(), *(Source(file=str(tmp_path / name)).waits() for name in ("file", "pipe"))]
    assert waits == [False, False, True]
    reads, writes = os.pipe()
    with open(reads) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert Source(file="-").waits()
        os.write(writes, b"a\n")
        assert not Source(file="-").waits()
        os.close(writes)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent cannot be read: No such file"):
        rows(Source(file=str(tmp_path / "absent")))


def test_a_nul_byte_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match="NUL byte") as caught:
        rows(Source(file="-"), text=b"a\0b\n")
    assert "-0" in caught.value.hint


def test_a_bad_pattern_and_two_readers_of_one_stream() -> None:
    with pytest.raises(UsageError, match="--colsep"):
        rows(Source(("a",)), reading=Reading(columns="("))
    with pytest.raises(UsageError, match="can be read once"):
        rows(Source(file="-"), Source(file="-"))
