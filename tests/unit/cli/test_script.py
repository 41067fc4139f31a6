"""`heald run SCRIPT`, as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """
import sys
import heald

@heald.task
def square(x):
    with open("done", "a") as done:
        done.write(f"{x}\\n")
    return x * x

print(sys.argv[1:], sum(future.result() for future in square.map(range(5))))
"""

SLOW = """
import pathlib, time
import heald

@heald.task
def slow(x):
    pathlib.Path(f"began{x}").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    pathlib.Path(f"ended{x}").touch()

futures = [slow.submit(x) for x in range(4)]
print(futures[3].result())
"""


def heald(*words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "heald", "run", *words]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60)


def test_a_script_has_its_arguments_a_journal_and_a_summary(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(SCRIPT)
    first = heald("study.py", "--steps", "3", cwd=tmp_path)
    assert first.returncode == 0
    assert first.stdout == "['--steps', '3'] 30\n"
    assert "5: 5 done" in first.stderr
    assert (tmp_path / "study.heald" / "journal.log").exists()
    second = heald("study.py", cwd=tmp_path)
    assert second.stdout == "[] 30\n"
    assert len((tmp_path / "done").read_text().split()) == 5, "the second run finds everything done"


@pytest.mark.parametrize("program", [["-m", "heald"], [os.path.join(os.path.dirname(sys.executable), "heald")]])
def test_tasks_find_the_modules_beside_it_as_it_does(program: list[str], tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / "model.py").write_text("import sys\nsteps = int(sys.argv[1])\ndef run(x):\n    return x * steps\n")
    (study / "study.py").write_text(
        "import heald, model\n"
        "@heald.task\n"
        "def later(x):\n"
        "    import model\n"
        "    return model.run(x)\n"
        "print(heald.task(model.run).submit(2).result(), later.submit(3).result())\n"
    )
    command = [sys.executable, *program, "run", "--quiet", "study/study.py", "7"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("14 21\n", "")


def test_quiet_says_nothing_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(SCRIPT)
    assert heald("--quiet", "--journal", "x.heald", "study.py", cwd=tmp_path).stderr == ""
    assert (tmp_path / "x.heald").is_dir()


def test_retries_are_for_tasks_without_their_own(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(
        "import heald, os\n"
        "@heald.task\n"
        "def once(x):\n"
        "    if not os.path.exists('tried'):\n"
        "        open('tried', 'w').close()\n"
        "        raise ValueError\n"
        "    return x\n"
        "print(once.submit(7).result())\n"
    )
    assert heald("--quiet", "--retries", "1", "study.py", cwd=tmp_path).stdout == "7\n"


@pytest.mark.parametrize(
    ("text", "status"), [("raise SystemExit(3)", 3), ("raise SystemExit('no')", 1), ("1/0", 1), ("", 0)]
)
def test_the_status_is_the_scripts(tmp_path: Path, text: str, status: int) -> None:
    (tmp_path / "study.py").write_text(text)
    assert heald("--quiet", "study.py", cwd=tmp_path).returncode == status


FAILING = """import heald


@heald.command
def simulate():
    return "echo no such deck >&2; exit 3"


simulate.submit().result()
"""


def test_what_the_script_raises_is_told_from_its_own_line_on(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(FAILING)
    result = heald("study.py", cwd=tmp_path)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[:2] == ["Traceback (most recent call last):", '  File "study.py", line 9, in <module>']
    assert "heald.core.errors.CommandFailed: simulate#1: the command exited with status 3" in result.stderr
    assert "no such deck" in map(str.strip, lines), "what the task printed"
    assert "  tasks    1: 1 failed" in lines


def test_a_script_without_tasks_has_no_summary(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text("print('hello')")
    result = heald("study.py", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "hello\n", "")


def test_a_script_that_is_no_python(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text("def (")
    result = heald("--quiet", "study.py", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith('  File "study.py", line 1\n    def (')


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    result = heald("study.py", cwd=tmp_path)
    assert result.returncode == 2
    assert "'study.py' does not exist" in result.stderr
    assert not list(tmp_path.iterdir())


def test_an_executor_that_is_none_is_usage(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text("")
    result = heald("--executor", "cloud", "study.py", cwd=tmp_path)
    assert result.returncode == 2
    assert "must be process or thread" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--nodes", "3"), "--nodes: it is for batch jobs: say where, with --site"),
        (("--queue", "debug", "--detach"), "--queue: it is for batch jobs"),
        (("--site", "local", "--executor", "thread"), "nodes run tasks in processes"),
        (("--site", "nowhere", "--detach"), "there is no site 'nowhere'"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "study.py").write_text("")
    result = heald(*words, "study.py", cwd=tmp_path)
    assert result.returncode == 2
    assert said in " ".join(result.stderr.split())
    assert not (tmp_path / "study.heald").exists()


def test_what_a_batch_job_is_charged_to(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text("import heald\nheald.task(pow).submit(2, 10).result()")
    (tmp_path / "mine.toml").write_text('scheduler = "slurm"\naccount = "usual"\n')
    (tmp_path / "sbatch").write_text("#!/bin/sh\ngrep -e --account -e --partition >&2; exit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    words = ("--site", "./mine.toml", "--account", "project", "--queue", "debug")
    result = heald(*words, "study.py", cwd=tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert "--account=project" in result.stderr
    assert "--partition=debug" in result.stderr


def test_one_interrupt_lets_running_tasks_end(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    (tmp_path / "study.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-m", "heald", "run", "--workers", "1", "study.py"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    wait_until((tmp_path / "began0").exists)
    os.kill(process.pid, signal.SIGINT)
    assert "running tasks are let to end" in process.stderr.readline() + process.stderr.readline()
    (tmp_path / "go").touch()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (tmp_path / "ended0").exists()
    assert not (tmp_path / "began1").exists()
    assert "3 cancelled" in said


def test_two_interrupts_stop_them(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    (tmp_path / "study.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-m", "heald", "run", "--quiet", "study.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    wait_until((tmp_path / "began0").exists)
    os.kill(process.pid, signal.SIGINT)
    process.stderr.readline(), process.stderr.readline()
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not (tmp_path / "ended0").exists()


def test_who_is_to_end_gives_back_what_it_has(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    (tmp_path / "study.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-m", "heald", "run", "study.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    wait_until((tmp_path / "began0").exists)
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert "4 cancelled" in said
    assert "Traceback" not in said
