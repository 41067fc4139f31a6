"""Two terminals: a script runs in one, and `heald task cancel`, `retry` and `rm` are typed in the other."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from heald.core.errors import HealdError
from heald.core.state import State
from heald.flow.run import KILLED, Run
from heald.run import control

from .conftest import Scripts, Survivors

pytestmark = pytest.mark.live

Wait = Callable[..., None]

# 1 succeeds, 2 fails until `fixed` is there, 3 needs both, 4 is a tree of processes, 5 runs in Python for ever or waits
# for a core, 6 needs 5. It says what its futures became, in JSON, once all are over.
STUDY = """
import json, os, time
import heald

@heald.task
def deck(x):
    print("deck", x)
    return x

@heald.task
def strict(x):
    if not os.path.exists("fixed"):
        raise ValueError("the deck is wrong")
    return x

@heald.task
def total(*values):
    return sum(values)

@heald.command
def tree():
    return "sleep 991 & setsid sleep 992 & touch running; sleep 993; sleep 994"

@heald.task
def forever():
    while True:
        time.sleep(1)

if __name__ == "__main__":
    with heald.Session([heald.ProcessExecutor(2, grace=1)], journal="run.heald", memo=None, progress=False) as session:
        first, second = deck.submit(1), strict.submit(2)
        futures = [first, second, total.submit(first, second), tree.submit(), forever.submit()]
        futures.append(total.submit(futures[-1]))
        heald.wait(futures)
        ends = ["cancelled" if one.cancelled() else type(one.exception()).__name__ for one in futures]
        print(json.dumps({"ends": ends, "recalled": session.tally.recalled}), flush=True)
"""

# A callback keeps the engine busy until `go` is there.
BUSY = """
import os, time
import heald

def busy(future):
    open("busy", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)

@heald.command
def sleeper():
    return "touch running; sleep 995"

@heald.task
def deck(x):
    return x

with heald.Session([heald.ProcessExecutor(2, grace=1)], journal="run.heald", memo=None, progress=False):
    slow = sleeper.submit()
    while not os.path.exists("running"):
        time.sleep(0.01)
    deck.submit(1).add_done_callback(busy)
    heald.wait([slow])
    print("cancelled", slow.cancelled(), flush=True)
"""


class Terminal:
    """The other terminal, in the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = Run(folder / "run.heald")

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "heald", *words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def type(self, *words: str, status: int = 0) -> str:
        """What a command prints, which must end with `status`; errors last."""
        process = self.begin(*words)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == status, stdout + stderr
        return stdout + stderr

    def states(self) -> dict[int, State]:
        return {task: record.state for task, record in self.run.history().records.items()}


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture
def study(scripts: Scripts, terminal: Terminal, wait_until: Wait) -> subprocess.Popen[str]:
    """The script, at the point where it can do no more by itself: 4 and 5 run, the rest is over or waits."""
    return started(scripts, terminal, wait_until)


def started(scripts: Scripts, terminal: Terminal, wait_until: Wait) -> subprocess.Popen[str]:
    script = scripts.start(STUDY)
    running = terminal.folder / "running"

    def under_way() -> bool:
        assert script.poll() is None, script.communicate()
        return running.exists() and terminal.states().get(5) is State.running

    wait_until(under_way, 30)
    return script


def ended(script: subprocess.Popen[str]) -> dict[str, Any]:
    stdout, stderr = script.communicate(timeout=60)
    assert script.returncode == 0, stderr
    found: dict[str, Any] = json.loads(stdout)
    return found


def sleepers(survivors: Survivors) -> list[psutil.Process]:
    return [one for one in survivors() if one.info["name"] in ("sleep", "sh")]


def test_a_running_task_is_cancelled_with_all_that_it_started(
    study: subprocess.Popen[str], terminal: Terminal, survivors: Survivors, wait_until: Wait
) -> None:
    assert len(sleepers(survivors)) >= 3
    assert "tree  running  cancelled" in terminal.type("task", "cancel", "4")
    wait_until(lambda: not sleepers(survivors))
    assert "tree#4 was cancelled: from outside of the script" in terminal.type("task", "explain", "4")
    assert "forever  running  cancelled" in terminal.type("task", "cancel", "name=forever")
    assert ended(study)["ends"] == ["NoneType", "ValueError", "DependencyError", *3 * ["cancelled"]]


def test_a_waiting_task_is_cancelled_and_stays_so(
    study: subprocess.Popen[str], terminal: Terminal, scripts: Scripts
) -> None:
    assert "total  waiting  cancelled" in terminal.type("task", "cancel", "6")
    assert terminal.states()[5] is State.running
    terminal.type("task", "cancel", "4-5")
    assert ended(study)["ends"][3:] == 3 * ["cancelled"]
    (terminal.folder / "fixed").touch()
    again = ended(scripts.start(STUDY))
    assert again == {"ends": [*3 * ["NoneType"], *3 * ["cancelled"]], "recalled": 1}


