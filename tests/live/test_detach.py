"""Runs without a terminal: `heald run --detach`, `attach`, `run stop`, and kills of every process that takes part."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from heald.core.state import State
from heald.flow.run import ENDED, KILLED, RUNNING, Run

from .conftest import Survivors

pytestmark = pytest.mark.live

Wait = Callable[..., None]

# Five tasks that are over at once, and one that waits for `go`; each leaves a line whenever it is run.
STUDY = """
import sys, time
from pathlib import Path
import heald

@heald.task
def quick(x):
    with open("ran", "a") as ran:
        ran.write(f"quick{x}\\n")
    return x

@heald.task
def patient():
    with open("ran", "a") as ran:
        ran.write("patient\\n")
    Path("waits").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    Path("went").touch()
    return 10

@heald.task
def after(x):
    Path("after").touch()
    return x

print("begins", flush=True)
quicks = [quick.submit(x) for x in range(5)]
last = after.submit(patient.submit())
print("sum", sum(one.result() for one in quicks), flush=True)
print("last", last.result(), sys.argv[1:], flush=True)
print("complaint", file=sys.stderr)
sys.exit(3)
"""


class Desk:
    """A folder, and terminals in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = Run(folder / "study.heald")
        self.attached: list[subprocess.Popen[str]] = []
        (folder / "study.py").write_text(STUDY)

    def begin(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "heald", *words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.attached.append(process)
        return process

    def type(self, *words: str, status: int = 0) -> str:
        """What a command prints, errors last; it must end with `status`."""
        process = self.begin(*words)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == status, stdout + stderr
        return stdout + stderr

    def has(self, *names: str) -> Callable[[], bool]:
        return lambda: all((self.folder / name).exists() for name in names)

    def go(self) -> None:
        (self.folder / "go").touch()

    def ran(self) -> list[str]:
        return sorted((self.folder / "ran").read_text().split())

    @property
    def driver(self) -> int:
        """The process of the script, 0 without one."""
        owner = self.run.owner
        return owner.pid if owner is not None and owner.alive else 0

    @property
    def supervisor(self) -> int:
        owner = self.run.detached.supervisor
        assert owner is not None
        return owner.pid


@pytest.fixture
def desk(tmp_path: Path, survivors: Survivors) -> Iterator[Desk]:
    """A desk; what was started there and goes on is ended."""
    desk = Desk(tmp_path)
    yield desk
    for process in desk.attached:
        process.kill()
        process.communicate(timeout=10)
    for left in survivors():
        left.kill()


@pytest.fixture
def waiting(desk: Desk, wait_until: Wait) -> Desk:
    """A detached run that has done what it can before `go`."""
    desk.type("run", "--detach", "study.py", "--steps", "3")
    wait_until(lambda: desk.has("waits")() and len(desk.ran()) == 6)
    return desk


ALL = ["patient", "quick0", "quick1", "quick2", "quick3", "quick4"]


# -- starting and looking ----------------------------------------------------------------------------------------------


def test_it_comes_back_when_the_journal_is_open(desk: Desk, wait_until: Wait) -> None:
    said = desk.type("run", "--detach", "study.py")
    assert desk.run.state == RUNNING
    assert f"process {desk.driver}" in said
    for command in ("heald attach   study.heald", "heald run show study.heald", "heald run stop study.heald"):
        assert command in said
    listed = json.loads(desk.type("run", "ls", "--json"))
    assert [(run["run"], run["state"], run["supervisor"]) for run in listed] == [
        ("study.heald", "running", desk.supervisor)
    ]
    assert "detached" in desk.type("run", "ls")
    assert f"process {desk.supervisor} starts it again" in desk.type("run", "show")
    desk.go()
    wait_until(lambda: desk.run.state == ENDED)


def test_attach_shows_all_that_the_script_prints_and_ends_as_it_does(waiting: Desk) -> None:
    attached = waiting.begin("attach", "study.heald")
    assert attached.stdout is not None
    assert [attached.stdout.readline() for _ in range(2)] == ["begins\n", "sum 10\n"]
    waiting.go()
    stdout, stderr = attached.communicate(timeout=30)
    assert attached.returncode == 3
    assert stdout == "last 10 ['--steps', '3']\n"
    assert stderr.startswith("complaint\n")
    assert "7: 7 done" in stderr
    again = waiting.type("attach", status=3)
    assert again.startswith("begins\nsum 10\nlast 10"), "of a run that is over, too"


def test_an_interrupt_ends_only_the_look(waiting: Desk) -> None:
    attached = waiting.begin("attach", "study.heald")
    assert attached.stdout is not None
    attached.stdout.readline()
    attached.send_signal(signal.SIGINT)
    _, stderr = attached.communicate(timeout=30)
    assert attached.returncode == 130
    assert "study.heald goes on: heald attach study.heald shows it again, heald run stop study.heald ends it" in stderr
    assert waiting.run.state == RUNNING
    waiting.go()
    waiting.type("attach", status=3)


def test_a_script_that_ends_at_once_is_shown_as_without_detach(desk: Desk) -> None:
    (desk.folder / "wrong.py").write_text("print('so far')\nraise ValueError('this is wrong')\n")
    said = desk.type("run", "--detach", "wrong.py", status=1)
    assert said.startswith("so far\n")
    assert "ValueError: this is wrong" in said
    assert "must be process or thread" in desk.type("run", "--detach", "--executor", "cloud", "study.py", status=2)


def test_a_run_that_goes_on_is_not_started_twice(waiting: Desk) -> None:
    said = waiting.type("run", "--detach", "study.py", status=1)
    assert f"is written by process {waiting.driver}" in said
    waiting.go()
    waiting.type("attach", status=3)
    assert waiting.ran() == ALL


def test_started_again_it_prints_anew(waiting: Desk) -> None:
    waiting.go()
    waiting.type("attach", status=3)
    again = waiting.begin("run", "--detach", "study.py", "again")
    again.communicate(timeout=30)
    assert again.returncode in (0, 3), "it may be over before anybody looks"
    assert "last 10 ['again']" in waiting.type("attach", status=3)
    assert waiting.ran() == ALL


def test_a_run_in_a_terminal_shows_how_far_it_is(desk: Desk, wait_until: Wait) -> None:
    script = desk.begin("run", "--quiet", "study.py")
    wait_until(desk.has("waits"))
    attached = desk.begin("attach", "study.heald")
    assert attached.stderr is not None
    assert "was not started by heald run --detach" in attached.stderr.readline()
    desk.go()
    assert script.wait(30) == 3
    attached.communicate(timeout=30)
    assert attached.returncode == 0, "all tasks are done"


def test_there_is_none_for_commands_over_inputs(desk: Desk) -> None:
    said = desk.type("run", "--detach", "echo", ":::", "a", status=255)
    assert "it is for Python scripts" in said


# -- kills -------------------------------------------------------------------------------------------------------------


def test_a_killed_script_is_started_again_and_goes_on(waiting: Desk, wait_until: Wait) -> None:
    attached = waiting.begin("attach", "study.heald")
    first = waiting.driver
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: waiting.driver not in (0, first))
    waiting.go()
    stdout, stderr = attached.communicate(timeout=30)
    assert attached.returncode == 3, stderr
    assert stdout.count("begins\n") == 2, "both processes of it"
    assert "the script was ended by a signal: Killed (signal 9): started again" in stderr
    assert waiting.ran() == ["patient", *ALL], "what was done was not done again"


