from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.cli.parallel.block import blocks, parts, records
from heald.cli.parallel.option import parse
from heald.core.errors import UsageError

lines = st.lists(st.text("ab", max_size=6), max_size=30).map(lambda found: "".join(f"{x}\n" for x in found).encode())


def cut(text: bytes, *words: str) -> list[bytes]:
    return list(blocks(io.BytesIO(text), records(parse([*words, "cat"]))))


@given(lines, st.integers(1, 20), st.booleans())
def test_nothing_is_lost_and_no_line_is_cut(text: bytes, size: int, torn: bool) -> None:
    text = text.removesuffix(b"\n") if torn else text
    found = cut(text, "--block", str(size))
    assert b"".join(found) == text
    assert all(block.endswith(b"\n") for block in found[:-1])


@given(lines, st.integers(1, 5))
def test_so_many_lines_a_block(text: bytes, number: int) -> None:
    found = cut(text, f"-N{number}")
    assert b"".join(found) == text
    assert all(block.count(b"\n") == number for block in found[:-1])


@given(lines, st.integers(1, 5), st.integers(1, 20))
def test_lines_that_stay_together(text: bytes, number: int, size: int) -> None:
    found = cut(text, f"-L{number}", "--block", str(size))
    assert b"".join(found) == text
    assert all(block.count(b"\n") % number == 0 for block in found[:-1])


def test_a_record_longer_than_a_block_is_whole() -> None:
    assert cut(b"aaaaaaaaaa\nb\n", "--block", "3") == [b"aaaaaaaaaa\n", b"b\n"]


def test_records_that_begin_with_a_sign() -> None:
    assert cut(b">a\n1\n>b\n2\n", "--recstart", ">", "-N1") == [b">a\n1\n", b">b\n2\n"]


def test_patterns() -> None:
    assert cut(b"a1b22c", "--regexp", "--recend", "[0-9]+", "-N1") == [b"a1", b"b22", b"c"]
    assert cut(b"a1b22c", "--regexp", "--recend", "[0-9]+", "-N1", "--rrs") == [b"a", b"b", b"c"]
    with pytest.raises(UsageError, match="no pattern"):
        cut(b"", "--regexp", "--recend", "(")


def test_the_header_goes_before_each_block() -> None:
    assert cut(b"h\n1\n2\n", "--header", ":", "-N1") == [b"h\n1\n", b"h\n2\n"]
    assert cut(b"HHabab", "--header", ".{2}", "--recend", "", "--block", "2") == [b"HHab", b"HHab"]


def test_an_empty_stream_has_no_blocks() -> None:
    assert cut(b"") == []


@given(text=lines, size=st.integers(1, 20))
def test_parts_of_a_file(tmp_path_factory: pytest.TempPathFactory, text: bytes, size: int) -> None:
    file: Path = tmp_path_factory.mktemp("parts") / "file"
    file.write_bytes(text)
    found = list(parts(str(file), records(parse(["--block", str(size), "cat"]))))
    assert b"".join(found) == text
    assert all(len(part) > size and part.endswith(b"\n") for part in found[:-1])
