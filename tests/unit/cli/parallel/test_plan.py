from __future__ import annotations

import os
from pathlib import Path

import pytest

from heald.cli.parallel.option import parse
from heald.cli.parallel.plan import plan
from heald.core.errors import UsageError


def lines(*words: str) -> list[str]:
    made = plan(parse(list(words)))
    return [made.text(job) for job in made.jobs]


def test_the_jobs_of_a_command_line() -> None:
    assert lines("echo", "{#}{}", ":::", "a", "b c") == ["echo 1a", "echo 2'b c'"]
    assert lines("-q", "echo", "$x", "{}", ":::", "a") == ["echo '$x' 'a'"]


def test_words_have_a_shell_only_where_they_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARALLEL_SHELL", "/bin/dash")
    for words, expected in (
        (["echo", ":::", "a;b"], ["echo", "a;b"]),
        (["echo | cat", ":::", "a"], ["/bin/dash", "-c", "echo | cat a"]),
        ([":::", "echo a b"], ["echo", "a", "b"]),
        ([":::", "echo a; b"], ["/bin/dash", "-c", "echo a; b"]),
        ([":::", "'"], ["/bin/dash", "-c", "'"]),
        (["--nice", "3", "true", ":::", "a"], ["nice", "-n", "3", "true", "a"]),
    ):
        made = plan(parse(words))
        assert made.words(next(made.jobs)) == expected


def test_jobs_are_counted_only_where_it_matters() -> None:
    assert plan(parse(["echo", ":::", "a", "b"])).total == 0
    for words in (["--bar"], ["--halt", "soon,fail=50%"], ["--shuf"]):
        assert plan(parse([*words, "echo", ":::", "a", "b"])).total == 2
    assert sorted(lines("--shuf", "echo", ":::", "a", "b")) == ["echo a", "echo b"]


def test_tags() -> None:
    made = plan(parse(["--tag", "echo", ":::", "\udcff b"]))
    assert made.tag_of(next(made.jobs)) == b"\xff b\t"
    made = plan(parse(["--tagstring", "{#}:{1}", "echo", ":::", "x"]))
    assert made.tag_of(next(made.jobs)) == b"1:x\t"


def test_blocks(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("1\n2\n3\n")
    for option in (["--pipe", "-N2"], ["--pipepart", "--block", "3"]):
        made = plan(parse([*option, "-a", str(file), "wc"]))
        assert [(job.block, job.sent, made.text(job)) for job in made.jobs] == [(b"1\n2\n", 4, "wc"), (b"3\n", 2, "wc")]


def test_as_many_as_there_are_cores() -> None:
    assert plan(parse(["echo", ":::", "a"])).width == len(os.sched_getaffinity(0))
    assert plan(parse(["-j0", "echo", ":::", "a"])).width > 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["echo {2}", ":::", "a"], "stands for nothing"),
        (["--pipe", "cat", ":::", "a"], "--pipe cuts a stream"),
        (["--pipe", "-a", "/absent", "cat"], "/absent cannot be read"),
        (["--pipepart", "cat"], "--pipepart needs a file"),
    ],
)
def test_what_cannot_be(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(plan(parse(words)).jobs)


def test_a_name_that_is_nearly_one_of_the_header(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines("--header", ":", "echo {cty} {city}", ":::", "city", "Rome") == ["echo {cty} Rome"]
    assert "did you mean {city}?" in capsys.readouterr().err
