"""Tasks that change what is around them: the next task on the same worker finds everything as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import heald

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.live

Wait = Callable[..., None]
Survivors = Callable[[], list[psutil.Process]]


@pytest.fixture
def session(survivors: Survivors) -> Iterator[heald.Session]:
    """One worker, so that the next task is on the same."""
    session = heald.Session([heald.ProcessExecutor(workers=1, gpus=["7"], grace=1)], memo=None).start()
    yield session
    session.close(cancel=True)


def look() -> dict[str, Any]:
    """What a task finds around it."""
    import os
    import signal
    import sys

    found: dict[str, Any] = {
        "pid": os.getpid(),
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "path": sys.path[:],
        "argv": sys.argv[:],
        "recursion": sys.getrecursionlimit(),
        "umask": os.umask(0),
        "handlers": {number.name: repr(signal.getsignal(number)) for number in signal.Signals},
        "alarm": signal.getitimer(signal.ITIMER_REAL),
        "streams": [sys.stdout is sys.__stdout__, sys.stdout.closed, sys.stdout.fileno(), sys.stderr.fileno()],
        "open": [os.path.exists(f"/proc/self/fd/{number}") for number in range(3)],
    }
    os.umask(found["umask"])
    return found


CHANGES = {
    "directory": "os.mkdir('elsewhere'); os.chdir('elsewhere')",
    "directory gone": "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
    "variable set": "os.environ['HEALD_TEST_NEW'] = 'x'; os.environ['PATH'] = '/nowhere'",
    "variables gone": "os.environ.clear()",
    "stdout replaced": "import io; sys.stdout = sys.stderr = io.StringIO(); print('lost')",
    "stdout none": "sys.stdout = sys.stderr = None",
    "stdout closed": "print('said'); sys.stdout.close(); sys.stderr.close()",
    "input closed": "os.close(0)",
    "descriptors closed": "os.close(0); os.close(1); os.close(2)",
    "descriptor reused": "os.close(1); sys.keep = open('mine', 'wb', 0); sys.keep.write(b'x')",
    "sys.path": "sys.path.clear()",
    "sys.argv": "sys.argv = ['other', '--quick']",
    "recursion limit": "sys.setrecursionlimit(60)",
    "umask": "os.umask(0o777)",
    "handlers": "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]",
    "alarm": "signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.2)",
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_next_task_finds_everything_as_it_was(
    change: str, session: heald.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alter(code: str) -> None:
        import os
        import signal
        import sys

        exec(code, {"os": os, "sys": sys, "signal": signal})

    def say() -> str:
        print("heard")
        return "said"

    monkeypatch.chdir(tmp_path)  # the worker's directory is that of the session's start
    session.close()
    session.start()
    before = session.submit(look).result(10)
    session.submit(alter, CHANGES[change]).result(10)
    assert session.submit(look).result(10) == before
    said = session.submit(say)
    assert said.result(10) == "said"
    assert said.stdout is not None
    assert said.stdout.read_text() == "heard\n"


def test_a_signal_is_heard_after_a_task_ignored_it(session: heald.Session, tmp_path: Path, wait_until: Wait) -> None:
    def ignore() -> None:
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def careful(folder: str) -> None:
        import pathlib
        import time

        try:
            pathlib.Path(folder, "running").touch()
            time.sleep(1000)
        finally:
            pathlib.Path(folder, "tidied").touch()

    session.submit(ignore).result(10)
    running = session.submit(careful, str(tmp_path))
    wait_until((tmp_path / "running").exists)
    running.cancel()
    wait_until((tmp_path / "tidied").exists)


# -- what a task asked for -------------------------------------------------------------------------------------------


def test_what_a_task_asked_for_is_gone_after_it(session: heald.Session) -> None:
    def seen() -> dict[str, str]:
        import os

        return {
            key: value for key, value in os.environ.items() if "DEVICES" in key or "THREADS" in key or "MINE" in key
        }

    plain = heald.task(seen)
    before = plain.submit().result(10)
    greedy = plain.options(gpus=1, variables={"MINE": "1"}).submit().result(10)
    assert greedy["CUDA_VISIBLE_DEVICES"] == "7"
    assert greedy["MINE"] == "1"
    assert not {"CUDA_VISIBLE_DEVICES", "MINE"} & before.keys()
    assert plain.submit().result(10) == before


def test_directory_and_streams_of_a_task_are_gone_after_it(session: heald.Session, tmp_path: Path) -> None:
    def speak() -> str:
        import os

        print("one")
        os.write(1, b"two\n")
        return os.getcwd()

    plain = heald.task(speak)
    before = plain.submit().result(10)
    there = plain.options(directory=tmp_path / "a b", stdout=tmp_path / "out", stderr="err").submit()
    assert there.result(10) == str(tmp_path / "a b")
    again = plain.submit()
    assert again.result(10) == before
    assert (tmp_path / "out").read_text() == "one\ntwo\n"
    assert again.stdout is not None
    assert again.stdout.read_text() == "one\ntwo\n"
    assert (tmp_path / "a b" / "err").read_text() == ""


def test_each_task_can_have_a_directory_of_its_own(session: heald.Session) -> None:
    def own() -> tuple[str, list[str]]:
        import os

        before = os.listdir()
        open("same name", "w").close()
        return os.getcwd(), before

    apart = [heald.task(directory="auto")(own).submit() for _ in range(3)]
    results = [one.result(10) for one in apart]
    assert len({directory for directory, _ in results}) == 3
    assert all(found == [] for _, found in results)


# -- children --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["child", "daemon"])
def test_children_that_a_task_left_are_ended(
    form: str, session: heald.Session, survivors: Survivors, wait_until: Wait
) -> None:
    def leave(form: str) -> int:
        import os
        import subprocess
        import time

        if form == "child":
            return subprocess.Popen(["sleep", "1000"]).pid
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(0, 100)
                time.sleep(1000)
            os._exit(0)
        return os.wait()[0]

    before = session.submit(look).result(10)["pid"]
    session.submit(leave, form).result(10)
    assert session.submit(look).result(10)["pid"] == before
    wait_until(lambda: len(survivors()) == 2)  # the spawner and the worker


def test_a_fork_that_comes_back_is_no_second_result(
    session: heald.Session, survivors: Survivors, wait_until: Wait
) -> None:
    def split(size: int) -> tuple[Any, Any]:
        import os

        import numpy as np

        child = os.fork()

        class Late:
            def __reduce__(self) -> tuple[Any, ...]:
                if child:
                    os.waitpid(child, 0)  # which has returned its own array, after this one was written
                return str, ("parent" if child else "child",)

        return np.full(size, not child, dtype=np.int8), Late()

    for size in (10, 10_000_000):
        results = [session.submit(split, size) for _ in range(3)]
        for one in results:
            array, who = one.result(10)
            assert who == "parent"
            assert not array.any(), "the child wrote over the parent's value"
    assert session.submit(len, "abc").result(10) == 3
    wait_until(lambda: len(survivors()) == 2)


def test_a_fork_that_raises_is_no_second_failure(session: heald.Session) -> None:
    def split() -> str:
        import os

        if os.fork() == 0:
            raise ValueError("in the child")
        os.wait()
        return "parent"

    assert [session.submit(split).result(10) for _ in range(3)] == ["parent"] * 3


def test_multiprocessing_inside_a_task(session: heald.Session) -> None:
    def pool() -> list[int]:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as workers:
            return workers.map(abs, [-1, -2, -3])

    assert [session.submit(pool).result(20) for _ in range(5)] == [[1, 2, 3]] * 5


def test_a_child_that_a_task_forked_can_be_terminated(session: heald.Session) -> None:
    def end() -> int:
        import multiprocessing
        import time

        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
        child.start()
        child.terminate()
        child.join()
        return child.exitcode or 0

    assert session.submit(end).result(20) == -15


# -- output ----------------------------------------------------------------------------------------------------------


def test_all_that_is_printed_is_captured(session: heald.Session) -> None:
    def speak() -> None:
        import ctypes
        import os
        import subprocess
        import sys

        print("python")
        sys.stderr.write("python error\n")
        sys.stdout.flush()
        os.write(1, b"descriptor\n")
        libc = ctypes.CDLL(None)
        libc.puts(b"compiled")
        libc.fflush(None)
        subprocess.run("echo child; echo child error >&2", shell=True, check=True)

    spoken = session.submit(speak)
    spoken.result(10)
    assert spoken.stdout is not None
    assert spoken.stderr is not None
    assert spoken.stdout.read_text() == "python\ndescriptor\ncompiled\nchild\n"
    assert spoken.stderr.read_text() == "python error\nchild error\n"


def test_output_of_one_task_is_not_in_that_of_another(session: heald.Session) -> None:
    def speak(x: int) -> None:
        if x % 2:
            print("task", x)

    spoken = [session.submit(speak, x) for x in range(20)]
    for x, one in enumerate(spoken):
        one.result(10)
        assert (one.stdout.read_text() if one.stdout else None) == (f"task {x}\n" if x % 2 else None)


def test_an_error_shows_what_was_printed(session: heald.Session) -> None:
    def fail() -> None:
        import sys

        for number in range(1000):
            print("line", number)
        print("warning: it will fail", file=sys.stderr)
        raise ValueError("as announced")

    with pytest.raises(ValueError, match="as announced") as caught:
        session.submit(fail).result(10)
    notes = "\n".join(caught.value.__notes__)
    assert "in task fail#1" in notes
    assert "line 999" in notes
    assert "line 500" not in notes
    assert "warning: it will fail" in notes
    assert ".out" in notes


def test_output_of_each_attempt_is_kept(session: heald.Session, tmp_path: Path) -> None:
    @heald.task(retries=2)
    def third_time(file: str) -> None:
        import os

        with open(file, "a") as stream:
            stream.write("x")
        tried = os.path.getsize(file)
        print("attempt", tried)
        if tried < 3:
            raise ValueError

    future = third_time.submit(str(tmp_path / "tries"))
    future.result(10)
    assert future.stdout is not None
    assert future.stdout.read_text() == "attempt 3\n"
    assert [file.read_text() for file in sorted(future.stdout.parent.glob("1.*.out"))] == [
        f"attempt {x}\n" for x in (1, 2, 3)
    ]


@pytest.mark.parametrize("kind", ["function", "command"])
def test_output_can_be_read_while_the_task_runs(
    kind: str, session: heald.Session, tmp_path: Path, wait_until: Wait
) -> None:
    def speak(gate: str) -> None:
        import os
        import time

        print("under way")
        while not os.path.exists(gate):
            time.sleep(0.01)
        print("over")

    @heald.command
    def program(gate: str) -> str:
        return f"echo under way; while ! test -e {gate}; do sleep 0.01; done; echo over"

    gate = tmp_path / "gate"
    running = session.submit(speak, str(gate)) if kind == "function" else program.submit(str(gate))
    wait_until(lambda: running.stdout is not None and running.stdout.read_text() == "under way\n")
    assert running.stdout is not None
    with running.stdout.open() as followed:
        gate.touch()
        running.result(10)
        assert followed.read() == "under way\nover\n", "a reader that follows the file misses nothing"
    assert running.stdout.read_text() == "under way\nover\n"


def test_a_flood_of_output_goes_to_the_disk_only(session: heald.Session) -> None:
    size, chunk = 200_000_000, 1_000_000

    def flood(fail: bool) -> None:
        import os
        import resource

        line = b"x" * 99 + b"\n"
        for _ in range(200):
            os.write(1, line * 10_000)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 400_000
        if fail:
            raise ValueError("after the flood")

    flooded = session.submit(flood, True)
    before = psutil.Process().memory_info().rss
    with pytest.raises(ValueError, match="after the flood") as caught:
        flooded.result(60)
    assert sum(map(len, caught.value.__notes__)) < 10_000
    assert psutil.Process().memory_info().rss - before < 50 * chunk
    assert flooded.stdout is not None
    assert flooded.stdout.stat().st_size == size
    flooded.stdout.unlink()


def test_output_that_is_no_text(session: heald.Session) -> None:
    def noise() -> None:
        import os

        os.write(1, bytes(range(256)))
        print("\ud800 \u2713")
        raise ValueError("noise")

    noisy = session.submit(noise)
    with pytest.raises(ValueError, match="noise") as caught:
        noisy.result(10)
    assert "✓" in "".join(caught.value.__notes__)


def test_nothing_is_read_from_a_terminal(session: heald.Session) -> None:
    def read() -> str:
        import sys

        return sys.stdin.read()

    def ask() -> str:
        return input("name? ")

    assert session.submit(read).result(10) == ""
    with pytest.raises(EOFError):
        session.submit(ask).result(10)


def test_a_full_disk_is_an_error_of_the_task_that_filled_it(session: heald.Session) -> None:
    def fill() -> None:
        with open("/dev/full", "w") as stream:
            stream.write("x" * 100_000)

    def limited() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        try:
            for _ in range(30_000):
                print("x" * 99)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    with pytest.raises(OSError, match="No space left on device"):
        session.submit(fill).result(10)
    with pytest.raises(OSError, match="File too large"):
        session.submit(limited).result(10)
    before = session.submit(look).result(10)
    assert before["open"] == [True] * 3
    with pytest.raises(OSError, match="No space left on device"):
        session.submit(fill).result(10)
    assert session.submit(look).result(10) == before


def test_a_command_in_a_directory_that_is_not_there(session: heald.Session, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    @heald.command(directory=tmp_path / "file" / "below")
    def nowhere() -> list[str]:
        return [sys.executable, "--version"]

    with pytest.raises(heald.StagingError, match="below cannot be made, or used"):
        nowhere.submit().result(10)
    assert session.submit(len, "abc").result(10) == 3
