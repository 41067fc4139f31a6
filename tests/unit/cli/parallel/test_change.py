from __future__ import annotations

import pytest

from heald.cli.parallel.change import DYNAMIC, PLAIN, PLUS, dynamic, folder, name, no_ending, stem


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a/b.c", ("a/b", "b.c", "a", "b")),
        (".hidden", ("", ".hidden", ".", "")),
        ("x.", ("x.", "x.", ".", "x.")),
        ("/", ("/", "", "/", "")),
        ("a/", ("a/", "", ".", "")),
        ("/top", ("/top", "top", "/", "top")),
        ("a.b/c", ("a.b/c", "c", "a.b", "c")),
        ("", ("", "", ".", "")),
        ("two\nlines.txt", ("two\nlines", "two\nlines.txt", ".", "two\nlines")),
    ],
)
def test_parts_of_a_path(value: str, expected: tuple[str, ...]) -> None:
    assert (no_ending(value), name(value), folder(value), stem(value)) == expected


def test_opposites_make_the_whole() -> None:
    value = "d/s/f.x.y.z"
    for without, rest in ((".", "+."), ("..", "+.."), ("...", "+...")):
        assert {**PLAIN, **PLUS}[without](value) + "." + PLUS[rest](value) == value
    assert PLUS["+/"](value) + "/" + name(value) == value


def test_too_few_endings_change_nothing() -> None:
    assert PLUS[".."]("a.b") == "a.b"
    assert PLUS["+.."]("a.b") == ""


@pytest.mark.parametrize("text", [":-x y", ":2", ":2:3", "#ab", "%ab", "/a/b", "^a", "^^a", ",a", ",,a"])
def test_dynamic_ones_are_recognised(text: str) -> None:
    assert DYNAMIC.fullmatch(text)
    dynamic(text)("abc")


def test_case_changes_only_where_it_says() -> None:
    assert dynamic("^b")("abb") == "abb"
    assert dynamic("^^b")("abb") == "aBB"
