"""What `heald run --trace` prints; the replay itself is tested where it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TASKS = [
    {"id": "a", "name": "a", "parents": [], "children": []},
    {"id": "b", "name": "b", "parents": ["a"], "children": []},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "trace.json"
    file.write_text(
        json.dumps({"name": "two", "schemaVersion": "1.5", "workflow": {"specification": {"tasks": TASKS}}})
    )
    return file


def test_prints_a_table(file: Path, heald: Callable[..., Any]) -> None:
    printed = heald("run", "trace", str(file), "--speed", "0", "--workers", "1").stdout
    assert "two (WfFormat 1.5)" in printed
    assert "1, all kept" in printed


def test_prints_json_with_every_time(file: Path, heald: Callable[..., Any]) -> None:
    found = json.loads(heald("run", "trace", str(file), "--speed", "0", "--workers", "1", "--json").stdout)
    assert (found["tasks"], found["dependencies"], found["broken"]) == (2, 1, [])
    assert [time["id"] for time in found["times"]] == ["a", "b"]


def test_keeps_the_run_in_a_journal(file: Path, tmp_path: Path, heald: Callable[..., Any]) -> None:
    heald("run", "trace", str(file), "--speed", "0", "--workers", "1", "--journal", str(tmp_path / "run.heald"))
    assert (tmp_path / "run.heald" / "journal.log").exists()


def test_refuses_before_anything_starts(tmp_path: Path, heald: Callable[..., Any]) -> None:
    refused = heald("run", "trace", str(tmp_path / "nowhere.json"))
    assert refused.exit_code == 2
    assert "nowhere.json cannot be read: No such file" in refused.stderr
