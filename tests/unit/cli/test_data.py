from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from heald.data.memo import Memo

Heald = Callable[..., Any]


@pytest.fixture
def memo() -> Memo:
    """The user's memo with three results of two functions."""
    memo = Memo()
    memo.put(b"1" * 16, b"x" * 1000, name="simulate", seconds=60.0)
    memo.put(b"2" * 16, b"x" * 2000, name="simulate", seconds=30.0)
    memo.put(b"3" * 16, b"x", name="fit", seconds=0.5)
    return memo


def test_ls(heald: Heald, memo: Memo) -> None:
    title, first, second = heald("data", "ls").stdout.splitlines()
    assert title.split() == ["NAME", "RESULTS", "SIZE", "TOOK", "LAST", "USED"]
    assert first.split()[:2] == ["simulate", "2"]
    assert "1m 30s" in first
    assert second.startswith("fit")
    rows = json.loads(heald("data", "ls", "--json").stdout)
    assert [(row["name"], row["entries"], row["seconds"]) for row in rows] == [("simulate", 2, 90.0), ("fit", 1, 0.5)]


def test_ls_of_nothing(heald: Heald) -> None:
    assert "memo=True" in heald("data", "ls").stdout
    assert json.loads(heald("data", "ls", "--json").stdout) == []


def test_info(heald: Heald, memo: Memo) -> None:
    assert heald("data", "info").stdout.startswith(f"{memo.path}: 3 results, ")
    assert json.loads(heald("data", "info", "--json").stdout)["count"] == 3


def test_prune_asks_first(heald: Heald, memo: Memo) -> None:
    result = heald("data", "prune", "--everything")
    assert result.stdout.splitlines()[0].startswith("To be removed: 3 results, ")
    assert result.stderr == "Nothing is removed: add --yes\n"
    assert memo.info().count == 3


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--everything"], set()),
        (["--name", "sim*"], {"fit"}),
        (["--older-than", "1d"], {"simulate", "fit"}),
        (["--larger-than", "0"], set()),
    ],
)
def test_prune(heald: Heald, memo: Memo, words: list[str], left: set[str]) -> None:
    assert heald("data", "prune", *words, "--yes").exit_code == 0
    assert {entry.name for entry in memo.ls()} == left


def test_prune_in_json(heald: Heald, memo: Memo) -> None:
    assert json.loads(heald("data", "prune", "--name", "fit", "--yes", "--json").stdout)["count"] == 1


def test_prune_wants_to_know_what(heald: Heald) -> None:
    result = heald("data", "prune", "--yes")
    assert result.exit_code == 2
    assert "--older-than 30d" in result.stderr
    assert heald("data", "prune", "--older-than", "soon").exit_code == 2


def test_another_folder(heald: Heald, memo: Memo, tmp_path: Any) -> None:
    assert json.loads(heald("data", "info", "--memo", str(tmp_path), "--json").stdout)["count"] == 0
