"""Processes that die: workers, the spawner, the driver. Each costs what it ran at most, and none leaves anything."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import heald

pytestmark = pytest.mark.live

Wait = Callable[..., None]
Survivors = Callable[[], list[psutil.Process]]

# What a task may do to its worker. Each runs in the worker, and does not come back.
DEATHS = {
    "segfault": "import ctypes; ctypes.string_at(0)",
    "exit": "import os; os._exit(3)",
    "abort": "import os; os.abort()",
    "kill": "import os; os.kill(os.getpid(), 9)",
    "killpg": "import os; os.killpg(0, 9)",
    "closed": "import os; os.closerange(3, 1000)",
}


def triple(x: int) -> int:
    return 3 * x


def spawners() -> list[psutil.Process]:
    """The processes that have started workers for sessions of this process."""
    found = []
    for process in psutil.Process().children():
        try:
            if process.children() and "heald.run.spawner" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:  # it has just ended
            continue
    return found


# -- workers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("death", DEATHS)
def test_a_task_that_kills_workers_fails_with_that_reason(death: str, session: heald.Session, tmp_path: Path) -> None:
    tries = tmp_path / "tries"

    def die(code: str, file: str) -> None:
        with open(file, "a") as stream:
            stream.write("x")
        exec(code)

    before = [session.submit(triple, x) for x in range(20)]
    doomed = session.submit(die, DEATHS[death], str(tries))
    after = [session.submit(triple, x) for x in range(20)]
    reason = r"die#21, attempt \d+: its worker (was killed by SIG|exited with status)"
    with pytest.raises(heald.WorkerLost, match=reason) as caught:
        doomed.result(30)
    assert caught.value.task == doomed.task
    assert tries.read_text() == "xxx", "the attempt, and two more"
    assert [one.result(30) for one in (*before, *after)] == [*range(0, 60, 3)] * 2


def test_a_killed_worker_costs_its_task_one_more_attempt(
    session: heald.Session, tmp_path: Path, wait_until: Wait
) -> None:
    pids = tmp_path / "pids"

    def hang_first(file: str) -> int:
        import os
        import time

        with open(file, "a+") as stream:
            print(os.getpid(), file=stream, flush=True)
            stream.seek(0)
            tries = len(stream.readlines())
        if tries == 1:
            time.sleep(1000)
        return os.getpid()

    hanging = session.submit(hang_first, str(pids))
    others = [session.submit(triple, x) for x in range(50)]
    wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    os.kill(int(pids.read_text()), signal.SIGKILL)
    assert hanging.result(10) == int(pids.read_text().split()[1])
    assert [one.result(10) for one in others] == [*range(0, 150, 3)]


def test_what_a_dead_worker_printed_is_in_the_error(session: heald.Session) -> None:
    def die() -> None:
        import os

        print("the last words", flush=True)
        os._exit(7)

    with pytest.raises(heald.WorkerLost) as caught:
        session.submit(die).result(30)
    assert "the last words" in Path(caught.value.stdout).read_text()
    assert any("the last words" in note for note in caught.value.__notes__)
    assert "exited with status 7" in str(caught.value)


def test_sys_exit_fails_the_task_and_spares_the_worker() -> None:
    def leave(status: Any) -> None:
        raise SystemExit(status)

    def pid() -> int:
        import os

        return os.getpid()

    with heald.Session([heald.ProcessExecutor(workers=1)], memo=None) as session:
        before = session.submit(pid)
        for status in (0, 3, "no input"):
            with pytest.raises(heald.TaskError, match=r"sys\.exit\(") as caught:
                session.submit(leave, status).result(10)
            assert repr(status) in str(caught.value)
        assert session.submit(pid).result(10) == before.result(10)


def test_any_exception_ends_its_task_only(session: heald.Session) -> None:
    def throw(name: str) -> None:
        import asyncio
        import builtins

        raise getattr(builtins, name, None) or getattr(asyncio, name)

    names = ["KeyboardInterrupt", "GeneratorExit", "StopIteration", "CancelledError", "RecursionError", "OSError"]
    thrown = {name: session.submit(throw, name) for name in names}
    for name, future in thrown.items():
        raised = future.exception(10)
        assert raised is not None
        assert name in f"{type(raised).__name__}: {raised}"
    assert session.submit(triple, 2).result(10) == 6


def test_endless_recursion_fails_the_task(session: heald.Session) -> None:
    def down(x: int) -> int:
        return down(x + 1)

    with pytest.raises(RecursionError):
        session.submit(down, 0).result(10)


# -- memory ----------------------------------------------------------------------------------------------------------


def test_more_memory_than_asked_for(session: heald.Session) -> None:
    def take(size: int) -> int:
        import time

        held = bytearray(size)
        held[:] = bytes(1) * size
        time.sleep(1000 if size > 10**8 else 0)
        return len(held)

    modest = heald.task(memory="200MB")(take)
    greedy = modest.submit(500_000_000)
    good = [modest.submit(1000), session.submit(triple, 1)]
    with pytest.raises(heald.OutOfMemory, match=r"used 0\.\d+ GB of memory and asked for 0\.2 GB") as caught:
        greedy.result(30)
    assert "more memory" in caught.value.hint
    assert [one.result(10) for one in good] == [1000, 3]


def test_a_command_with_more_memory_than_asked_for(session: heald.Session) -> None:
    @heald.command(memory="200MB")
    def hog() -> list[str]:
        return [sys.executable, "-c", "import time; held = b'x' * 500_000_000; time.sleep(1000)"]

    with pytest.raises(heald.OutOfMemory, match=r"asked for 0\.2 GB"):
        hog.submit().result(30)


def test_memory_grows_at_the_next_attempt(session: heald.Session, tmp_path: Path) -> None:
    @heald.task(memory="150MB", retries=heald.Retry(limit=1, grow=10))
    def hold_on(tries: str) -> int:
        import os
        import time

        with open(tries, "a") as file:
            file.write("x")
        held = b"x" * 400_000_000
        time.sleep(1000 if os.path.getsize(tries) == 1 else 0)
        return len(held)

    assert hold_on.submit(str(tmp_path / "tries")).result(30) == 400_000_000
    assert (tmp_path / "tries").read_text() == "xx"


def test_memory_that_the_system_refuses(session: heald.Session) -> None:
    def take(size: int) -> int:
        return len(bytearray(size))

    greedy, modest = session.submit(take, 1 << 60), session.submit(take, 10)
    with pytest.raises(MemoryError) as caught:
        greedy.result(10)
    assert any("in task take#1" in note for note in caught.value.__notes__)
    assert modest.result(10) == 10


# -- the spawner -----------------------------------------------------------------------------------------------------


def test_the_spawner_is_killed(session: heald.Session, tmp_path: Path, survivors: Survivors, wait_until: Wait) -> None:
    def hang_first(file: str) -> str:
        import os
        import time

        with open(file, "a") as stream:
            stream.write("x")
        if os.path.getsize(file) == 1:
            time.sleep(1000)
        return "again"

    @heald.command
    def sleeper(file: str) -> str:
        return f"echo x >> {file}; test $(wc -l < {file}) -gt 1 || {{ sleep 997 & sleep 997; }}"

    python, shell = tmp_path / "python", tmp_path / "shell"
    running, command = session.submit(hang_first, str(python)), sleeper.submit(str(shell))
    waiting = [session.submit(triple, x) for x in range(20)]
    wait_until(lambda: python.exists() and shell.exists())
    spawners()[0].kill()
    assert running.result(20) == "again"
    assert command.result(20).returncode == 0
    assert [one.result(20) for one in waiting] == [*range(0, 60, 3)]
    wait_until(lambda: not any("997" in (process.info["cmdline"] or ()) for process in survivors()))


def test_a_spawner_that_dies_each_time_resolves_every_future(session: heald.Session, wait_until: Wait) -> None:
    def hang(x: Any) -> None:
        import time

        time.sleep(1000)

    futures = [session.submit(hang, x) for x in range(4)]
    futures.append(session.submit(hang, futures[0]))

    def killed_until_done() -> bool:
        for one in spawners():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        return futures[0].done()

    wait_until(killed_until_done)
    assert [type(one.exception(10)) for one in futures] == [heald.WorkerLost] * 4 + [heald.DependencyError]
    with pytest.raises(heald.WorkerLost):
        session.submit(triple, 1).result(10)


# -- the driver ------------------------------------------------------------------------------------------------------

# Tasks of all sorts that would run for ever, with processes below them that ask not to be found. The script says
# "ready" when all run.
BUSY = """
import os, subprocess, sys, time
from pathlib import Path
import heald

