"""One attempt, in this process: where it runs, nothing is changed around it."""

from __future__ import annotations

import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import heald
from heald.core.event import Failure
from heald.core.ref import Ref
from heald.core.resources import Resources
from heald.core.retry import OUT_OF_MEMORY, RESULT, STAGING, USER
from heald.core.task import Payload, Work
from heald.data.arena import Arena
from heald.data.payload import Placeholder, pack, pack_call, unpack
from heald.run.attempt import Call, Stopped, packed, refs
from heald.run.command import Batch, CommandLine
from heald.run.function import importable
from heald.run.protocol import Order
from heald.run.surrounding import Surrounding
from heald.run.usage import Kills
from heald.testing.work import add, fail, make_generator


class Elsewhere:
    """Where a worker keeps files and logs, without taking over this process's streams."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = str(folder / "run")
        self.initializer = b""
        self.entered: list[int] = []
        self.cache = folder / "cache"
        self.kills = Kills()

    def enter(self, environment: Any, task: int) -> None:
        self.entered.append(task)
        if environment.directory:
            raise NotADirectoryError(environment.directory)

    def staging(self, task: int) -> Path:
        return self.folder / str(task)

    def outputs(self, task: int, attempt: int, line: int = 0) -> tuple[Path | None, Path | None]:
        return None, None

    def kept_value(self, ref: Ref) -> bytearray:
        return bytearray(b"kept" * (ref.size // 4))


@pytest.fixture
def arena() -> Arena:
    return Arena(capacity=1 << 24)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path)


@pytest.fixture
def run(arena: Arena, elsewhere: Elsewhere) -> Any:
    """Runs a call as an attempt: its value, or its Failure."""

    def call(function: Any, *args: Any, inputs: tuple[Payload, ...] = (), **options: Any) -> Any:
        importable(__name__)
        work = Work("simulate", options.pop("kind", "function"), b"f", **options)
        arguments, _ = pack_call(args, {}, arena, name="simulate")
        return once(Call(work, cloudpickle.dumps(function)), arguments, inputs)

    def once(made: Call, arguments: Payload, inputs: tuple[Payload, ...] = ()) -> Any:
        order = Order(7, 1, b"w", arguments, inputs)
        found = made.run(order, arena, elsewhere, lambda ref: None)  # type: ignore[arg-type]
        return found if isinstance(found, Failure) else unpack(found, arena)

    call.once = once  # type: ignore[attr-defined]
    return call


class TestFunctions:
    def test_gives_the_value(self, run: Any) -> None:
        assert run(add, 1, 2) == 3

    def test_inputs_fill_the_gaps(self, run: Any) -> None:
        value = pack(41, None, subject="one")[0]
        assert run(add, Placeholder(), 1, inputs=(value,)) == 42

    def test_large_values_of_earlier_runs_are_read(self, run: Any, arena: Arena) -> None:
        large = Payload(
            pickle.dumps(pickle.PickleBuffer(b""), 5, buffer_callback=lambda _: False), (Ref("object:1", 8),)
        )
        assert bytes(run(bytes, Placeholder(), inputs=(large,))) == b"keptkept"

    def test_the_function_is_loaded_once(self, run: Any) -> None:
        made = Call(Work("one", "function", b"f"), pickle.dumps(abs))
        arguments, _ = pack_call((-1,), {}, None, name="abs")
        assert run.once(made, arguments) == 1
        made.pickled = b"never read again"
        assert run.once(made, arguments) == 1

    def test_a_function_that_cannot_be_loaded(self, run: Any) -> None:
        found = run.once(Call(Work("one", "function", b"f"), b"no pickle"), Payload(b""))
        assert found.kind == USER
        assert found.message.startswith("the function cannot be loaded in a worker: ")

    def test_arguments_that_cannot_be_loaded(self, run: Any) -> None:
        found = run.once(Call(Work("one", "function", b"f"), pickle.dumps(abs)), Payload(b"no pickle"))
        assert found.kind == USER
        assert found.message.startswith("an argument cannot be loaded in a worker: ")

    @pytest.mark.parametrize(
        ("raised", "kind"),
        [(ValueError("v"), USER), (KeyboardInterrupt(), USER), (GeneratorExit(), USER), (MemoryError(), OUT_OF_MEMORY)],
    )
    def test_what_it_raises(self, run: Any, raised: BaseException, kind: str) -> None:
        found = run(fail, raised)
        assert found.kind == kind
        assert "in fail" in found.traceback
        assert "attempt.py" not in found.traceback

    @pytest.mark.parametrize(("code", "status"), [(3, 3), (None, 1), ("bye", 1)])
    def test_sys_exit(self, run: Any, code: Any, status: int) -> None:
        found = run(fail, SystemExit(code))
        assert found.message == f"it called sys.exit({code!r})"
        assert found.exit == status
        assert found.exception is None

    def test_a_stop_is_no_failure_of_its_own(self, run: Any) -> None:
        with pytest.raises(Stopped):
            run(fail, Stopped())

    def test_a_value_that_cannot_travel(self, run: Any) -> None:
        found = run(make_generator)
        assert found.kind == RESULT
        assert "the value that simulate returned cannot be pickled" in found.message

    def test_surroundings_are_made_only_when_asked_for(self, run: Any, elsewhere: Elsewhere) -> None:
        run(add, 1, 2)
        assert elsewhere.entered == []
        run(add, 1, 2, environment=heald.Environment(variables={"X": "1"}))
        assert elsewhere.entered == [7]

    def test_surroundings_that_cannot_be_made(self, run: Any) -> None:
        found = run(add, 1, 2, environment=heald.Environment(directory="/dev/null/x"))
        assert found.kind == USER
        assert "/dev/null/x" in found.message


class TestCommands:
    def test_a_batch(self, run: Any) -> None:
        lines = [
            CommandLine(["true"]),
            CommandLine("exit $A", check=False),
            CommandLine("exit $A", {"A": "3"}, check=False),
        ]
        found = run(lambda: Batch(lines, {"A": "2"}), kind="command")
        assert [one.returncode for one in found] == [0, 2, 3]

    def test_a_batch_ends_early(self, run: Any) -> None:
        good, bad = CommandLine("true"), CommandLine("no-such-command")
        assert len(run(lambda: Batch([good, bad, good]), kind="command")) == 1
        assert "no command 'no-such-command'" in run(lambda: Batch([bad, good]), kind="command").message
        assert len(run(lambda: Batch([good, good], within=-1.0), kind="command")) == 1

    def test_that_ends_well(self, run: Any) -> None:
        found = run(lambda: "true", kind="command")
        assert (found.returncode, found.stdout, found.text) == (0, None, "")
        assert found.seconds > 0

    def test_that_ends_badly(self, run: Any) -> None:
        found = run(lambda: ["sh", "-c", "exit 3"], kind="command")
        assert (found.code, found.exit) == ("command-failed", 3)

    def test_that_is_not_there(self, run: Any) -> None:
        found = run(lambda: "no-such-command", kind="command")
        assert found.message == "there is no command 'no-such-command'"

    def test_that_is_no_command(self, run: Any) -> None:
        assert "must return the command line, not int" in run(lambda: 3, kind="command").message


class TestFiles:
    def test_that_were_promised_and_not_written(self, run: Any, tmp_path: Path) -> None:
        def forget(outputs: Any = ()) -> None:
            pass

        importable(__name__)
        file = heald.File(str(tmp_path / "traj.dcd"))
        arguments, _ = pack_call((), {"outputs": [file]}, None, name="forget")
        found = run.once(Call(Work("forget", "function", b"f"), cloudpickle.dumps(forget)), arguments)
        assert (found.kind, found.code) == (USER, "output-missing")
        assert "traj.dcd" in found.message

    def test_that_were_written(self, run: Any, tmp_path: Path) -> None:
        def write(outputs: Any = ()) -> str:
            Path(outputs[0]).write_text("frame")
            return "done"

        file = heald.File(str(tmp_path / "traj.dcd"))
        arguments, _ = pack_call((), {"outputs": [file]}, None, name="write")
        assert run.once(Call(Work("write", "function", b"f"), cloudpickle.dumps(write)), arguments) == "done"
        assert (tmp_path / "traj.dcd").read_text() == "frame"

    def test_that_are_not_there(self, run: Any, tmp_path: Path) -> None:
        found = run(str, heald.File(str(tmp_path / "missing")))
        assert found.kind == STAGING
        assert "missing" in found.message


# Starts three ranks, for what stands behind it.
LAUNCHER = """
import os, subprocess, sys
search = os.pathsep.join([sys.argv[1], os.environ["PYTHONPATH"]])
around = [{**os.environ, "PYTHONPATH": search, "FAKE_RANK": str(rank), "FAKE_SIZE": "3"} for rank in range(3)]
sys.exit(max(one.wait() for one in [subprocess.Popen(sys.argv[2:], env=each) for each in around]))
"""


class TestOnRanks:
    @pytest.fixture(autouse=True)
    def launcher(self, tmp_path: Path, mpi4py: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "launcher.py").write_text(LAUNCHER)
        monkeypatch.setenv("HEALD_MPI_PREFIX", f"{sys.executable} {tmp_path}/launcher.py {mpi4py}")

    def test_the_values_of_all(self, run: Any, arena: Arena, elsewhere: Elsewhere) -> None:
        def scaled(array: Any, more: Any) -> Any:
            from mpi4py import MPI

            return array * MPI.COMM_WORLD.Get_rank() + len(more)

        call = Call(Work("scaled", "function", b"f", resources=Resources(ranks=3)), cloudpickle.dumps(scaled))
        arguments, _ = pack_call((np.ones(50_000), Placeholder()), {}, arena, name="scaled")
        inputs, _ = pack(["a", np.ones(20_000)], arena, subject="it")
        found = run.once(call, arguments, (inputs,))
        assert [float(part.mean()) for part in found] == [2.0, 3.0, 4.0]
        assert not list(Path(elsewhere.run, "ranks").iterdir())
        assert call.measured is not None
        assert call.function is None, "it was loaded in the worker"

    def test_files_are_brought_once_and_delivered(self, run: Any, tmp_path: Path) -> None:
        def copy(source: Any, outputs: Any = ()) -> str:
            from mpi4py import MPI

            if not MPI.COMM_WORLD.Get_rank():
                Path(outputs[0]).write_text(Path(source).read_text())
            return str(source)

        (tmp_path / "a.txt").write_text("hello")
        files = heald.File(str(tmp_path / "a.txt")), heald.File(str(tmp_path / "b.txt"))
        arguments, _ = pack_call(files[:1], {"outputs": [files[1]]}, None, name="copy")
        call = Call(Work("copy", "function", b"f", resources=Resources(ranks=3)), cloudpickle.dumps(copy))
        assert run.once(call, arguments) == [str(tmp_path / "a.txt")] * 3
        assert (tmp_path / "b.txt").read_text() == "hello"

    def test_one_that_raises(self, run: Any, elsewhere: Elsewhere) -> None:
        found = run(fail, ValueError("no good"), resources=Resources(ranks=3))
        assert found.message == "rank 0 of 3: ValueError: no good"
        assert not list(Path(elsewhere.run, "ranks").iterdir())

    def test_without_a_launcher(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEALD_MPI_PREFIX", "no-such-mpiexec -n 3")
        found = run(add, 1, 2, resources=Resources(ranks=3))
        assert found.message == "there is no command 'no-such-mpiexec'"


def test_a_command_of_singletons(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALD_MPI_PREFIX", "env")
    words = ["sh", "-c", "echo ... singletons will be started. >&2; echo done"]
    line = CommandLine(words, stdout=tmp_path / "out", stderr=tmp_path / "err")
    found = run(lambda: line, kind="command", resources=Resources(ranks=2))
    assert found.message.startswith("each of its 2 ranks believes that it is the only one")
    assert found.final
    assert (tmp_path / "out").read_text() == "done\n"


class TestPacked:
    def test_a_value(self) -> None:
        found = packed([1], None, Work("one", "function", b"f"))
        assert isinstance(found, Payload)
        assert unpack(found) == [1]

    def test_what_cannot_travel_is_a_failure(self) -> None:
        found = packed(threading.Lock(), None, Work("one", "function", b"f"))
        assert isinstance(found, Failure)
        assert found.kind == RESULT
        assert found.hint


def test_refs_are_those_of_arguments_and_of_inputs_within_inputs() -> None:
    one, two, three = (Ref(f"shm:{number}", 8) for number in range(3))
    inner = Payload(b"", (three,))
    order = Order(1, 1, b"w", Payload(b"", (one,)), (Payload(b"", (two,), (inner,)),))
    assert set(refs(order)) == {one, two, three}


def test_the_fake_has_what_a_surrounding_has() -> None:
    assert {name for name in vars(Elsewhere) if name[0] != "_"} | {"cache"} <= set(dir(Surrounding))
