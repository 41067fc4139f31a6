"""Stopping what runs: walltime and cancel end the work itself, and whatever it has started."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import heald

pytestmark = pytest.mark.live

Wait = Callable[..., None]
Survivors = Callable[[], list[psutil.Process]]

# Ways to be busy for ever. Each first makes a file that says so.
BUSY = {
    "sleep": "import time; time.sleep(1000)",
    "loop": "while True: pass",
    "child": "import subprocess; subprocess.run(['sleep', '1000'])",
    # In C code that holds the interpreter's lock and looks at no signal: only a kill ends it.
    "locked": "import re; re.match('(a*)*b', 'a' * 1000)",
    "deaf": """
while True:
    try:
        import time; time.sleep(1000)
    except BaseException:
        pass
""",
}


def busy(code: str, file: str) -> None:
    import pathlib

    pathlib.Path(file).touch()
    exec(code)


def triple(x: int) -> int:
    return 3 * x


def still_works(session: heald.Session) -> bool:
    return [session.submit(triple, x).result(10) for x in range(5)] == [0, 3, 6, 9, 12]


@heald.command
def tree(file: str) -> str:
    """A shell with children in its group, in a session of their own, and of a parent that has gone."""
    return f"sleep 991 & setsid sleep 992 & (sleep 993 &); touch {file}; sleep 994; sleep 995"


def sleepers(survivors: Survivors) -> list[psutil.Process]:
    return [one for one in survivors() if one.info["name"] in ("sleep", "sh")]


# -- walltime --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BUSY)
def test_walltime_stops_a_function(kind: str, session: heald.Session, survivors: Survivors, tmp_path: Path) -> None:
    limited = heald.task(walltime=0.5)(busy)
    late = limited.submit(BUSY[kind], str(tmp_path / "running"))
    others = [session.submit(triple, x) for x in range(10)]
    with pytest.raises(heald.WalltimeExceeded, match=r"busy#1: it was stopped after its walltime of 0\.5 s"):
        late.result(20)
    assert [one.result(10) for one in others] == [*range(0, 30, 3)]
    assert still_works(session)
    assert not sleepers(survivors)


def test_walltime_stops_a_command_and_all_below_it(
    session: heald.Session, survivors: Survivors, tmp_path: Path
) -> None:
    late = tree.options(walltime=0.5).submit(str(tmp_path / "running"))
    with pytest.raises(heald.WalltimeExceeded) as caught:
        late.result(20)
    assert "walltime" in caught.value.hint
    assert still_works(session)
    assert not sleepers(survivors)


def test_walltime_grows_at_the_next_attempt(session: heald.Session, tmp_path: Path) -> None:
    @heald.task(walltime=0.3, retries=heald.Retry(limit=1, grow=100))
    def slow_once(file: str) -> int:
        import os
        import time

        with open(file, "a") as stream:
            stream.write("x")
        time.sleep(1000 if os.path.getsize(file) == 1 else 0)
        return os.path.getsize(file)

    assert slow_once.submit(str(tmp_path / "tries")).result(20) == 2


def test_a_task_within_its_walltime_is_left_alone(session: heald.Session) -> None:
    quick = heald.task(walltime=1)(triple)
    assert quick.submit(1).result(10) == 3

    def later() -> str:
        import time

        time.sleep(1.2)  # over the walltime of the one before, on the same workers
        return "whole"

    assert [session.submit(later).result(10) for _ in range(2)] == ["whole"] * 2


# -- cancel ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BUSY)
def test_cancel_stops_a_running_function(
    kind: str, session: heald.Session, survivors: Survivors, tmp_path: Path, wait_until: Wait
) -> None:
    running = session.submit(busy, BUSY[kind], str(tmp_path / "running"))
    wait_until((tmp_path / "running").exists)
    assert running.cancel()
    assert running.cancelled()
    with pytest.raises(heald.TaskCancelled):
        running.result(0)
    # Both workers serve again: the one was freed or replaced.
    both = [session.submit(busy, "import time; time.sleep(0.2)", str(tmp_path / str(x))) for x in range(2)]
    assert [one.result(20) for one in both] == [None, None]
    assert still_works(session)
    wait_until(lambda: not sleepers(survivors))


def test_cancel_stops_a_command_and_all_below_it(
    session: heald.Session, survivors: Survivors, tmp_path: Path, wait_until: Wait
) -> None:
    running = tree.submit(str(tmp_path / "running"))
    wait_until(lambda: (tmp_path / "running").exists() and len(sleepers(survivors)) >= 5)
    assert running.cancel()
    wait_until(lambda: not sleepers(survivors))
    assert still_works(session)


def test_cancel_of_a_task_that_waits(session: heald.Session, tmp_path: Path, wait_until: Wait) -> None:
    running = [session.submit(busy, BUSY["sleep"], str(tmp_path / str(x))) for x in range(2)]
    waiting = [session.submit(busy, "", str(tmp_path / f"waiting {x}")) for x in range(5)]
    dependent = session.submit(triple, waiting[4])
    wait_until((tmp_path / "1").exists)
    assert all(one.cancel() for one in (*waiting, *running))
    with pytest.raises(heald.TaskCancelled, match="busy#7, which it needs, was cancelled"):
        dependent.result(10)
    assert still_works(session)
    assert not list(tmp_path.glob("waiting*"))


def test_cancel_of_what_is_over(session: heald.Session) -> None:
    over = session.submit(triple, 1)
    assert over.result(10) == 3
    assert not over.cancel()
    assert over.result(0) == 3


def test_a_cancelled_parent_takes_its_children_along(session: heald.Session, tmp_path: Path, wait_until: Wait) -> None:
    parent = session.submit(busy, BUSY["sleep"], str(tmp_path / "running"))
    child = session.submit(triple, parent)
    grandchild = session.submit(triple, [child])
    stranger = session.submit(triple, 1)
    wait_until((tmp_path / "running").exists)
    parent.cancel()
    for one in (child, grandchild):
        with pytest.raises(heald.TaskCancelled, match="busy#1, which it needs, was cancelled"):
            one.result(10)
        assert one.cancelled()
    assert stranger.result(10) == 3


def test_a_cancelled_join_takes_its_tasks_along(
    session: heald.Session, survivors: Survivors, tmp_path: Path, wait_until: Wait
) -> None:
    @heald.join
    def many() -> list[Any]:
        return [tree.submit(str(tmp_path / "running")), session.submit(triple, 1)]

    joined = many.submit()
    wait_until(lambda: (tmp_path / "running").exists() and len(sleepers(survivors)) >= 5)
    joined.cancel()
    wait_until(lambda: not sleepers(survivors))
    assert still_works(session)


def test_many_cancels_in_the_midst_of_short_tasks(session: heald.Session) -> None:
    """Reports of ends and orders to stop cross each other on the way: each future ends one way or the other."""
    futures = [session.submit(triple, x) for x in range(600)]
    cancelled = {x for x in range(0, 600, 3) if futures[x].cancel()}
    for x, future in enumerate(futures):
        if x in cancelled:
            assert future.cancelled()
        else:
            assert future.result(20) == 3 * x


# -- grace -----------------------------------------------------------------------------------------------------------

HANDLER = """
import pathlib, signal, sys, time
def tidy(number, frame):
    pathlib.Path(sys.argv[1], "tidied").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, tidy)