ready = Path("ready")

@heald.task
def sleep():
    (ready / "sleep").touch()
    time.sleep(1000)

@heald.task
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            (ready / "daemon").touch()
            time.sleep(1000)
        os._exit(0)
    os.wait()
    subprocess.run(["sleep", "1000"], start_new_session=True)

@heald.command
def shell():
    return "trap '' TERM HUP INT; setsid sleep 1000 & (sleep 1000 &) ; touch ready/shell; sleep 1000; sleep 1000"

def start():
    ready.mkdir()
    futures = [sleep.submit(), daemon.submit(), shell.submit()]
    futures += [sleep.submit() for _ in range(5)]
    while len(list(ready.iterdir())) < 3:
        time.sleep(0.01)
    return futures

executors = [heald.ProcessExecutor(workers=3, grace=1)]
"""

WITH = """
with heald.Session(executors, memo=None) as session:
    futures = start()
    print("ready", flush=True)
    {act}
"""

DEFAULT = """
session = heald.Session(executors, memo=None).start()
futures = start()
print("ready", flush=True)
{act}
"""


def ready(process: Any) -> None:
    assert process.stdout.readline() == "ready\n", process.communicate()[1]


def ends(process: Any, seconds: float = 20) -> int:
    """The exit status of a process that ends soon."""
    process.communicate(timeout=seconds)
    return int(process.returncode)


@pytest.mark.parametrize("form", [WITH, DEFAULT], ids=["with", "default"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_script_and_all_below_it(
    form: str, number: signal.Signals, scripts: Any, survivors: Any, wait_until: Wait
) -> None:
    process = scripts.start(BUSY + form.format(act="time.sleep(1000)"))
    ready(process)
    assert len(survivors()) > 8
    process.send_signal(number)
    assert ends(process) == -number
    wait_until(lambda: not survivors())


@pytest.mark.parametrize("form", [WITH, DEFAULT], ids=["with", "default"])
@pytest.mark.parametrize("act", ["raise ValueError('mine')", "os._exit(5)", "sys.exit(session.close(cancel=True))"])
def test_a_script_that_ends_early_leaves_nothing(
    form: str, act: str, scripts: Any, survivors: Any, wait_until: Wait
) -> None:
    process = scripts.start(BUSY + form.format(act=act))
    ready(process)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == {"r": 1, "o": 5, "s": 0}[act[0]]
    assert ("mine" in stderr) == (act[0] == "r"), stderr
    wait_until(lambda: not survivors())


def test_a_killed_script_leaves_nothing_though_its_child_lives(scripts: Any, survivors: Any, wait_until: Wait) -> None:
    act = "warnings.simplefilter('ignore'); os.fork(); print('forked', flush=True); time.sleep(1000)"
    process = scripts.start("import warnings\n" + BUSY + WITH.format(act=act))
    ready(process)
    assert process.stdout.readline() + process.stdout.readline() == "forked\nforked\n"
    below = {one.pid for one in psutil.Process(process.pid).children()}
    (child,) = (one for one in survivors() if one.pid in below and "script.py" in " ".join(one.info["cmdline"]))
    process.kill()
    wait_until(lambda: survivors() == [child])
    child.kill()


def test_ctrl_c_resolves_every_future(scripts: Any) -> None:
    process = scripts.start(
        BUSY
        + """
