from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from heald.cli.summary import lines, summary
from heald.core.errors import JournalError
from heald.flow.run import Run
from heald.store.frame import HEADER


def test_summary_of_a_run(study: Path) -> None:
    found = summary(Run(study))
    assert found.state == "ended"
    assert found.processes == 1
    assert found.directory == str(study.parent)
    assert 0 < found.seconds < 60
    assert found.cores > 0
    assert {view.name: (view.tasks, view.done, view.failed) for view in found.names} == {
        "simulate": (3, 2, 1),
        "convert": (2, 1, 1),
        "fit": (2, 1, 1),
    }
    assert {(view.name, view.kind, view.count, view.first) for view in found.failures} == {
        ("simulate", "user", 1, 3),
        ("convert", "user", 1, 5),
        ("fit", "dependency", 1, 7),
    }
    times = [view.seconds or 0.0 for view in found.slowest]
    assert times == sorted(times, reverse=True)
    assert found.bytes == (study / "journal.log").stat().st_size


def test_a_journal_that_says_nothing(study: Path, tmp_path: Path) -> None:
    head = (study / "journal.log").read_bytes()[: HEADER.size]
    (tmp_path / "journal.log").write_bytes(head)
    with pytest.raises(JournalError, match="says nothing yet"):
        summary(Run(tmp_path))


def test_lines_fit_and_end_with_what_to_type(study: Path) -> None:
    text = lines(summary(Run(study)), 80)
    assert text[0] == f"{study} ended"
    assert "  tasks    7: 4 done, 3 failed" in text
    assert text[-1].startswith("Why? heald task explain ")
    assert all(len(line) <= 80 for line in text[7:])


def test_a_killed_run_says_how_to_go_on(study: Path) -> None:
    killed = msgspec.structs.replace(summary(Run(study)), state="killed", failures=[], processes=2)
    text = lines(killed, 80)
    assert "start its script again" in text[0]
    assert not any("explain" in line for line in text)


def test_long_lists_are_cut(study: Path) -> None:
    found = summary(Run(study))
    many = msgspec.structs.replace(found, names=found.names * 20)
    assert "and 50 more: --json" in lines(many, 80)
