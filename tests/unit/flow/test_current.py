"""The default session, which ends with the interpreter: each case is a script of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import heald
from heald.core.errors import UsageError
from heald.flow.current import current_session, sessions

HEAD = """
import heald, os, sys, threading, warnings
from pathlib import Path

@heald.task
def write(name):
    Path(name).write_text(str(os.getppid()))
    return name
"""


def script(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    file = folder / "script.py"
    file.write_text(HEAD + textwrap.dedent(body))
    return subprocess.run([sys.executable, file], cwd=folder, capture_output=True, text=True, timeout=60)


def test_there_is_none_before_the_first_task() -> None:
    assert sessions == []


def test_the_session_that_is_open_is_current() -> None:
    with heald.Session([heald.ThreadExecutor()], memo=None) as session:
        assert current_session() is heald.current_session() is session
    assert sessions == []


def test_first_task_opens_it(tmp_path: Path) -> None:
    run = script(tmp_path, 'print(write.submit("a").result(), heald.current_session() is heald.current_session())')
    assert run.stdout == "a True\n"
    assert run.stderr == ""


def test_end_of_the_script_waits_for_its_tasks(tmp_path: Path) -> None:
    run = script(tmp_path, 'futures = [write.submit(f"file {n}") for n in range(20)]')
    assert (run.returncode, run.stderr) == (0, "")
    assert len(list(tmp_path.glob("file *"))) == 20


def test_exception_at_the_end_of_the_script_cancels_its_tasks(tmp_path: Path) -> None:
    run = script(
        tmp_path,
        """
        @heald.task
        def hold():
            Path("held").touch()
            threading.Event().wait()

        def watch(future):
            Path("cancelled").write_text(str(future.cancelled()))

        future = hold.submit()
        future.add_done_callback(watch)
        raise KeyError("enough")
        """,
    )
    assert run.returncode == 1
    assert run.stderr.count("Traceback") == 1
    assert "KeyError: 'enough'" in run.stderr
    assert tmp_path.joinpath("cancelled").read_text() == "True"


def test_session_that_nobody_closed_is_closed_at_the_end(tmp_path: Path) -> None:
    run = script(
        tmp_path,
        """
        heald.Session([heald.ProcessExecutor(workers=1)], journal="run.heald").start()
        write.submit("a")
        """,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert tmp_path.joinpath("a").exists()
    assert not tmp_path.joinpath("run.heald", "owner").exists()


def test_interrupted_script_leaves_no_process(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    file = tmp_path / "script.py"
    file.write_text(
        HEAD
        + textwrap.dedent(
            """
            @heald.task
            def hold():
                Path("held.tmp").write_text(str(os.getpid()))
                os.rename("held.tmp", "held")
                threading.Event().wait()

            hold.submit().result()
            """
        )
    )
    with subprocess.Popen([sys.executable, file], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as run:
        wait_until(tmp_path.joinpath("held").exists)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert run.returncode == -signal.SIGINT
    assert not os.path.exists(f"/proc/{tmp_path.joinpath('held').read_text()}")


def test_a_task_cannot_submit_tasks(tmp_path: Path) -> None:
    @heald.task
    def inner() -> None: ...

    @heald.task
    def outer() -> None:
        inner.submit()

    with (
        heald.Session([heald.ProcessExecutor(workers=1)], memo=None),
        pytest.raises(UsageError, match="a task cannot submit tasks") as refused,
    ):
        outer.submit().result()
    assert "@heald.join" in refused.value.hint


def test_a_forked_child_has_a_default_session_of_its_own(tmp_path: Path) -> None:
    run = script(
        tmp_path,
        """
        write.submit("parent").result()
        mine = heald.current_session()
        warnings.simplefilter("ignore")  # from Python 3.12 on, it warns of any fork beside threads
        child = os.fork()
        if not child:
            try:
                assert write.submit("child").result() == "child"
                assert heald.current_session() is not mine
                heald.current_session().close()
            except BaseException as raised:
                print(repr(raised), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert write.submit("parent again").result()
        """,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert tmp_path.joinpath("child").read_text() != tmp_path.joinpath("parent").read_text()


def test_two_threads_open_one(tmp_path: Path) -> None:
    run = script(
        tmp_path,
        """
        found = []
        barrier = threading.Barrier(4)

        def look():
            barrier.wait()
            found.append(heald.current_session())

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(len(found), len(set(map(id, found))))
        """,
    )
    assert (run.stdout, run.stderr) == ("4 1\n", "")
