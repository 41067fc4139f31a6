"""What `heald run` is asked to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from heald.cli.launch import routed


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.py").write_text("print('hello')")
    return "study.py"


@pytest.mark.parametrize("words", [[], ["task", "ls"], ["run"], ["run", "ls"], ["run", "--help"], ["run", "report"]])
def test_looking_stays_as_it_is(words: list[str]) -> None:
    assert routed(words) == (False, words)


@pytest.mark.parametrize(
    "before", [[], ["--workers", "2"], ["--journal=x.heald", "--quiet"], ["--compat", "--retries", "1"]]
)
def test_a_python_file_is_a_script(script: str, before: list[str]) -> None:
    asked = [*before, script, "--steps", "3"]
    assert routed(["run", *asked]) == (False, ["run", "script", *asked])


def test_a_python_file_with_inputs_is_a_command(script: str) -> None:
    assert routed(["run", script, ":::", "a"]) == (True, [script, ":::", "a"])


def test_a_python_file_that_is_not_there_is_a_script_to_be_missed(script: str) -> None:
    assert routed(["run", "other.py"]) == (False, ["run", "script", "other.py"])


def test_a_program_whose_name_ends_so_is_a_command(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "other.py").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert routed(["run", "other.py"]) == (True, ["other.py"])


def test_a_trace_wherever_the_word_stands() -> None:
    assert routed(["run", "--speed", "0", "--trace", "a.json"]) == (False, ["run", "trace", "--speed", "0", "a.json"])


def test_a_program_named_like_a_command_is_one_when_inputs_follow() -> None:
    assert routed(["run", "ls", ":::", "a"]) == (True, ["ls", ":::", "a"])


def test_a_slip_among_options_of_scripts_is_told_as_theirs(script: str) -> None:
    asked = ["--site", "polaris", "--acount", "me", script]
    assert routed(["run", *asked]) == (False, ["run", "script", *asked])
    assert routed(["run", "--retries", "3", "--bar", "echo"]) == (True, ["--retries", "3", "--bar", "echo"])


def test_options_of_the_parallel_grammar_are_left_to_it() -> None:
    assert routed(["run", "-j2", "echo", ":::", "1"]) == (True, ["-j2", "echo", ":::", "1"])
