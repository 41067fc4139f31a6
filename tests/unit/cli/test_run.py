from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heald.store.folder import runs_directory, scratch_run

Heald = Callable[..., Any]


@pytest.fixture
def scratch() -> list[Path]:
    """Three runs without a journal, the oldest first."""
    paths = []
    for _ in range(3):
        folder = scratch_run()
        folder.release()
        paths.append(folder.path)
    return paths


def test_ls(heald: Heald) -> None:
    title, line = heald("run", "ls").stdout.splitlines()
    assert title.split() == ["RUN", "STATE", "STARTED", "TASKS", "DONE", "FAILED", "COMMAND"]
    assert line.split()[:2] == ["run.heald", "ended"]
    assert line.split()[-4:] == ["7", "4", "3", "study.py"]


def test_ls_all_has_runs_without_journal(heald: Heald, scratch: list[Path]) -> None:
    names = {run["run"] for run in json.loads(heald("run", "ls", "--all", "--json").stdout)}
    assert names == {"run.heald", *(path.name for path in scratch)}
    assert len(json.loads(heald("run", "ls", "--json").stdout)) == 1


def test_ls_without_any(heald: Heald, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert 'heald.Session(journal="run.heald")' in heald("run", "ls").stdout
    assert json.loads(heald("run", "ls", "--json").stdout) == []


def test_ls_goes_on_after_a_damaged_one(heald: Heald, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.heald").mkdir()
    (tmp_path / "bad.heald" / "journal.log").write_text("not a journal at all")
    monkeypatch.chdir(tmp_path)
    (run,) = json.loads(heald("run", "ls", "--json").stdout)
    assert (run["state"], run["counts"]) == ("damaged", None)
    assert "is no journal" in run["command"]


@pytest.mark.parametrize("words", [[], ["run.heald"]])
def test_show(heald: Heald, words: list[str]) -> None:
    text = heald("run", "show", *words).stdout
    assert "  tasks    7: 4 done, 3 failed" in text
    assert json.loads(heald("run", "show", *words, "--json").stdout)["counts"]["done"] == 4


def test_show_what_is_not_there(heald: Heald) -> None:
    result = heald("run", "show", "other.heald")
    assert (result.exit_code, result.stderr) == (
        2,
        "heald: other.heald is no run\n  heald run ls lists those that there are\n",
    )


def test_prune_asks_first(heald: Heald, scratch: list[Path]) -> None:
    result = heald("run", "prune", "--keep", "1")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "0 runs removed"
    assert result.stderr == "Nothing is removed: add --yes\n"
    assert all(path.exists() for path in scratch)


def test_prune_leaves_the_newest_and_those_with_a_name(heald: Heald, scratch: list[Path], study: Path) -> None:
    result = heald("run", "prune", "--keep", "1", "--yes")
    assert result.stdout.splitlines()[-1] == "2 runs removed"
    assert len(list(runs_directory().iterdir())) == 1
    assert study.exists()
    assert json.loads(heald("run", "prune", "--keep", "0", "--yes", "--json").stdout) != []