def test_a_script_that_crashes_again_and_again_is_left_so(desk: Desk) -> None:
    (desk.folder / "study.py").write_text(
        "import heald, os, time\nheald.task(abs).submit(-1).result()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "open('tried', 'a').write('x')\nos.kill(os.getpid(), 11)\n"
    )
    desk.type("run", "--detach", "study.py")
    desk.go()
    said = desk.type("attach", status=128 + signal.SIGSEGV)
    assert "4 times within a minute: not started again" in said
    assert "study.heald was killed: start its script again" in said
    assert (desk.folder / "tried").read_text() == "xxxx"
    assert desk.run.state == KILLED


def test_the_death_of_the_supervisor_does_not_end_the_run(waiting: Desk, wait_until: Wait) -> None:
    os.kill(waiting.supervisor, signal.SIGKILL)
    attached = waiting.begin("attach", "study.heald")
    assert attached.stdout is not None
    attached.stdout.readline()
    assert waiting.run.state == RUNNING
    waiting.go()
    stdout, stderr = attached.communicate(timeout=30)
    assert "last 10" in stdout
    assert "its exit status is not known, since its supervisor was killed" in stderr
    assert attached.returncode == 0, "all tasks are done"
    assert waiting.ran() == ALL


def test_sigterm_to_the_supervisor_ends_the_run_for_good(waiting: Desk, wait_until: Wait) -> None:
    os.kill(waiting.supervisor, signal.SIGTERM)
    wait_until(lambda: waiting.run.state == ENDED)
    waiting.type("attach", status=128 + signal.SIGTERM)
    waiting.go()
    waiting.type("run", "study.py", status=3)


