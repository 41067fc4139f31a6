from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import heald
from heald.cli.parallel import job as module
from heald.cli.parallel.job import jobs, slot_in
from heald.run.command import Batch


@pytest.fixture(autouse=True)
def no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_slot", [])


def release() -> None:
    os.close(module._slot.pop())
    module._slot.clear()


def test_jobs_are_a_batch() -> None:
    lines = [heald.CommandLine(["false"], check=False)]
    assert jobs(lines, {"A": "1"}, 0.5) == Batch(lines, {"A": "1"}, 0.5)


def test_a_worker_keeps_its_slot(tmp_path: Path) -> None:
    first = jobs([], {}, 0.5, slots=str(tmp_path))
    again = jobs([], {"B": "2"}, 0.5, slots=str(tmp_path))
    assert first.variables == {"PARALLEL_JOBSLOT": "1"}
    assert again.variables == {"B": "2", "PARALLEL_JOBSLOT": "1"}
    release()


def test_no_two_have_one_slot_and_the_dead_have_none(tmp_path: Path) -> None:
    code = "import sys; from heald.cli.parallel.job import slot_in; print(slot_in(sys.argv[1]), flush=True); input()"
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        assert slot_in(str(tmp_path)) == 2
        release()
        other.kill()
    assert slot_in(str(tmp_path)) == 1
    release()
