"""The rules of the house (docs/design.md) that a program can check."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import heald
from heald.core import errors

SOURCE = Path(heald.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
ROOT_MODULES = {"__init__", "__main__"}

# A module imports from lower floors and from its own folder. `heald` itself, the public names, stands above what it
# names; on a floor with several folders, each stands alone.
FLOORS = (
    {"core"},
    {"site", "store", "wire"},
    {"data"},
    {"run"},
    {"flow"},
    {"report"},
    {"heald"},
    {"serve"},
    {"cli"},
    {"compat", "testing"},
)
FLOOR = {folder: number for number, folders in enumerate(FLOORS) for folder in folders}

# All that the core may import besides itself: nothing that reads a clock, a file, the environment or the network.
PURE = {
    "__future__", "_blake2", "abc", "bisect", "collections", "dataclasses", "datetime", "enum", "functools", "hashlib",
    "heapq", "itertools", "math", "msgspec", "operator", "re", "typing",
}  # fmt: skip
PURE_IN = {"core/errors.py": {"concurrent"}}  # TaskCancelled is a concurrent.futures.CancelledError

# What makes the start of a worker slow, or reaches where a worker has no business.
NOT_IN_A_WORKER = {"asyncio", "fastapi", "fsspec", "httpx", "numpy", "rich", "sqlalchemy", "typer"}
NOT_AT_IMPORT = {"asyncio", "cloudpickle", "msgspec", "rich", "typer"}

# Broad excepts that do not raise again: around user code, around a plug-in, at a loop's top. How many, and which.
BROAD: dict[str, tuple[int, str]] = {
    "cli/script.py": (1, "the user's script: what it raises is told as Python would"),
    "compat/parsl/error.py": (1, "wrap_error: whatever the user's function raises is its value"),
    "compat/parsl/kernel.py": (6, "users' resolvers, executors, memoizers and retry handlers; its thread's loop"),
    "compat/parsl/memo.py": (1, "unpickling a checkpoint runs users' classes; raised again as BadCheckpoint"),
    "compat/parsl/tool.py": (1, "the user's function in a timer's loop"),
    "data/digest.py": (1, "the user's own methods for pickling"),
    "data/payload.py": (4, "pickling runs users' methods, which may raise anything"),
    "data/transfer.py": (3, "fsspec's protocols are plug-ins; the thread of a transfer; tidying up after an error"),
    "flow/task.py": (1, "pickling the user's function"),
    "run/attempt.py": (3, "the user's function, and unpickling it and its arguments"),
    "run/cluster/allocator.py": (1, "the top of the scheduler's thread: adapters are plug-ins"),
    "run/cluster/warden.py": (1, "the top of a forked agent, which may not return into the loop of its parent"),
    "run/control.py": (1, "what another process asks for may not end the run: it is told of the fault"),
    "run/engine.py": (2, "the top of the engine's loop; pickling a user's value"),
    "run/future.py": (3, "the user's callback; unpickling the value"),
    "run/hook.py": (1, "the user's retry hook"),
    "run/memoiser.py": (3, "pickling users' values, twice; the top of the memo's loop"),
    "run/guest/lodging.py": (1, "the client library of somebody else's cluster, at the top of its thread"),
    "run/guest/ray.py": (1, "Ray's client, at the top of its process: the head is told"),
    "run/process.py": (1, "pickling the user's initializer"),
    "run/rank.py": (1, "the user's function"),
    "run/recorder.py": (1, "pickling the value of a task that ran in this process"),
    "run/runner.py": (4, "the user's function; pickling what it returned or raised; what importing heald there raises"),
    "run/thread.py": (1, "the user's function"),
    "run/outcome.py": (2, "pickling the user's exception"),
    "run/spawner.py": (1, "the top of a forked worker, which may not return into the loop of its parent"),
    "wire/porter.py": (1, "the top of its thread: the owner is told of the fault"),
}

VAGUE = ("util", "helper", "base", "common", "manager", "misc")
WITHOUT_TEST = ROOT_MODULES
NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip

module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))


@module
def test_imports_point_downwards(path: Path) -> None:
    name = path.relative_to(SOURCE)
    if len(name.parts) == 1 and name.stem in ROOT_MODULES:
        return
    folder = name.parts[0]
    wrong = [
        f"line {line}: {imported}"
        for line, imported in heald_imports(path)
        if (target := folder_of(imported)) != folder and FLOOR[target] >= FLOOR[folder]
    ]
    assert not wrong, f"{name} may not import from its own floor or above: {wrong}"


@module
def test_is_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 500, "delete, or find the second thing in it"
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [f"{node.name}: {length(node)} lines" for node in functions if length(node) >= 60]
    assert not long


def test_the_whole_is_small() -> None:
    lines = {path.relative_to(SOURCE).as_posix(): code_lines(path) for path in MODULES}
    one_machine = [
        count
        for name, count in lines.items()
        if name.startswith(("core/", "store/", "data/", "flow/")) or (name.startswith("run/") and name.count("/") == 1)
    ]
    assert sum(lines.values()) <= 27_000, "take something out first: docs/decisions/0015-size.md"
    assert sum(one_machine) <= 13_000


@module
def test_has_docstring_and_telling_name(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "a module says why it exists"
    assert not any(path.stem.rstrip("s").endswith(vague) for vague in VAGUE), "name it after what it holds"


@module
def test_has_test_file(path: Path) -> None:
    name = path.relative_to(SOURCE)
    expected = TESTS / name.parent / f"test_{name.stem}.py"
    assert name.stem in WITHOUT_TEST or expected.exists(), f"no {expected.relative_to(TESTS.parent)}"


@module
def test_broad_excepts_are_listed(path: Path) -> None:
    name = path.relative_to(SOURCE).as_posix()
    lines = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if is_broad(node)]
    count, _ = BROAD.get(name, (0, ""))
    assert len(lines) == count, f"lines {lines}: narrow them, or list them in BROAD with the reason"


def test_broad_list_names_modules() -> None:
    assert {SOURCE / name for name in BROAD} <= set(MODULES)


@pytest.mark.parametrize("path", sorted((SOURCE / "core").glob("*.py")), ids=lambda path: path.stem)
def test_core_is_pure(path: Path) -> None:
    allowed = PURE | PURE_IN.get(path.relative_to(SOURCE).as_posix(), set())
    impure = {name for _, name in imports(path) if name.partition(".")[0] not in allowed | {"heald"}}
    assert not impure


def test_worker_imports_little() -> None:
    if importlib.util.find_spec("heald.run.worker") is None:
        pytest.skip("there is no worker yet")
    assert not loaded_by("import heald.run.worker") & NOT_IN_A_WORKER


def test_root_imports_nothing() -> None:
    assert not loaded_by("import heald") & NOT_AT_IMPORT


def test_public_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(heald.__file__).read_text())
    imported = [
        (alias.name, node.module)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert dict(imported) == heald._HOMES
    assert vars(heald)["__all__"] == dir(heald) == sorted(heald._HOMES)


def test_every_error_is_public() -> None:
    tree = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert tree - {"CancelledError"} <= set(dir(heald))


@pytest.mark.parametrize("name", dir(heald))
def test_public_name_resolves_and_is_documented(name: str) -> None:
    assert getattr(heald, name).__doc__


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        heald.nothing  # type: ignore[attr-defined]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of each import in a file, wherever it stands: under TYPE_CHECKING and in functions too."""
    package = ("heald", *path.relative_to(SOURCE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*above, *filter(None, [node.module])))
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def heald_imports(path: Path) -> Iterator[tuple[int, str]]:
    return ((line, name) for line, name in imports(path) if name.partition(".")[0] == "heald")


def folder_of(imported: str) -> str:
    """The folder that an import reaches into: "heald" itself for `import heald` and `from heald import Session`."""
    _, _, rest = imported.partition(".")
    folder = rest.partition(".")[0]
    return folder if (SOURCE / folder).is_dir() and folder else "heald"


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring not counted."""
    assert node.end_lineno is not None
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        text = node.body[0]
        assert text.end_lineno is not None
        lines -= text.end_lineno - text.lineno + 1
    return lines


def code_lines(path: Path) -> int:
    """Lines of a file that are code: no docstrings, comments and empty lines."""
    text = path.read_text()
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            assert node.end_lineno is not None
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def is_broad(node: ast.AST) -> bool:
    """It catches everything and keeps it: a handler that ends by raising again only tidies up."""
    caught: list[ast.AST]
    if isinstance(node, ast.ExceptHandler):
        last = node.body[-1]
        if isinstance(last, ast.Raise) and last.exc is None:
            return False
        if node.type is None:
            return True
        caught = [node.type]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        caught = list(node.args)
    else:
        return False
    names = {name.id for part in caught for name in ast.walk(part) if isinstance(name, ast.Name)}
    return bool(names & {"Exception", "BaseException"})


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())
