from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from heald.run import kernel


def shell(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)


def ended(pid: int) -> bool:
    """It is gone, or has died and waits for init to notice."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_finds_what_is_below(wait_until: Callable[..., None]) -> None:
    with shell("sh -c 'cat; true'; true") as tree:
        wait_until(lambda: len(kernel.descendants(tree.pid)) == 2)
        middle, leaf = kernel.descendants(tree.pid)
        assert kernel.children(tree.pid) == [middle]
        assert kernel.children(middle) == [leaf]
        assert tree.pid in kernel.children(os.getpid())


def test_nothing_is_below_one_that_is_gone() -> None:
    with shell("exit") as gone:
        gone.wait()
    assert kernel.children(gone.pid) == []
    assert kernel.descendants(gone.pid) == []


def test_kills_a_whole_group(wait_until: Callable[..., None]) -> None:
    with shell("sleep 1000 & sleep 1000") as tree:
        wait_until(lambda: len(kernel.children(tree.pid)) == 2)
        sleeping = kernel.children(tree.pid)
        assert kernel.kill_group(tree.pid, signal.SIGKILL)
        assert tree.wait() == -signal.SIGKILL
        wait_until(lambda: all(map(ended, sleeping)))


def test_killing_what_is_gone_says_so() -> None:
    with shell("exit") as gone:
        gone.wait()
    assert not kernel.kill(gone.pid, signal.SIGKILL)
    assert not kernel.kill_group(gone.pid, signal.SIGKILL)


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9)])
def test_exit_status_is_that_of_subprocess(script: str, status: int) -> None:
    pid = os.posix_spawn("/bin/sh", ["/bin/sh", "-c", script], os.environ)
    _, raw = os.waitpid(pid, 0)
    assert kernel.exit_status(raw) == status


def test_exit_text() -> None:
    assert kernel.exit_text(-9) == "was killed by SIGKILL (signal 9)"
    assert kernel.exit_text(-63) == "was killed by a signal (signal 63)"


def run_python(code: str) -> list[str]:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return run.stdout.split()


def test_processes_are_found_by_all_of_some_variables() -> None:
    token = os.urandom(8).hex()
    wanted = {"HEALD_TEST_TOKEN": token, "HEALD_TASK": "7"}
    around = [wanted, {**wanted, "HEALD_TASK": "77"}, {"HEALD_TASK": "7"}]
    started = [subprocess.Popen(["sleep", "60"], env={**os.environ, **one}) for one in around]
    try:
        assert kernel.carrying(wanted) == [started[0].pid]
    finally:
        for one in started:
            one.kill()
            one.wait()
    assert kernel.carrying(wanted) == []


def test_a_process_that_nobody_has_waited_for_has_ended(wait_until: Callable[..., None]) -> None:
    with subprocess.Popen(["sleep", "60"]) as started:
        assert not kernel.has_ended(started.pid)
        assert kernel.name(started.pid) == "sleep"
        started.kill()
        wait_until(lambda: kernel.has_ended(started.pid))
    assert kernel.has_ended(started.pid)
    assert kernel.name(started.pid) == ""


def test_children_are_waited_for_but_those_that_stay() -> None:
    code = """
import subprocess
from heald.run import kernel
short, lasting = subprocess.Popen(["sleep", "0.1"]), subprocess.Popen(["sleep", "60"])
kernel.await_children({lasting.pid})
print(short.wait(0), lasting.poll())
lasting.kill()
lasting.wait()
"""
    assert run_python(code) == ["0", "None"]


def test_children_that_fork_while_they_are_killed_do_not_escape() -> None:
    code = """
import os, subprocess, time
from heald.run import kernel
kernel.adopt_orphans()
subprocess.Popen("for n in 1 2 3 4 5 6 7 8; do (while :; do sleep 300 & sleep 0.001; done) & done; wait", shell=True)
while len(kernel.descendants(os.getpid())) < 30:
    pass
kernel.end_children(())
print(kernel.descendants(os.getpid()))
"""
    assert run_python(code) == ["[]"]


def test_the_others_of_a_group_get_a_signal() -> None:
    code = """
import os, signal, subprocess
from heald.run import kernel
os.setsid()
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append("told"))
child = subprocess.Popen(["sleep", "60"])
kernel.signal_others(signal.SIGUSR1)
print(child.wait(), len(told))
os.kill(os.getpid(), signal.SIGUSR1)
print(*told)
"""
    assert run_python(code) == ["-10", "0", "told"]


def test_orphans_are_adopted() -> None:
    code = """
import os, signal, subprocess
from heald.run import kernel
kernel.adopt_orphans()
orphan = subprocess.run("sleep 1000 >&- & echo $!", shell=True, stdout=subprocess.PIPE, text=True).stdout
print(kernel.children(os.getpid()) == [int(orphan)])
os.kill(int(orphan), signal.SIGKILL)
print(os.waitpid(int(orphan), 0)[1])
"""
    assert run_python(code) == ["True", "9"]


def test_a_child_dies_with_its_parent(wait_until: Callable[..., None]) -> None:
    code = """
import os, signal
from heald.run import kernel
end, other = os.pipe()
pid = os.fork()
if not pid:
    kernel.die_with_parent()
    os.write(other, b".")
    signal.pause()
os.read(end, 1)
print(pid)
"""
    (pid,) = run_python(code)
    wait_until(lambda: ended(int(pid)))
