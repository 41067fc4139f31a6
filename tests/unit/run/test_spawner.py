from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest

from heald.run.function import importable
from heald.run.protocol import Born

Wait = Callable[..., None]


def exit_with(status: int) -> None:
    os._exit(status)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)


def pids() -> tuple[int, int, int]:
    return os.getpid(), os.getppid(), os.getpgid(0)


def leave_processes(file: Path) -> None:
    """A daemon that escaped its group and its parent, and then the end."""
    import subprocess

    script = f"echo $$ > {file}.new; mv {file}.new {file}; exec sleep 1000"
    subprocess.Popen(["setsid", "-f", "sh", "-c", script], stdin=subprocess.DEVNULL)
    while not file.exists():
        pass
    os._exit(1)


def hog() -> None:
    held = b"x" * 100_000_000
    os._exit(len(held) // len(held))


def set_up() -> None:
    os.environ["SET_UP"] = "yes"


def was_set_up() -> str | None:
    return os.environ.get("SET_UP")


def test_a_worker_is_born_in_a_group_of_its_own(workers: Any) -> None:
    lane = workers.open()
    pid, parent, group = workers.outcome(lane, workers.order(pids))
    assert workers.notices == [Born(1, pid)]
    assert parent == workers.process.pid
    assert group == pid


def test_many_workers_have_one_parent(workers: Any) -> None:
    lanes = [workers.open() for _ in range(4)]
    found = [workers.outcome(lane, workers.order(pids)) for lane in lanes]
    assert len({pid for pid, _, _ in found}) == 4
    assert {parent for _, parent, _ in found} == {workers.process.pid}


@pytest.mark.parametrize(
    ("end", "argument", "status"),
    [(exit_with, 3, 3), (exit_with, 0, 0), (kill_self, signal.SIGKILL, -9), (kill_self, signal.SIGSEGV, -11)],
)
def test_a_death_is_told_with_its_status(workers: Any, end: Any, argument: int, status: int) -> None:
    lane, other = workers.open(), workers.open()
    lane.send([workers.order(end, argument)])
    assert workers.died(lane).status == status
    assert workers.outcome(other, workers.order(max, 1, 2)) == 2


def test_a_death_is_told_with_the_memory_that_was_used(workers: Any) -> None:
    lane = workers.open()
    lane.send([workers.order(hog)])
    died = workers.died(lane)
    assert died.memory > 100_000_000
    assert not died.starved


def test_what_a_dead_worker_left_is_killed(workers: Any, tmp_path: Path, wait_until: Wait) -> None:
    lane = workers.open()
    lane.send([workers.order(leave_processes, tmp_path / "pid")])
    workers.died(lane)
    stray = int((tmp_path / "pid").read_text())
    wait_until(lambda: not psutil.pid_exists(stray))


def test_signals_reach_the_whole_group(workers: Any) -> None:
    lane = workers.open()
    workers.outcome(lane, workers.order(pids))
    workers.signal(lane.number, signal.SIGKILL)
    assert workers.died(lane).status == -signal.SIGKILL
    workers.signal(lane.number, signal.SIGKILL)  # it is gone: nobody else is hit
    assert workers.outcome(workers.open(), workers.order(max, 1, 2)) == 2


def test_a_worker_whose_lane_is_closed_ends_in_peace(workers: Any) -> None:
    lane = workers.open()
    workers.outcome(lane, workers.order(pids))
    lane.close()
    assert workers.died(lane).status == 0


def test_interrupts_of_the_terminal_are_the_drivers_business(workers: Any) -> None:
    lane = workers.open()
    pid, spawner, _ = workers.outcome(lane, workers.order(pids))
    for one in (pid, spawner):
        os.kill(one, signal.SIGINT)
    os.kill(spawner, signal.SIGTERM)
    os.kill(spawner, signal.SIGHUP)
    assert workers.outcome(lane, workers.order(pids))[0] == pid


def test_when_the_driver_is_gone_all_ends(workers: Any, tmp_path: Path, wait_until: Wait) -> None:
    def hold_on(file: Path) -> None:
        import subprocess

        subprocess.run(["setsid", "sh", "-c", f"touch {file}; sleep 1000"], check=False)

    lane = workers.open()
    lane.send([workers.order(hold_on, tmp_path / "begun")])
    wait_until((tmp_path / "begun").exists)
    below = psutil.Process(workers.process.pid).children(recursive=True)
    assert len(below) >= 3
    workers.close()
    assert not any(process.is_running() for process in below)


def test_when_it_is_killed_itself_its_workers_end(workers: Any, wait_until: Wait) -> None:
    lane = workers.open()
    pid, _, _ = workers.outcome(lane, workers.order(pids))
    workers.process.kill()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_an_initializer_is_called_before_anything_else(make_workers: Callable[..., Any]) -> None:
    importable(__name__)
    workers = make_workers(initializer=cloudpickle.dumps(set_up))
    assert workers.outcome(workers.open(), workers.order(was_set_up)) == "yes"


def test_an_initializer_that_fails_ends_the_worker(make_workers: Callable[..., Any]) -> None:
    importable(__name__)
    workers = make_workers(initializer=cloudpickle.dumps(lambda: 1 / 0))
    assert workers.died(workers.open()).status == 1
    assert "ZeroDivisionError" in (workers.logs / "spawner.err").read_text()
