"""The parts of the runner, in this process; `test_interpreter` starts it."""

from __future__ import annotations

import ast
import io
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from heald.data.file import File
from heald.run import runner


def test_it_is_for_python_3_8() -> None:
    ast.parse(Path(runner.__file__).read_text(), feature_version=(3, 8))


def test_it_needs_nothing_but_the_standard_library() -> None:
    code = f"import runpy, sys; runpy.run_path({runner.__file__!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True).stdout
    assert {name.partition(".")[0] for name in loaded.split()} <= set(sys.stdlib_module_names) | {"__main__"}


def test_messages_and_their_buffers() -> None:
    stream = io.BytesIO()
    runner.write(stream, {"x": 1}, [memoryview(b"abc"), memoryview(b"")])
    runner.write(stream, {"x": 2}, ())
    stream.seek(0)
    assert runner.read(stream) == ({"x": 1, "buffers": [3, 0]}, [bytearray(b"abc"), bytearray()])
    assert runner.read(stream) == ({"x": 2, "buffers": []}, [])
    assert runner.read(stream) is None


def test_files_are_paths_here(monkeypatch: pytest.MonkeyPatch) -> None:
    far = File("https://example.org/a.txt")
    monkeypatch.setattr(runner, "_paths", {far.url: "/run/files/a.txt"})
    assert runner._load(pickle.dumps([far]), (), ()) == [Path("/run/files/a.txt")]


def test_gaps_are_filled_at_any_depth() -> None:
    inner = runner._load, (pickle.dumps(("weft", 1)), (), ())

    class Gap:
        def __reduce__(self) -> tuple[Any, ...]:
            from heald.data.payload import fill

            return fill, (0, (0,))

    tree: Any = (pickle.dumps({"a": [Gap()]}), 0, [(pickle.dumps(("weft", 1)), 0, [])])
    assert runner._opened(tree, iter(())) == {"a": ["weft"]}
    assert inner[0](*inner[1]) == ("weft", 1)


def test_modules_of_tasks_find_a_heald(monkeypatch: pytest.MonkeyPatch) -> None:
    heald: Any = runner._Heald("heald")
    assert isinstance(heald, ModuleType)

    @heald.task  # type: ignore[untyped-decorator]
    def plain() -> int:
        return 1

    @heald.command(walltime="1h")  # type: ignore[untyped-decorator]
    def decorated() -> int:
        return 2

    assert (plain(), decorated()) == (1, 2)
    assert heald.File("x") is not heald.Session(executors=[heald.ProcessExecutor(2)])
    with pytest.raises(AttributeError):
        heald.__path__  # it is no package


def test_what_it_tells_of_exceptions() -> None:
    stopped = runner._failure(runner._Stopped())
    assert stopped["failure"]["kind"] == "cancelled"
    assert runner._failure(SystemExit("no"))["failure"]["exit"] == 1
    assert runner._failure(MemoryError())["failure"]["kind"] == "out-of-memory"
    told = runner._failure(ImportError("no module x"))
    assert sys.executable in told["failure"]["hint"]
    assert "ImportError: no module x" in pickle.loads(told["exception"]).__notes__[0]


def test_an_exception_that_cannot_travel_is_told_in_words() -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    told = runner._failure(Odd(1, 2))
    assert told["exception"] == b""
    assert told["failure"]["message"].endswith("Odd: 1 and 2")
