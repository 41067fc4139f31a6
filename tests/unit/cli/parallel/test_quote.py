from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heald.cli.parallel.quote import contexts, fields, quote

any_value = st.binary(max_size=30).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
AROUND = {
    "in the open": "printf %s @",
    "in double quotes": 'printf %s "@"',
    "in single quotes": "printf %s '@'",
    "beside text": "printf %s a@b",
    "in a substitution": 'printf %s "$(printf %s @)"',
    "in quotes in a substitution": 'printf %s "$(printf %s "@")"',
    "in backticks": 'printf %s "`printf %s @`"',
    "after an escape": "printf %s \\'@",
}


@pytest.mark.parametrize("name", AROUND)
@given(value=any_value)
@settings(max_examples=25, deadline=None)
def test_any_value_survives_a_real_shell(name: str, value: str) -> None:
    line = AROUND[name]
    place = line.index("@")
    text = line[:place] + quote(value, list(contexts(line))[place]) + line[place + 1 :]
    printed = subprocess.run(["/bin/sh", "-c", os.fsencode(text)], capture_output=True, check=True).stdout
    expected = os.fsencode(value)
    if "substitution" in name or "backticks" in name:
        expected = expected.rstrip(b"\n")  # so does the shell
    assert printed in (expected, b"a" + expected + b"b", b"'" + expected)


def test_contexts_end_with_their_quotes() -> None:
    assert list(contexts("""'"'"'"x""")) == ["", "'", "'", "", '"', '"', ""]
    assert list(contexts('"$(a (b) c)"d'))[-1] == ""
    assert list(contexts("`a`b"))[-1] == ""


def test_fields_keep_quoted_blanks() -> None:
    line = "a 'b c' \"d e\" f\\ g  h"
    assert [line[begin:end] for begin, end in fields(line)] == ["a", "'b c'", '"d e"', "f\\ g", "h"]
    assert fields("  ") == []
