"""The benchmark's table: figures, ratios in one round, failures that stay visible."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return import_module("bench.report")


def record(system: str, round_: int, figure: float) -> dict[str, Any]:
    return {"system": system, "workload": "noop", "round": round_, "figure": figure, "cpu_us": 10.0, "tasks": 1000}


def run(*records: dict[str, Any], more_is_better: bool = True) -> dict[str, Any]:
    return {
        "systems": list(dict.fromkeys(each["system"] for each in records)),
        "workloads": {"noop": {"about": "empty tasks", "unit": "tasks/s", "more_is_better": more_is_better}},
        "records": list(records),
    }


def test_ratio_is_the_median_of_ratios_within_rounds(report: ModuleType) -> None:
    slow_hour = [record("heald", 0, 100), record("peer", 0, 10)]
    quick_hours = [record(name, each, figure) for each in (1, 2) for name, figure in (("heald", 900), ("peer", 300))]
    assert report.cells(run(*slow_hour, *quick_hours), "noop")["peer"].ratio == 3


def test_ratio_above_one_means_better_for_times_too(report: ModuleType) -> None:
    times = run(record("heald", 0, 50), record("peer", 0, 200), more_is_better=False)
    assert report.cells(times, "noop")["peer"].ratio == 4


def test_failure_is_in_the_table_and_a_lack_is_a_dash(report: ModuleType) -> None:
    broken = {"system": "broken", "workload": "noop", "round": 0, "error": "ImportError: no peer"}
    shell = {"system": "shell", "workload": "noop", "round": 0, "lacks": "it runs no functions"}
    made = run(record("heald", 0, 50), broken, shell)
    assert "FAILED: ImportError: no peer" in report.table(made)
    assert "shell" not in report.table(made)
    heald, failed, lacking = report.summary(made).splitlines()[2:]
    assert "50" in heald
    assert "failed" in failed
    assert lacking.split() == ["|", "shell", "|", "-", "|"]


def test_the_page_has_a_part_for_each_run(report: ModuleType) -> None:
    about = {
        "command": "python -m bench", "date": "today", "workers": 2, "rounds": 1,
        "machine": {"cores": 2, "processor": "a", "memory_gib": 8, "kernel": "6.1", "python": "3.11"},
    }  # fmt: skip
    runs = [{"title": title, **about, **run(record("heald", 0, 100))} for title in ("One machine", "A cluster")]
    page = report.page(runs)
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## One machine", "## A cluster"]
    assert page.count("### Every figure") == 2
