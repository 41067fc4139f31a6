from __future__ import annotations

from pathlib import Path

import pytest

from heald.cli.parallel.option import block_size, job_count, parse
from heald.cli.parallel.source import Source
from heald.core.errors import UsageError


def test_a_line_of_options() -> None:
    found = parse(
        ["-kj2", "--joblog=log", "--tag", "--retries", "3", "-N1", "echo", "-n", "{}", ":::", "a", ":::+", "1"]
    )
    assert (found.keep_order, found.jobs, found.joblog, found.tag, found.retries) == (True, "2", "log", True, 3)
    assert found.max_replace == 1
    assert found.command == ("echo", "-n", "{}")
    assert found.sources == (Source(("a",)), Source(("1",), linked=True))


def test_sources_come_in_order() -> None:
    found = parse(["-a", "x", "--arg-file", "y", "cat", "::::", "z", "-", "::::+", "w", ":::"])
    files = [Source(file="x"), Source(file="y"), Source(file="z"), Source(file="-"), Source(file="w", linked=True)]
    assert found.sources == (*files, Source(()))


def test_standard_input_where_nothing_is_named() -> None:
    assert parse(["cat"]).sources == (Source(file="-"),)
    assert parse(["--", "-x"]).command == ("-x",)


def test_long_names_may_be_cut_short() -> None:
    assert parse(["--keep", "--no-run"]).skip_empty
    with pytest.raises(UsageError, match="no option --re") as caught:
        parse(["--re"])
    assert "--retries" in caught.value.hint


def test_escapes() -> None:
    assert parse(["-d", r"\t"]).delimiter == "\t"
    assert parse(["--recend", r"\x41\n"]).recend == "A\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nosuch"], "there is no option --nosuch"),
        (["-S", "host"], "-S is not served"),
        (["--tmux"], "--tmux is not served"),
        (["--retries", "many"], "must be a whole number"),
        (["--tag=x"], "--tag takes no value"),
        (["-j"], "-j needs a value"),
        (["--trim", "q"], "--trim 'q'"),
        (["--delay", "soon"], "is no duration"),
    ],
)
def test_what_cannot_be_is_named_with_a_way_out(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(words)


def test_number_of_jobs(tmp_path: Path) -> None:
    file = tmp_path / "jobs"
    file.write_text("50%\n")
    assert job_count(str(file), 8) == 4
    assert job_count("-9", 4) == 1
    with pytest.raises(UsageError, match="-j 'lots'"):
        job_count("lots", 4)


def test_sizes_of_blocks() -> None:
    assert [block_size(text) for text in ("10", "1k", "1K", "2m", "1.5M")] == [10, 1000, 1024, 2_000_000, 1_572_864]
    for text in ("", "x", "0", "-1"):
        with pytest.raises(UsageError, match="--block"):
            block_size(text)
