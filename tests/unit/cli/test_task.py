from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Heald = Callable[..., Any]


def test_ls_shows_all_in_80_columns(heald: Heald) -> None:
    lines = heald("task", "ls").stdout.splitlines()
    assert lines[0].split() == ["ID", "NAME", "STATE", "STARTED", "TIME", "CPU", "MEMORY", "NOTE"]
    assert [line.split()[:3] for line in lines[1:-1]] == [
        ["1", "simulate", "done"],
        ["2", "simulate", "done"],
        ["3", "simulate", "failed"],
        ["4", "convert", "done"],
        ["5", "convert", "failed"],
        ["6", "fit", "done"],
        ["7", "fit", "failed"],
    ]
    assert lines[-1] == "run.heald (ended): 4 done, 3 failed"
    assert max(map(len, lines)) <= 80
    assert lines[3].endswith("…")


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["2-4"], [2, 3, 4]),
        (["state=failed"], [3, 5, 7]),
        (["name=*i*", "state=done"], [1, 2, 6]),
        (["tag:density=0.5", "1", "3"], [1, 3]),
        (["--sort", "name"], [4, 5, 6, 7, 1, 2, 3]),
        (["--sort", "id", "--reverse", "--limit", "2"], [7, 6]),
    ],
)
def test_ls_chooses_and_sorts(heald: Heald, words: list[str], ids: list[int]) -> None:
    assert [task["id"] for task in json.loads(heald("task", "ls", "--json", *words).stdout)] == ids


def test_ls_sorts_by_time_with_the_longest_first(heald: Heald) -> None:
    tasks = json.loads(heald("task", "ls", "--json", "--sort", "time").stdout)
    times = [task["seconds"] or 0.0 for task in tasks]
    assert times == sorted(times, reverse=True)
    assert times[0] > 0


@pytest.mark.parametrize("sort", ["id", "name", "state", "started", "time", "cpu", "memory"])
@pytest.mark.parametrize("more", [[], ["--reverse"], ["name=*i*"]])
def test_ls_shows_the_first_of_what_it_would_show(heald: Heald, sort: str, more: list[str]) -> None:
    every = json.loads(heald("task", "ls", "--json", "--sort", sort, *more).stdout)
    some = json.loads(heald("task", "ls", "--json", "--sort", sort, "--limit", "3", *more).stdout)
    assert some == every[:3]


def test_ls_tells_of_what_it_left_out(heald: Heald) -> None:
    *_, total, more = heald("task", "ls", "--limit", "2").stdout.splitlines()
    assert (total, more) == ("run.heald (ended): 4 done, 3 failed", "5 more: --limit 7")


def test_json_has_what_the_table_has(heald: Heald) -> None:
    (task,) = json.loads(heald("task", "ls", "3", "--json").stdout)
    assert task["name"] == "simulate"
    assert task["tags"] == {"density": "0.5"}
    assert task["failure"]["kind"] == "user"
    assert task["failure"]["message"] == "ValueError: no such state point"
    assert task["submitted"] < task["started"] < task["ended"]


def test_show(heald: Heald) -> None:
    text = heald("task", "show", "3").stdout
    assert text.startswith("simulate#3 failed\n")
    assert "needed by  fit#7 (failed)" in text
    assert "tags       density=0.5" in text
    assert "ValueError: no such state point (user)" in text
    assert "ATTEMPT" in text  # there were two
    (task,) = json.loads(heald("task", "show", "3", "--json").stdout)
    assert [attempt["failure"]["kind"] for attempt in task["attempts"]] == ["user", "user"]
    assert Path(task["stderr"]).read_text() == "it diverged\n"


def test_show_many(heald: Heald) -> None:
    texts = heald("task", "show", "name=fit").stdout.split("\n\n")
    assert [text.splitlines()[0] for text in texts if text.startswith("fit")] == ["fit#6 done", "fit#7 failed"]


def test_explain(heald: Heald) -> None:
    text = heald("task", "explain", "7").stdout
    assert "fit#7" in text
    assert "simulate#3" in text
    assert "no such state point" in text
    (told,) = json.loads(heald("task", "explain", "7", "--json").stdout)
    assert told == {"id": 7, "explanation": text.rstrip("\n")}


def test_log(heald: Heald) -> None:
    assert heald("task", "log", "2").stdout == "simulating 1\n"
    assert heald("task", "log", "--stderr", "simulate#3").stdout == "it diverged\n"
    assert heald("task", "log", "4", "5").stdout == "==> convert#4 <==\nconverted 0\n==> convert#5 <==\nconverted 1\n"
    assert heald("task", "log", "-f", "4").stdout == "converted 0\n"


def test_log_of_an_attempt(heald: Heald) -> None:
    (task,) = json.loads(heald("task", "show", "3", "--json").stdout)
    first = task["attempts"][0]["number"]
    assert heald("task", "log", "3", "--attempt", str(first)).stdout == "simulating 2\n"


def test_log_of_silent_tasks(heald: Heald) -> None:
    result = heald("task", "log", "2", "--stderr")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "simulate#2 printed nothing to standard error; see heald task log 2\n"
    assert heald("task", "log", "6").stderr == "fit#6 printed nothing to standard output\n"
    assert heald("task", "log", "name=fit").stderr == "None of these 2 tasks printed anything to standard output\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ls", "99"], "no task of "),
        (["show", "1", "99", "fit#98", "state=done"], "no task of "),
        (["ls", "fitt"], "'fitt' chooses no tasks\n  write an id"),
        (["show", "state=lost"], "'lost' is no state of a task\n  there are waiting"),
        (["log", "3", "--attempt", "99"], "there is no attempt 99 of 3\n  the last one is 2"),
        (["log", "-f", "name=fit"], "2 tasks cannot be followed at once"),
        (["ls", "--run", "nowhere"], "nowhere is no run\n  heald run ls"),
    ],
)
def test_mistakes_are_one_line_and_a_hint(heald: Heald, words: list[str], message: str) -> None:
    result = heald("task", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"heald: {message}")
    assert len(result.stderr.splitlines()) == 2
