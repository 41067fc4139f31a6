from __future__ import annotations

import time
from pathlib import Path

from heald.cli.sheet import Sheet, lines, sheet
from heald.flow.run import Run


def made(study: Path, task: int) -> Sheet:
    run = Run(study)
    history = run.history()
    return sheet(run, history, history.records[task], time.time())


def test_a_sheet_has_options_neighbours_and_attempts(study: Path) -> None:
    found = made(study, 3)
    assert found.retry["limit"] == 1
    assert found.resources["cpus"] == 1
    assert (found.needs, found.needed_by) == ([], ["fit#7 (failed)"])
    assert [one.failure is not None for one in found.attempts] == [True, True]
    assert len(bytes.fromhex(found.key)) == 16
    assert Path(found.stdout).read_text() == "simulating 2\n"


def test_a_done_task(study: Path) -> None:
    found = made(study, 6)
    assert found.needs == ["simulate#1 (done)", "simulate#2 (done)"]
    assert found.value > 0
    text = "\n".join(lines(found, time.time()))
    assert "outcome    a value of " in text
    assert "ATTEMPT" not in text
    assert "stdout" not in text


def test_a_task_that_could_not_run(study: Path) -> None:
    text = "\n".join(lines(made(study, 7), time.time()))
    assert "needs      fit#6 (done), simulate#3 (failed)" in text
    assert "(dependency)" in text
    assert "started" not in text


def test_a_command_with_a_limit(study: Path) -> None:
    text = "\n".join(lines(made(study, 5), time.time()))
    assert "kind       command" in text
    assert "asks for   1 core, at most 1m 00s" in text
    assert "(12 B)" in text  # its output