def test_a_failed_task_is_run_again_with_what_needs_it(
    study: subprocess.Popen[str], terminal: Terminal, scripts: Scripts, wait_until: Wait
) -> None:
    terminal.type("task", "cancel", "5")  # makes room
    (terminal.folder / "fixed").touch()
    printed = terminal.type("task", "retry", "state=failed")
    assert printed.endswith("2 tasks to run again: their script keeps the ends that it was told\n")
    wait_until(lambda: terminal.states()[3] is State.done)
    terminal.type("task", "cancel", "4")
    assert ended(study)["ends"][:3] == ["NoneType", "ValueError", "DependencyError"]
    again = ended(scripts.start(STUDY))
    assert again == {"ends": [*3 * ["NoneType"], *3 * ["cancelled"]], "recalled": 3}
    assert terminal.run.history().records[2].attempt == 2


def test_a_task_is_removed_once_it_is_over(study: subprocess.Popen[str], terminal: Terminal) -> None:
    assert "it is not over" in terminal.type("task", "rm", "4", "--yes", status=1)
    printed = list((terminal.folder / "run.heald" / "logs").rglob("1.1.out"))
    assert len(printed) == 1
    assert terminal.type("task", "rm", "1", "--yes").endswith("2 tasks removed\n")
    assert terminal.states().keys() == {2, 4, 5, 6}
    assert not printed[0].exists()
    terminal.type("task", "cancel", "4", "5")
    assert ended(study)["ends"][0] == "NoneType"  # what the script was told stays told
    terminal.type("task", "rm", "2-", "--yes")
    assert terminal.states() == {}


def test_garbage_does_no_harm(study: subprocess.Popen[str], terminal: Terminal) -> None:
    owner = terminal.run.owner
    assert owner is not None
    idle = []
    for number in range(50):
        channel = socket.socket(socket.AF_UNIX)
        channel.settimeout(20)
        channel.connect(f"\0heald-{owner.nonce}")
        if number < control._CALLERS - 1:
            idle.append(channel)
        else:
            channel.sendall(os.urandom(1000))
            channel.close()
    terminal.type("task", "cancel", "4", "5")  # while some say nothing and go on doing so
    assert ended(study)["ends"][3:] == 3 * ["cancelled"]
    for channel in idle:
        assert channel.recv(1) == b""
        channel.close()


def test_a_busy_run_does_it_when_it_can(scripts: Scripts, terminal: Terminal, wait_until: Wait) -> None:
    script = scripts.start(BUSY)
    wait_until((terminal.folder / "busy").exists, 30)
    asked = terminal.begin("task", "cancel", "1")
    owner = terminal.run.owner
    assert owner is not None
    with pytest.raises(subprocess.TimeoutExpired):
        asked.wait(0.5)
    (terminal.folder / "go").touch()
    stdout, stderr = asked.communicate(timeout=60)
    assert (asked.returncode, stderr) == (0, "")
    assert "sleeper  running  cancelled" in stdout
    assert script.communicate(timeout=60)[0] == "cancelled True\n"


def test_what_a_killed_run_leaves_stops_nobody(
    study: subprocess.Popen[str], terminal: Terminal, scripts: Scripts, survivors: Survivors, wait_until: Wait
) -> None:
    study.send_signal(signal.SIGKILL)
    study.wait(20)
    wait_until(lambda: not sleepers(survivors))
    assert terminal.run.state == KILLED
    assert "waiting  cancelled" in terminal.type("task", "cancel", "5")
    assert terminal.run.state == KILLED
    (terminal.folder / "running").unlink()
    again = scripts.start(STUDY)
    wait_until((terminal.folder / "running").exists, 30)
    assert "tree  running  cancelled" in terminal.type("task", "cancel", "4")
    assert ended(again)["ends"] == ["NoneType", "ValueError", "DependencyError", *3 * ["cancelled"]]


def test_a_stopped_run_is_said_not_to_answer(study: subprocess.Popen[str], terminal: Terminal) -> None:
    owner = terminal.run.owner
    assert owner is not None
    study.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, study.pid, os.WSTOPPED)  # the signal takes its time
    try:
        with pytest.raises(HealdError, match=r"does not answer within 0\.2 s; nothing was done"):
            control.ask(owner.nonce, b"", timeout=0.2)
    finally:
        study.send_signal(signal.SIGCONT)
    terminal.type("task", "cancel", "4", "5")
    assert ended(study)["ends"][3:] == 3 * ["cancelled"]


def test_a_run_on_another_host_is_named(study: subprocess.Popen[str], terminal: Terminal) -> None:
    file = terminal.run.path / "owner"
    mine = file.read_bytes()
    file.write_bytes(mine.replace(socket.gethostname().encode(), b"node07"))
    printed = terminal.type("task", "cancel", "4", status=1)
    file.write_bytes(mine)
    assert "on node07, where alone it can be asked" in printed
    assert f"ssh node07 heald task cancel --run {terminal.run.path} 4;" in printed
    terminal.type("task", "cancel", "4", "5")
    ended(study)
