from __future__ import annotations

from pathlib import Path

import pytest

from heald.cli.parallel.joblog import Entry, JobLog
from heald.cli.parallel.option import parse
from heald.cli.parallel.plan import plan
from heald.cli.parallel.resume import failed, left, resumes


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = str(tmp_path / "log")
    written = JobLog(path)
    for number, status in ((1, 0), (3, 7)):
        written.write(Entry(number, 1.0, 1.0, 0, 0, status, 0, f"echo {number}"))
    written.close()
    return path


def sequences(*words: str) -> list[int]:
    made = plan(parse([*words, "echo", ":::", "1", "2", "3", "4"]))
    return [job.sequence for job in left(made, made.jobs)]


def test_what_is_left(log: str) -> None:
    assert sequences("--resume", "--joblog", log) == [2, 4]
    assert sequences("--resume-failed", "--joblog", log) == [2, 3, 4]
    assert sequences("--resume", "--joblog", log + "-absent") == [1, 2, 3, 4]


def test_another_command_than_then(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(parse(["--resume", "--joblog", log, "wc", ":::", "1", "2", "3"]))
    list(left(made, made.jobs))
    assert "another command than now" in capsys.readouterr().err


def test_what_failed_by_its_log_alone(log: str) -> None:
    assert [(job.sequence, job.command) for job in failed(parse(["--joblog", log]))] == [(3, "echo 3")]


def test_results_tell_too(tmp_path: Path) -> None:
    for value in "13":
        (tmp_path / "out" / "1" / value).mkdir(parents=True)
        (tmp_path / "out" / "1" / value / "seq").write_text(value)
    assert sequences("--resume", "--results", str(tmp_path / "out")) == [2, 4]


def test_which_options_go_on() -> None:
    assert [resumes(parse([*words, "x"])) for words in (["--resume"], ["--retry-failed"], [])] == [True, True, False]