def test_the_terminal_may_go(desk: Desk, wait_until: Wait) -> None:
    master, slave = os.openpty()
    line = f"{sys.executable} -m heald run --detach study.py; echo came back; sleep 1000"
    shell = subprocess.Popen(["setsid", "--ctty", "sh", "-c", line], stdin=slave, stdout=slave, cwd=desk.folder)
    os.close(slave)
    said = b""
    while b"came back" not in said:
        said += os.read(master, 1 << 16)
    os.close(master)
    assert shell.wait(30) == -signal.SIGHUP
    wait_until(desk.has("waits"))
    assert psutil.Process(desk.driver).terminal() is None
    desk.go()
    desk.type("attach", status=3)
    assert desk.ran() == ALL


def test_nobody_waits_for_what_the_starter_had_open(desk: Desk) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    starter = desk.begin("run", "--detach", "study.py", close_fds=False)
    starter.communicate(timeout=30)  # which ends at the end of the pipes
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)
    desk.go()
    desk.type("attach", status=3)


def test_attempts_on_a_cluster_run_on_while_the_script_is_started_again(desk: Desk, wait_until: Wait) -> None:
    desk.type("run", "--site", "local", "--workers", "2", "--detach", "study.py")
    wait_until(lambda: desk.has("waits")() and len(desk.ran()) == 6, 30)
    for _ in range(2):
        last = desk.driver
        os.kill(last, signal.SIGKILL)
        wait_until(lambda last=last: desk.driver not in (0, last))
        wait_until(lambda: desk.run.history().records[6].state is State.placed)
    desk.go()
    assert "last 10" in desk.type("attach", status=3)
    assert desk.ran() == ALL, "nothing was run twice, not even what was running"
    assert {record.state for record in desk.run.history().records.values()} == {State.done}


# -- stop --------------------------------------------------------------------------------------------------------------


def test_stop_lets_running_tasks_end(waiting: Desk) -> None:
    assert "study.heald ends when 1 running task are over" in waiting.type("run", "stop")
    attached = waiting.begin("attach")
    waiting.go()
    attached.communicate(timeout=30)
    assert attached.returncode == 130
    assert waiting.has("went")()
    assert not waiting.has("after")()
    assert waiting.run.state == ENDED
    waiting.type("run", "study.py", status=3)
    assert waiting.ran() == ALL, "it went on where it was"


def test_stop_now_cancels_them(waiting: Desk) -> None:
    waiting.type("run", "stop")
    assert json.loads(waiting.type("run", "stop", "--now", "--json")) == [6]
    waiting.type("attach", status=130)
    assert not waiting.has("went")()
    states = [record.state for record in waiting.run.history().records.values()]
    assert states == [State.done] * 5 + [State.cancelled] * 2


def test_stop_drains_a_session_that_knows_nothing_of_it(desk: Desk, wait_until: Wait) -> None:
    text = STUDY.replace("print(", "print(", 1)
    (desk.folder / "own.py").write_text(
        text.replace("quicks =", 'session = heald.Session(journal="study.heald", memo=None).start()\nquicks =')
    )
    script = subprocess.Popen([sys.executable, "own.py"], cwd=desk.folder, stderr=subprocess.PIPE, text=True)
    desk.attached.append(script)
    wait_until(desk.has("waits"))
    desk.type("run", "stop")
    desk.go()
    _, stderr = script.communicate(timeout=30)
    assert "KeyboardInterrupt" in stderr
    assert desk.has("went")()
    assert not desk.has("after")()


def test_stop_is_for_runs_that_go_on(waiting: Desk) -> None:
    waiting.go()
    waiting.type("attach", status=3)
    assert "study.heald does not run" in waiting.type("run", "stop", status=2)


def test_stop_on_another_host_names_it_and_the_command(waiting: Desk) -> None:
    file = waiting.run.path / "owner"
    owner, beside = file.read_text(), waiting.run.detached
    file.write_text(owner.replace(os.uname().nodename, "node07"))
    said = waiting.type("run", "stop", "--now", status=1)
    assert f"ssh node07 heald run stop {waiting.run.path} --now;" in said
    file.write_text(owner)
    assert beside.supervised
    waiting.go()
    waiting.type("attach", status=3)