pathlib.Path(sys.argv[1], "running").touch()
time.sleep(1000)
"""


def test_a_command_has_time_to_tidy_up(session: heald.Session, tmp_path: Path, wait_until: Wait) -> None:
    @heald.command
    def program() -> list[str]:
        return [sys.executable, "-c", HANDLER, str(tmp_path)]

    running = program.submit()
    wait_until((tmp_path / "running").exists)
    running.cancel()
    wait_until((tmp_path / "tidied").exists)


def test_a_function_has_time_to_tidy_up(session: heald.Session, tmp_path: Path, wait_until: Wait) -> None:
    def careful(folder: str) -> None:
        import pathlib
        import time

        try:
            pathlib.Path(folder, "running").touch()
            time.sleep(1000)
        finally:
            pathlib.Path(folder, "tidied").touch()

    running = session.submit(careful, str(tmp_path))
    wait_until((tmp_path / "running").exists)
    running.cancel()
    wait_until((tmp_path / "tidied").exists)


@pytest.mark.parametrize("end", ["cancel", "walltime"])
def test_a_command_that_ignores_the_signal_is_killed(
    end: str, session: heald.Session, survivors: Survivors, tmp_path: Path, wait_until: Wait
) -> None:
    @heald.command
    def deaf() -> str:
        return f"trap '' TERM INT HUP; sleep 991 & touch {tmp_path}/running; while true; do sleep 992; done"

    running = deaf.options(walltime=0.5).submit() if end == "walltime" else deaf.submit()
    wait_until((tmp_path / "running").exists)
    if end == "cancel":
        running.cancel()
    wait_until(lambda: running.done() and not sleepers(survivors))
    assert isinstance(running.exception(0) if end == "walltime" else None, heald.WalltimeExceeded | None)
    assert still_works(session)


def test_grace_ends_when_the_command_does(tmp_path: Path, wait_until: Wait, survivors: Survivors) -> None:
    with heald.Session([heald.ProcessExecutor(workers=1, grace="1h")], memo=None) as session:
        running = tree.submit(str(tmp_path / "running"))
        wait_until((tmp_path / "running").exists)
        running.cancel()
        assert still_works(session)
        assert not sleepers(survivors)


def test_a_signal_from_elsewhere_is_no_cancel(session: heald.Session, tmp_path: Path, wait_until: Wait) -> None:
    """Only the driver stops attempts: SIGTERM or SIGINT sent to a worker by somebody else changes nothing."""

    def signalled(number: int) -> str:
        import os
        import time

        os.kill(os.getpid(), number)
        time.sleep(0.01)
        return "whole"

    for number in (signal.SIGTERM, signal.SIGINT):
        assert session.submit(signalled, int(number)).result(10) == "whole"
