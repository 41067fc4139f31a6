"""What is shown of runs of other processes, which here are files that say how it went."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec
import pytest

import heald
from heald.cli.follow import _Folded, follow, progress, status
from heald.flow.run import KILLED, Run
from heald.store.owner import Owner, this_process


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A detached run that is over, with two tasks done."""
    path = tmp_path / "run.heald"
    with heald.Session([heald.ThreadExecutor()], journal=path, memo=None, progress=False) as session:
        for future in session.map(abs, [-1, 2]):
            future.result()
    run = Run(path)
    with subprocess.Popen(["sleep", "100"]) as process:
        run.detached.supervise(process.pid)
        process.kill()
    run.detached.stdout.write_bytes("so far: 3 µs\n".encode() + b"\xff\n")
    run.detached.stderr.write_text("beware\n")
    run.detached.status_file.write_text("3\n")
    return run


def owned(run: Run, owner: Owner) -> None:
    (run.path / "owner").write_bytes(msgspec.json.encode(owner))


def test_bytes_stay_as_they_are(run: Run, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    follow(run)
    out, err = capfdbinary.readouterr()
    assert out == "so far: 3 µs\n".encode() + b"\xff\n"
    assert err == b"beware\n"


@pytest.mark.parametrize(("said", "expected"), [("0", 0), ("3", 3), ("-9", 137)])
def test_the_status_is_the_scripts(run: Run, said: str, expected: int) -> None:
    run.detached.status_file.write_text(said)
    assert status(run) == expected


def test_where_nobody_saw_it_the_tasks_say_how_it_went(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.detached.status_file.unlink()
    assert status(run) == 0
    assert "its exit status is not known" in capsys.readouterr().err
    owned(run, msgspec.structs.replace(this_process(), pid=2**22))
    assert run.state == KILLED
    assert status(run) == 1
    assert "start its script again" in capsys.readouterr().err


def test_files_of_an_earlier_detached_run_are_not_those_of_one_in_a_terminal(run: Run) -> None:
    assert run.output == (run.detached.stdout, run.detached.stderr)
    owned(run, this_process())
    assert run.output is None


def test_of_another_host_the_status_tells_that_it_is_over(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    owned(run, msgspec.structs.replace(this_process(), host="node07"))
    follow(run)  # which ends
    assert "in its own terminal" in capfd.readouterr().err


def test_a_bar_counts_what_the_journal_has(run: Run) -> None:
    folded = _Folded(run.path)
    tally = folded.tally
    assert (tally.submitted, tally.done, tally.failed, tally.cancelled, folded.running()) == (2, 2, 0, 0, 0)


def test_there_is_no_bar_of_what_is_over(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with progress(run, quiet=False):
        assert os.path.exists(run.path)
    assert capsys.readouterr().err == ""
