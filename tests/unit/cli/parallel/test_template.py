from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heald.cli.parallel.template import Facts, Spelling, Template, is_program, near_name
from heald.core.errors import UsageError

any_value = st.binary(max_size=20).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))


@given(st.lists(any_value, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_text_and_words_mean_the_same(values: list[str]) -> None:
    template = Template("printf %s, {1} x{-1}y {1.}", append=False)
    words = template.words(values)
    assert words is not None
    by_shell = subprocess.run(["/bin/sh", "-c", os.fsencode(template.text(values))], capture_output=True, check=True)
    plain = subprocess.run([os.fsencode(word) for word in words], capture_output=True, check=True)
    assert by_shell.stdout == plain.stdout


@pytest.mark.parametrize(
    ("line", "needs_shell"),
    [
        ("echo {}", False),
        ("echo '{}' a\\ b", False),
        ("echo {} | cat", True),
        ("cd {}", True),
        ("exit {}", True),
        ("nosuchprogram {}", True),
        ("{} a", True),
        ("A=1 env", True),
        ("echo 'unended {}", True),
        ("", True),
    ],
)
def test_a_shell_is_used_where_one_is_needed(line: str, needs_shell: bool) -> None:
    assert (Template(line).words(["a"]) is None) == needs_shell


def test_an_exported_bash_function_needs_bash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASH_FUNC_echo%%", "() { true; }")
    assert not is_program("echo")


def test_the_input_goes_last_when_it_has_no_place() -> None:
    assert Template("wc -l").text(["a b"]) == "wc -l 'a b'"
    assert Template("wc -l", append=False).text(["a b"]) == "wc -l"
    assert Template("echo {#}").text(["a"], Facts(7)) == "echo 7"


def test_a_lone_input_is_a_command_line() -> None:
    assert Template("").text(["echo a; echo b"]) == "echo a; echo b"


def test_several_values() -> None:
    template = Template("echo a{}b {1}-{3}")
    assert template.text(["x", "y"]) == "echo ax yb x-"
    assert template.text(["x", "y"], repeat=True) == "echo axb ayb x-"
    assert template.words(["x", "y"]) == ["echo", "ax", "yb", "x-"]
    assert template.words(["x", "y"], repeat=True) == ["echo", "axb", "ayb", "x-"]
    assert template.growth("xx") == 3
    assert template.growth("xx", repeat=True) == 5


def test_facts() -> None:
    template = Template("echo {#} {%} {##}", Spelling(plus=True))
    assert template.text(["a"], Facts(3, 2, 9)) == "echo 3 2 9"
    assert [template.uses(one) for one in ("sequence", "slot", "total", 1)] == [True, True, True, False]


def test_names_and_other_signs() -> None:
    spelling = Spelling({"{}": "@", "{.}": "@."}, ("size", "city"))
    assert Template("echo {city/} {size.} {1}", spelling).text(["a.b", "c/d"]) == "echo d a a.b"
    assert Template("echo @ @. {} {.}", spelling).text(["a.b"]) == "echo a.b a {} {.}"


def test_labels_are_not_quoted() -> None:
    assert Template("{1}: {2}", append=False).plainly(["a b", "$c"]) == "a b: $c"


def test_a_position_without_a_source_is_named() -> None:
    with pytest.raises(UsageError, match=r"\{3\} stands for nothing"):
        Template("echo {3}").check(2)
    Template("echo {-2}").check(2)


def test_perl_is_refused() -> None:
    with pytest.raises(UsageError, match="Perl"):
        Template("echo {= s/a/b/ =}")


def test_braces_of_others_stay() -> None:
    assert Template("awk '{print $1}' {}").text(["f"]) == "awk '{print $1}' f"
    assert near_name("echo {citty}", ["city"]).endswith("did you mean {city}?")
    assert near_name("awk '{print}' {1}", ["city"]) == ""
