from __future__ import annotations

import pytest

from heald.cli.parallel.batch import batches, repeats
from heald.cli.parallel.option import parse
from heald.cli.parallel.template import Template

LETTERS = [(letter,) for letter in "abcdefg"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["a", "b", "c", "d", "e", "f", "g"]),
        (["-N3"], ["abc", "def", "g"]),
        (["-L2"], ["ab", "cd", "ef", "g"]),
        (["-N0"], ["", "", "", "", "", "", ""]),
        (["-X"], ["abcd", "efg"]),
        (["-m", "-n3"], ["abc", "def", "g"]),
        (["--xargs"], ["abcdefg"]),
        (["--xargs", "-s", "11"], ["abc", "def", "g"]),
    ],
)
def test_values_of_each_job(words: list[str], expected: list[str]) -> None:
    options = parse([*words, "echo", ":::"])
    made = batches(iter(LETTERS), options, Template("echo {}"), 2)
    assert ["".join(values) for values in made] == expected


def test_lines_keep_to_their_length() -> None:
    template = Template("echo x{}y")
    options = parse(["-X", "-s", "20", "echo", ":::"])
    for values in batches(iter(LETTERS), options, template, 1):
        assert len(template.text(values, repeat=True)) <= 20


def test_nothing_makes_no_job() -> None:
    for words in ([], ["-N2"], ["-X"]):
        assert list(batches(iter(()), parse([*words, "echo", ":::"]), Template("echo {}"), 2)) == []


def test_which_repeat_the_word_around() -> None:
    assert [repeats(parse([*words, ":::"])) for words in (["-X"], ["-N2"], ["-m"], ["-mn2"], [])] == [
        True, True, False, False, False,
    ]  # fmt: skip
