from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.cli.parallel.output import InOrder, Lines, show


def test_a_file_is_printed_with_its_tag(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"one\n\xfftwo")
    stream = io.BytesIO()
    show(file, stream)
    show(file, stream, b"t\t")
    show(None, stream)
    show(tmp_path / "absent", stream)
    assert stream.getvalue() == b"one\n\xfftwo" + b"t\tone\nt\t\xfftwo"


def test_a_large_file_is_printed_whole(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"x" * 3_000_001)
    stream = io.BytesIO()
    show(file, stream)
    assert len(stream.getvalue()) == 3_000_001


@given(st.permutations(range(1, 8)))
def test_in_order_whatever_the_order_of_ends(ends: list[int]) -> None:
    done: list[int] = []
    order = InOrder()
    for number in ends:
        order.add(number, lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == list(range(1, 8))


def test_what_waits_for_the_lost_is_done_in_the_end() -> None:
    done: list[int] = []
    order = InOrder()
    for number in (3, 2):
        order.add(number, lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == []
    order.rest()
    assert done == [2, 3]


def test_lines_come_whole(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = Lines()
    try:
        out, err = lines.paths(1, b"a\t")
        other, _ = lines.paths(2, b"b\t")
        ends = [os.open(path, os.O_WRONLY) for path in (out, other, err)]
        os.write(ends[0], b"one, ")
        os.write(ends[1], b"1\n")
        os.write(ends[0], b"two\nrest")
        os.write(ends[2], b"!\n")
        for end in ends:
            os.close(end)
        assert lines.finish(1) == len(b"one, two\nrest")
        assert lines.finish(2) == 2
    finally:
        lines.close()
    printed = capfdbinary.readouterr()
    assert sorted(printed.out.split(b"\n")) == [b"", b"a\tone, two", b"a\trestb\t1"] or sorted(
        printed.out.split(b"\n")
    ) == [b"a\tone, two", b"a\trest", b"b\t1"]
    assert printed.err == b"a\t!\n"