try:
    with heald.Session(executors, memo=None) as session:
        futures = start()
        futures.append(sleep.submit())
        print("ready", flush=True)
        futures[0].result()
except KeyboardInterrupt:
    print(*[future.cancelled() for future in futures])
"""
    )
    ready(process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert stdout.split() == ["True"] * 9, stderr


@pytest.mark.parametrize("opening", ["", "session = heald.Session(memo=None).start()"], ids=["default", "started"])
def test_the_interpreter_waits_for_what_was_submitted(opening: str, scripts: Any, tmp_path: Path) -> None:
    scripts.run(f"""
import heald, pathlib, time
{opening}
@heald.task
def touch(name, *_):
    time.sleep(0.1)
    pathlib.Path(name).touch()

first = touch.submit("one")
touch.submit("two", first)
touch.submit("three")
""")
    assert {"one", "two", "three"} <= {path.name for path in tmp_path.iterdir()}


def test_an_exception_inside_of_with_cancels_what_is_open(tmp_path: Path, wait_until: Wait) -> None:
    def hang(file: str) -> None:
        import pathlib
        import time

        pathlib.Path(file).touch()
        time.sleep(1000)

    futures: list[Any] = []
    with (
        pytest.raises(ValueError, match="mine"),
        heald.Session([heald.ProcessExecutor(workers=1, grace=1)], memo=None) as session,
    ):
        futures += [session.submit(hang, str(tmp_path / "running")) for _ in range(3)]
        futures.append(session.submit(triple, futures[0]))
        wait_until((tmp_path / "running").exists)
        raise ValueError("mine")
    assert all(one.cancelled() for one in futures)
    with pytest.raises(heald.TaskCancelled, match="the session was closed"):
        futures[0].result(0)


def test_closing_a_session_resolves_what_runs(tmp_path: Path, wait_until: Wait) -> None:
    def hang(file: str) -> None:
        import pathlib
        import time

        pathlib.Path(file).touch()
        time.sleep(1000)

    session = heald.Session([heald.ProcessExecutor(workers=1, grace=1)], memo=None).start()
    running = session.submit(hang, str(tmp_path / "running"))
    wait_until((tmp_path / "running").exists)
    session.close(cancel=True)
    assert running.done()
    with pytest.raises(heald.UsageError, match="closed"):
        session.submit(triple, 1)


def test_a_fork_of_the_driver_cannot_harm_the_session(session: heald.Session) -> None:
    before = session.submit(triple, 1)
    with warnings.catch_warnings(action="ignore"):  # newer versions of Python warn of forks beside threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            session.submit(triple, 1)
        except heald.UsageError:
            session.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert before.result(10) == session.submit(triple, 1).result(10) == 3


def test_death_is_seen_at_once(session: heald.Session) -> None:
    """By the end of the process, not by a timer: Parsl's default takes up to 30 s, and this attempt is made thrice."""

    def die() -> None:
        import os

        os._exit(1)

    assert isinstance(session.submit(die).exception(10), heald.WorkerLost)
