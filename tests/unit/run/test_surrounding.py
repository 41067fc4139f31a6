"""Each in a process of its own, whose streams, directory and variables it may change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from heald.core.environment import PLAIN, Environment
from heald.core.errors import StagingError
from heald.run.protocol import Setup
from heald.run.surrounding import Surrounding

Apart = Callable[..., Any]


def make(folder: Path) -> Surrounding:
    home = folder / "home"
    home.mkdir()
    os.chdir(home)
    made = Surrounding(Setup(str(home), str(folder / "logs"), str(folder)), "worker-1")
    made.settle()
    return made


@pytest.fixture
def after(apart: Apart, tmp_path: Path) -> Callable[..., Any]:
    """What `look` finds after a task did `act` in some environment."""

    def call(act: Callable[[], Any], look: Callable[[], Any], environment: Environment = PLAIN) -> Any:
        def run() -> Any:
            surrounding = make(tmp_path)
            surrounding.enter(environment, 7)
            act()
            surrounding.restore()
            surrounding.collect(7, 1)
            return look()

        return apart(run)

    return call


def nothing() -> None:
    pass


def test_what_a_process_is_told_that_was_started_before(apart: Apart, tmp_path: Path) -> None:
    def run() -> Any:
        surrounding = make(tmp_path)
        surrounding.hold((), {"CUDA_VISIBLE_DEVICES": "1"})
        surrounding.enter(Environment({"X": "1"}, "auto", stdout="out.txt"), 7)
        return surrounding.around()

    told = apart(run)
    place = str(tmp_path / "work" / "7")
    assert told["directory"] == place
    assert told["files"] == [f"{place}/out.txt", str(tmp_path / "logs" / "worker-1.err")]
    assert {"X": "1", "CUDA_VISIBLE_DEVICES": "1"}.items() <= told["variables"].items()
    assert "PATH" not in told["variables"], "it has not changed"
    assert set(told["cores"]) == os.sched_getaffinity(0)


def test_interpreters_outlast_attempts(apart: Apart, tmp_path: Path) -> None:
    def run() -> Any:
        surrounding = make(tmp_path)
        environment = Environment({"X": "1"}, setup=("export WEFT=wool",), python=sys.executable)
        surrounding.enter(environment, 7)
        entered = os.environ["WEFT"]
        interpreter = surrounding.software.interpreter(environment)
        child = subprocess.Popen(["sleep", "100"])
        surrounding.restore()
        return entered, os.environ.get("WEFT"), interpreter.alive, child.poll()

    entered, left, alive, child = apart(run)
    assert (entered, left, alive) == ("wool", None, True)
    assert child is not None


class TestRestore:
    def test_directory(self, after: Callable[..., Any], tmp_path: Path) -> None:
        assert after(lambda: os.chdir("/"), os.getcwd) == str(tmp_path / "home")

    def test_a_directory_that_is_gone(self, after: Callable[..., Any], tmp_path: Path) -> None:
        def lose() -> None:
            os.mkdir("gone")
            os.chdir("gone")
            os.rmdir(os.getcwd())

        assert after(lose, os.getcwd) == str(tmp_path / "home")

    def test_variables(self, after: Callable[..., Any]) -> None:
        def change() -> None:
            os.environ["NEW"] = "1"
            os.environ["HOME"] = "/nowhere"
            del os.environ["PATH"]

        def look() -> list[str | None]:
            seen_below = subprocess.run(["/usr/bin/env"], capture_output=True, text=True, check=True).stdout
            return [os.environ.get("NEW"), os.environ.get("HOME"), os.environ.get("PATH"), "NEW=" in seen_below]  # type: ignore[list-item]

        assert after(change, look) == [None, os.environ.get("HOME"), os.environ.get("PATH"), False]

    def test_umask_and_handlers_of_signals(self, after: Callable[..., Any]) -> None:
        def change() -> None:
            os.umask(0o777)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)

        def look() -> tuple[int, bool]:
            return os.umask(0o22), signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

        found, default = after(change, look)
        assert found != 0o777
        assert default

    def test_where_modules_are_found_and_how_deep_calls_go(self, after: Callable[..., Any]) -> None:
        found: list[tuple[list[str], int]] = []

        def change() -> None:
            found.append((sys.path[:], sys.getrecursionlimit()))
            sys.path = []
            sys.setrecursionlimit(60)

        assert after(change, lambda: found == [(sys.path, sys.getrecursionlimit())])

    def test_streams(self, after: Callable[..., Any], tmp_path: Path) -> None:
        def replace() -> None:
            import io

            sys.stdout = io.StringIO()
            print("lost")

        def look() -> None:
            print("seen", flush=True)

        after(replace, look)
        assert (tmp_path / "logs" / "worker-1.out").read_text() == "seen\n"

    @pytest.mark.parametrize("how", ["sys.stdout.close()", "os.close(1)", "os.closerange(0, 3)"])
    def test_streams_that_were_closed(self, after: Callable[..., Any], tmp_path: Path, how: str) -> None:
        def close() -> None:
            exec(how, {"os": os, "sys": sys})

        def look() -> None:
            print("seen", flush=True)
            os.system("echo below >&2")

        after(close, look)
        assert (tmp_path / "logs" / "worker-1.out").read_text() == "seen\n"
        assert (tmp_path / "logs" / "worker-1.err").read_text() == "below\n"

    def test_children_that_were_left_end(self, after: Callable[..., Any]) -> None:
        def leave() -> None:
            subprocess.Popen(["sh", "-c", "sleep 1000 & sleep 1000"])

        def look() -> str:
            return subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout

        found = after(leave, look)
        assert len(found.split()) <= 1  # pgrep itself

    def test_what_multiprocessing_keeps_stays(self, after: Callable[..., Any]) -> None:
        def use() -> None:
            from multiprocessing import resource_tracker

            resource_tracker.ensure_running()

        def look() -> bool:
            from multiprocessing import resource_tracker

            return resource_tracker._resource_tracker._check_alive()  # type: ignore[attr-defined, no-any-return]

        assert after(use, look) is True


class TestEnter:
    def test_variables_are_there_and_gone(self, after: Callable[..., Any], tmp_path: Path) -> None:
        def look() -> str | None:
            return os.environ.get("DECK")

        def tell() -> None:
            Path("deck").write_text(str(look()))

        assert after(tell, look, Environment({"DECK": "in.lj"})) is None
        assert (tmp_path / "home" / "deck").read_text() == "in.lj"

    @pytest.mark.parametrize(("asked", "found"), [("auto", "work/7"), ("{}/a/b", "a/b")])
    def test_directories_are_made(self, after: Callable[..., Any], tmp_path: Path, asked: str, found: str) -> None:
        after(lambda: Path("here").touch(), nothing, Environment(directory=asked.format(tmp_path)))
        assert (tmp_path / found / "here").exists()

    def test_files_for_output_are_appended_to(self, after: Callable[..., Any], tmp_path: Path) -> None:
        (tmp_path / "out").write_text("before\n")

        def speak() -> None:
            print("said", flush=True)
            os.system("echo below >&2")

        environment = Environment(stdout=str(tmp_path / "out"), stderr="logs/err", directory=str(tmp_path / "d"))
        after(speak, lambda: print("later", flush=True), environment)
        assert (tmp_path / "out").read_text() == "before\nsaid\n"
        assert (tmp_path / "d" / "logs" / "err").read_text() == "below\n"
        assert (tmp_path / "logs" / "worker-1.out").read_text() == "later\n"

    def test_a_directory_that_cannot_be_made(self, apart: Apart, tmp_path: Path) -> None:
        def run() -> str:
            surrounding = make(tmp_path)
            (tmp_path / "file").touch()
            try:
                surrounding.enter(Environment(directory=str(tmp_path / "file" / "x")), 7)
            except StagingError as raised:
                return str(raised)
            return ""

        told = apart(run)
        assert f"{tmp_path / 'file' / 'x'} cannot be made, or used: Not a directory" in told
        assert "directory=" in told


class TestHold:
    def test_cores_and_variables(self, apart: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def run() -> list[Any]:
            surrounding = make(tmp_path)
            all_cores = os.sched_getaffinity(0)
            one = min(all_cores)
            found: list[Any] = []
            for cpus, variables in (((one,), {"CUDA_VISIBLE_DEVICES": "1"}), ((), {"OMP_NUM_THREADS": "2"})):
                surrounding.hold(cpus, variables)
                os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "") + "!"
                surrounding.restore()
                found.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
                found.append(os.environ.get("OMP_NUM_THREADS"))
                found.append(os.sched_getaffinity(0) == (all_cores if not cpus else {one}))
            return found

        for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        assert apart(run) == ["1", None, True, None, "2", True]

    def test_threads_that_the_user_set_stay(
        self, apart: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run() -> list[str]:
            surrounding = make(tmp_path)
            surrounding.hold((), {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"})
            return [os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]]

        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
        assert apart(run) == ["7", "2"]


class TestOutput:
    def test_only_what_spoke_has_files(self, apart: Apart, tmp_path: Path) -> None:
        def run() -> list[Any]:
            surrounding = make(tmp_path)
            found = [surrounding.outputs(1, 1), surrounding.collect(1, 1)]
            print("first", flush=True)
            found.append(surrounding.outputs(2, 3))
            found.append(surrounding.collect(2, 3))
            print("second", flush=True)
            found.append(surrounding.collect(3, 1))
            return found

        logs = tmp_path / "logs" / "0"
        silent, none, expected, first, second = apart(run)
        assert silent == (None, None)
        assert none == ("", "")
        assert expected == (logs / "2.3.out", None)
        assert first == (str(logs / "2.3.out"), "")
        assert (logs / "2.3.out").read_text() == "first\n"
        assert Path(second[0]).read_text() == "second\n"

    def test_a_process_that_was_left_writes_to_the_right_file(self, apart: Apart, tmp_path: Path) -> None:
        def run() -> tuple[str, str]:
            surrounding = make(tmp_path)
            print("now", flush=True)
            with subprocess.Popen(["sh", "-c", "read line; echo $line"], stdin=subprocess.PIPE) as left:
                first = surrounding.collect(1, 1)
                assert left.stdin
                left.stdin.write(b"later\n")
            return first

        out, _ = apart(run)
        assert Path(out).read_text() == "now\nlater\n"

    def test_input_is_empty(self, apart: Apart, tmp_path: Path) -> None:
        def run() -> bytes:
            make(tmp_path)
            return os.read(0, 10)

        assert apart(run) == b""

    def test_places_for_files_are_of_the_task(self, apart: Apart, tmp_path: Path) -> None:
        def run() -> tuple[Path, Path]:
            surrounding = make(tmp_path)
            return surrounding.staging(7), surrounding.cache

        area, cache = apart(run)
        assert area == tmp_path / "files" / "7"
        assert cache == tmp_path / "files" / "cache"


def test_a_full_disk_is_told(apart: Apart, tmp_path: Path) -> None:
    def run() -> tuple[str, str]:
        surrounding = make(tmp_path)
        before = surrounding.full_disk()
        full = SimpleNamespace(f_bfree=0, f_bavail=0, f_frsize=4096, f_blocks=5000, f_files=0, f_favail=0)
        os.statvfs = lambda path: full  # type: ignore[assignment,return-value]
        return before, surrounding.full_disk()

    assert apart(run) == ("", f"the disk of {tmp_path / 'logs'} is full (0 B left)")
