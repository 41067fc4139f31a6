"""Watches in processes of their own: they look at all that their process has started."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import subprocess, sys
from heald.run import watch
watch._EVERY = 0.1
"""
# Starts three children and never waits for them: two that end at once, and one that lives as long as it is told.
CARELESS = "sleep 0 & sleep 0 & sleep {seconds} & exec {program} 1"


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.split()


def test_what_is_not_wanted_any_more_is_ended() -> None:
    assert run('with watch.Watch(lambda: True): print(subprocess.run(["sleep", "60"]).returncode)') == ["-15"]


@pytest.mark.parametrize(
    ("program", "seconds", "status"), [("mpiexec", 0, "-9"), ("mpiexec", 9, "0"), ("sleep", 0, "0")]
)
def test_a_launcher_that_takes_no_note_of_the_ends_of_all_that_it_started_is_killed(
    program: str, seconds: int, status: str, tmp_path: Path
) -> None:
    (tmp_path / "mpiexec").symlink_to(shutil.which("sleep") or "")
    script = f"PATH={tmp_path}:$PATH; " + CARELESS.format(seconds=seconds, program=program)
    code = f"""
with watch.Watch() as looking:
    print(subprocess.run(["sh", "-c", {script!r}]).returncode)
print(looking.hung)
"""
    assert run(code) == [status, str(status != "0")]


def test_a_launcher_that_has_started_nothing_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mpiexec").symlink_to(shutil.which("sleep") or "")
    assert run(f'with watch.Watch(): print(subprocess.run(["{tmp_path}/mpiexec", "1"]).returncode)') == ["0"]


def test_it_ends_with_the_wait() -> None:
    code = """
import threading
with watch.Watch():
    pass
for thread in threading.enumerate():
    if thread.name == "heald-ranks":
        thread.join(5)
print([thread.name for thread in threading.enumerate()])
"""
    assert run(code) == ["['MainThread']"]
