"""One rank as its own process, beside an MPI that does nothing."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec
import pytest

import heald
from heald.core.event import Failure
from heald.core.retry import REFUSED, RESULT, USER
from heald.data import parcel
from heald.data.file import staged
from heald.run.function import importable
from heald.run.gang import Told, crash_file, failure_file, value_file

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path, mpi4py: Path) -> Run:
    """Runs rank 1 of 2 on a call."""
    importable(__name__)

    def start(
        function: Any, *args: Any, size: int = 2, initializer: Any = None, paths: Any = None, path: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        first = cloudpickle.dumps(initializer) if initializer else b""
        told = Told("simulate", 2, cloudpickle.dumps(function), paths or {}, first, path, (b"study.py", b"\xff"))
        (tmp_path / "told").write_bytes(msgspec.msgpack.encode(told))
        parcel.write(tmp_path / "arguments", (args, {}), subject="the arguments")
        search = os.pathsep.join([str(mpi4py), *sys.path])
        environment = {**os.environ, "PYTHONPATH": search, "FAKE_RANK": "1", "FAKE_SIZE": str(size)}
        words = [sys.executable, "-P", "-m", "heald.run.rank", str(tmp_path)]
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=30)

    return start


def failure(folder: Path, rank: int | None = 1) -> Failure:
    return msgspec.msgpack.decode(failure_file(folder, rank).read_bytes(), type=Failure)


def test_its_value_is_left(run: Run, tmp_path: Path) -> None:
    def simulate(x: int) -> tuple[int, int]:
        from mpi4py import MPI

        print("hello")
        return MPI.COMM_WORLD.Get_rank(), x * x

    done = run(simulate, 3)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    assert parcel.read(value_file(tmp_path, 1)) == (1, 9)
    assert not failure_file(tmp_path, 1).exists()


@pytest.mark.parametrize("path", [None, "/mine"])
def test_the_variables_of_the_user_are_as_they_were(run: Run, tmp_path: Path, path: str | None) -> None:
    run(os.getenv, "PYTHONPATH", path=path)
    assert parcel.read(value_file(tmp_path, 1)) == path


def test_it_finds_what_the_program_was_called_with(run: Run, tmp_path: Path) -> None:
    run(lambda: sys.argv)
    assert parcel.read(value_file(tmp_path, 1)) == ["study.py", os.fsdecode(b"\xff")]


def test_what_it_raises_is_told_and_ends_the_others(run: Run, tmp_path: Path) -> None:
    def divide(x: int) -> float:
        print("dividing")
        return 1 / x

    done = run(divide, 0)
    assert (done.returncode, done.stdout) == (41, "dividing\n")
    found = failure(tmp_path)
    assert (found.kind, found.message) == (USER, "rank 1 of 2: ZeroDivisionError: division by zero")
    assert found.exception is not None
    assert isinstance(pickle.loads(found.exception.data), ZeroDivisionError)
    frames = [line.split(", in ")[1] for line in found.traceback.splitlines() if ", in " in line]
    assert frames == ["divide"]


def test_sys_exit(run: Run, tmp_path: Path) -> None:
    assert run(sys.exit, 3).returncode == 41
    assert failure(tmp_path).message == "rank 1 of 2: it called sys.exit(3)"


def test_a_value_that_cannot_travel(run: Run, tmp_path: Path) -> None:
    run(lambda: (one for one in ()))
    found = failure(tmp_path)
    assert found.kind == RESULT
    assert found.message.startswith(
        "rank 1 of 2: the value that simulate returned cannot be pickled: it is a generator"
    )


def test_a_crash_leaves_the_last_words_of_the_interpreter(run: Run, tmp_path: Path) -> None:
    assert run(ctypes.string_at, 0).returncode == -11
    said = crash_file(tmp_path, 1).read_text()
    assert said.startswith("Fatal Python error: Segmentation fault")
    assert "string_at" in said


def test_the_initializer_is_called_first(run: Run, tmp_path: Path) -> None:
    run(os.getenv, "SET", initializer=lambda: os.environ.update(SET="before"))
    assert parcel.read(value_file(tmp_path, 1)) == "before"


def test_files_are_where_the_worker_brought_them(run: Run, tmp_path: Path) -> None:
    here, far = tmp_path / "a.txt", heald.File("https://example.org/a.txt")
    here.write_text("brought")
    staged(far, here)
    run(lambda file: Path(file).read_text(), far, paths={far.url: str(here)})
    assert parcel.read(value_file(tmp_path, 1)) == "brought"


def test_a_rank_that_is_alone(run: Run, tmp_path: Path) -> None:
    assert run(len, [], size=1).returncode == 1
    found = failure(tmp_path, None)
    assert (found.kind, found.final) == (REFUSED, True)
    assert found.message.startswith(
        "each of its 2 ranks believes that it is the only one: the MPI of the program (Fake MPI 1.0)"
    )


def test_without_mpi4py(run: Run, tmp_path: Path, mpi4py: Path) -> None:
    (mpi4py / "mpi4py" / "MPI.py").write_text("raise RuntimeError('cannot load MPI library')")
    assert run(len, []).returncode == 1
    found = failure(tmp_path, None)
    assert (found.kind, found.final) == (REFUSED, True)
    assert found.message == f"{sys.executable} has no mpi4py that works: cannot load MPI library"
    assert "pip install mpi4py" in found.hint
