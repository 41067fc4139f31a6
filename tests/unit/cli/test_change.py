from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from heald.cli import change

Heald = Callable[..., Any]


@pytest.fixture
def heald(heald: Heald, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Heald:
    """`heald` on a copy of the study."""
    shutil.copytree(study, tmp_path / "run.heald")
    monkeypatch.chdir(tmp_path)
    return heald


def states(heald: Heald) -> dict[int, str]:
    return {task["id"]: task["state"] for task in json.loads(heald("task", "ls", "--json").stdout)}


def test_cancel_says_what_was_done(heald: Heald) -> None:
    found = heald("task", "cancel", "3", "1")
    assert found.stdout.splitlines() == [
        "ID  NAME      WAS     NOW        NOTE",
        " 1  simulate  done    as before  it is done",
        " 3  simulate  failed  cancelled",
        "1 task cancelled; 1 task as before",
    ]
    assert found.exit_code == 0
    assert states(heald)[3] == "cancelled"
    explained = heald("task", "explain", "3").stdout
    assert "simulate#3 was cancelled: from outside of the script" in explained
    assert "hint: heald task retry 3 lets it run after all" in explained


def test_retry_says_what_goes_with_it(heald: Heald) -> None:
    assert heald("task", "retry", "3").stdout.splitlines() == [
        "ID  NAME      WAS     NOW           NOTE",
        " 3  simulate  failed  to run again",
        " 7  fit       failed  to run again  it needs simulate#3",
        "2 tasks to run again: they run when the script is started again",
    ]
    assert heald("task", "explain", "3").stdout.startswith("simulate#3 is to be run again")


def test_rm_wants_to_be_told_twice(heald: Heald) -> None:
    found = heald("task", "rm", "3")
    assert found.exit_code == 1
    assert "7  fit       failed  removed   it needs simulate#3" in found.stdout
    assert "add --yes" in found.stderr
    assert len(states(heald)) == 7
    found = heald("task", "rm", "3", "--yes")
    assert found.stdout.splitlines()[-1] == "2 tasks removed"
    assert states(heald).keys() == {1, 2, 4, 5, 6}
    assert not list(Path("run.heald/logs/0").glob("3.*"))
    assert list(Path("run.heald/logs/0").glob("4.*"))


@pytest.mark.parametrize("verb", ["cancel", "retry", "rm"])
def test_a_dry_run_changes_nothing(heald: Heald, verb: str) -> None:
    before = Path("run.heald/journal.log").read_bytes()
    found = heald("task", verb, "3", "--dry-run")
    assert found.exit_code == 0
    assert "WOULD BE" in found.stdout
    assert found.stdout.splitlines()[-1].endswith("nothing was done, since this is a dry run")
    assert Path("run.heald/journal.log").read_bytes() == before


@pytest.mark.parametrize(("verb", "tasks"), [("cancel", [3]), ("retry", [3, 7]), ("rm", [3, 7])])
def test_json_has_what_the_table_has(heald: Heald, verb: str, tasks: list[int]) -> None:
    found = json.loads(heald("task", verb, "3", "--json", "--yes").stdout)
    assert [one["task"] for one in found] == tasks
    assert found[0] == {"task": 3, "name": "simulate", "state": "failed", "done": True, "note": ""}


def test_the_exit_code_says_whether_anything_was_done(heald: Heald) -> None:
    assert heald("task", "cancel", "1").exit_code == 1
    assert heald("task", "cancel", "1", "--dry-run").exit_code == 1
    assert heald("task", "cancel", "1", "3").exit_code == 0
    assert heald("task", "cancel", "state=running").exit_code == 2
    assert heald("task", "cancel", "nonsense").exit_code == 2
    assert heald("task", "cancel").exit_code == 2


def test_many_are_asked_about_on_a_terminal(heald: Heald, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change, "_MANY", 1)
    asked: list[str] = []

    def confirm(question: str, yes: bool) -> bool:
        if not yes:
            asked.append(question)
        return yes

    monkeypatch.setattr(change, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    monkeypatch.setattr(change, "confirmed", confirm)
    assert heald("task", "retry", "3").exit_code == 1
    assert asked == [f"Retry 2 tasks of {Path('run.heald').resolve()}?"]
    assert states(heald)[3] == "failed"
    assert heald("task", "cancel", "3").exit_code == 0  # one alone is not asked about
    assert heald("task", "retry", "3", "--yes").exit_code == 0
    assert len(asked) == 1


def test_a_long_table_is_cut_on_a_terminal(heald: Heald, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change, "some", lambda rows, limit: rows[:1])
    assert heald("task", "retry", "3").stdout.splitlines()[2] == "1 more: --json lists all"


def test_a_run_is_named(heald: Heald, tmp_path: Path) -> None:
    (tmp_path / "run.heald").rename(tmp_path / "other.heald")
    assert heald("task", "retry", "3", "--run", "other.heald").exit_code == 0
    assert heald("task", "retry", "3", "--run", "run.heald").exit_code == 2


@pytest.mark.parametrize("verb", ["cancel", "retry", "rm"])
def test_help_has_examples(heald: Heald, verb: str) -> None:
    text = heald("task", verb, "--help").stdout
    assert f"heald task {verb} 7" in text
    assert "--dry-run" in text
