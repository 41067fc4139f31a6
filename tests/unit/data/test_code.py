from __future__ import annotations

import functools
import importlib
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.data.code import Import, is_project, reach, read, sources
from heald.data.digest import code_digest, digest


class Folder:
    """A folder of modules, as a user's project is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, files: dict[str, str], name: str = "project") -> Any:
        """The module `name`, all imported anew after the files are written."""
        self.unload()
        for place, text in files.items():
            file = self.path / place
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            for stale in file.parent.glob("__pycache__/*"):
                stale.unlink()
        importlib.invalidate_caches()
        return importlib.import_module(name)

    def unload(self) -> None:
        mine = {file.stem for file in self.path.iterdir()}
        for name in [name for name in sys.modules if name.partition(".")[0] in mine]:
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.syspath_prepend(tmp_path)
    made = Folder(tmp_path)
    yield made
    made.unload()


def compiled(text: str, name: str = "f", **space: object) -> Any:
    """A function from its text, as a notebook's cell defines it."""
    exec(compile(text, f"<cell {id(text)}>", "exec"), space := {"__name__": "__main__", **space})
    return space[name]


BODY = """def f(x, y=2):
    total = x * y
    for n in range(3):
        total += n in {1, 2, 3}
    return total, 'text'
"""
SAME = {
    "lines": "\n\n\n" + BODY,
    "comments": BODY.replace("\n    for", "\n\n    # Sum up.\n    for").replace("{1, 2, 3}", "{1, 2, 3}  # few"),
    "docstring": BODY.replace("2):\n", "2):\n    '''Sums up.'''\n"),
    "annotations": BODY.replace("x, y=2)", "x: float, y: 'int' = 2) -> tuple"),
    "layout": BODY.replace("x * y", "(\n        x\n        * y\n    )"),
    "layout in a loop": BODY.replace("n in {", "(\n            n\n            in {").replace("3}\n", "3}\n        )\n"),
    "order of a set": BODY.replace("{1, 2, 3}", "{3, 1, 2}"),
}
OTHER = {
    "operator": BODY.replace("x * y", "x + y"),
    "constant": BODY.replace("range(3)", "range(4)"),
    "type of a constant": BODY.replace("range(3)", "range(3.0)"),
    "default": BODY.replace("y=2", "y=3"),
    "keyword only": BODY.replace("x, y=2", "x, *, y=2"),
    "keyword only default": BODY.replace("x, y=2", "x, *, y=4"),
    "name of a parameter": BODY.replace("x", "z"),
    "called name": BODY.replace("range", "list"),
    "generator": BODY.replace("return", "yield"),
    "text": BODY.replace("'text'", "'other'"),
    "set for a tuple": BODY.replace("{1, 2, 3}", "(1, 2, 3)"),
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_what_changes_nothing(text: str) -> None:
    assert code_digest(compiled(text)) == code_digest(compiled(BODY))


def test_what_changes_it() -> None:
    assert len({code_digest(compiled(text)) for text in [BODY, *OTHER.values()]}) == len(OTHER) + 1


INNER = """def f():
    def g():
        return 1
    class C:
        'Old.'
        x = 1
        def m(self): return 2
    return g, C
"""


def test_docstrings_of_inner_functions_and_classes() -> None:
    documented = INNER.replace("g():", "g():\n        'G.'").replace("'Old.'", "'New.'\n\n\n")
    assert code_digest(compiled(INNER)) == code_digest(compiled(documented))
    assert code_digest(compiled(INNER)) != code_digest(compiled(INNER.replace("x = 1", "x = 2")))
    assert code_digest(compiled(INNER)) != code_digest(compiled(INNER.replace("return 2", "return 3")))


def test_long_functions() -> None:
    lines = "\n".join(f"    x = x + {number}.5 + name{number}" for number in range(700))
    body = read(compiled(f"def f(x):\n{lines}\n    import math\n    return x").__code__)
    assert {f"name{number}" for number in range(700)} == body.reads
    assert body.imports == {Import(0, "math", ())}
    assert set(body.says[1]) >= {0.5, 699.5}


GUARDED = """def f(x, y):
    while x:
        try:
            z = [n * x for n in y if n]
            x, y = y, x
        except ValueError as error:
            raise KeyError(x, y) from error
        finally:
            print(x, y)
    return x
"""


def test_layout_around_handlers() -> None:
    laid_out = GUARDED.replace("y, x", "(\n y,\n x)").replace("(x, y)", "(\n x,\n y\n )")
    assert code_digest(compiled(GUARDED)) == code_digest(compiled(laid_out))
    changes = {"ValueError": "KeyError", "while x": "while y", "y, x": "y, y", "t(x, y)": "t(y)", "if n": "if x"}
    others = [GUARDED.replace(old, new) for old, new in changes.items()]
    assert len({code_digest(compiled(text)) for text in [GUARDED, *others]}) == len(changes) + 1


LAMBDAS = ["x + 1", "x + 2", "x", "g(x)", "x if x else 1", "[x for x in x]"]


@given(st.lists(st.sampled_from(LAMBDAS), min_size=2, max_size=3))
def test_lambdas_of_one_line(bodies: list[str]) -> None:
    made = compiled(f"fs = [{', '.join(f'lambda x: {body}' for body in bodies)}]", "fs")
    assert len({code_digest(function) for function in made}) == len(set(bodies))


def test_redefinition_in_a_notebook() -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("def f(x): return g(x)\ndef g(x): return h(x) + K\ndef h(x): return f(x) if x else K\nK = 1", space)
    seen = [code_digest(space["f"])]
    for cell in ("def g(x): return h(x) - K", "def h(x): return 0", "K = 2", "K = [2]", "K.append(3)", "K = print"):
        exec(cell, space)
        seen.append(code_digest(space["f"]))
    assert len(set(seen)) == len(seen)
    exec("def unrelated(): pass\nL = 2\ndef h(x): return 0  # again", space)
    assert code_digest(space["f"]) == seen[-1]


def test_an_attribute_is_no_global() -> None:
    text = "def f(x): return x.values"
    assert code_digest(compiled(text, values=1)) == code_digest(compiled(text, values=2))


def test_order_of_equal_functions_counts() -> None:
    text = "def make(n):\n    return lambda x: x * n\none, two = make(1), make(2)\ndef f(x): return one(x) - two(x)"
    swapped = text.replace("make(1), make(2)", "make(2), make(1)")
    assert code_digest(compiled(text)) == code_digest(compiled(text)) != code_digest(compiled(swapped))


def test_closures_partials_methods_and_wrappers() -> None:
    def power(n: int) -> Callable[[int], int]:
        return lambda x: x**n

    class Model:
        def __init__(self, rate: float) -> None:
            self.rate = rate

        def step(self, x: float) -> float:
            return x * self.rate

        def __call__(self, x: float) -> float:
            return self.step(x)

    class Wired(Model):
        def __init__(self, rate: float) -> None:
            super().__init__(rate)
            self.lock = threading.Lock()

    def traced(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def inside(*args: Any) -> Any:
            return function(*args)

        return inside

    functions = [
        *(power(2), power(3), functools.partial(pow, 2), functools.partial(pow, 3), Model(1).step, Model(2).step),
        *(Model(1), Model(2), Wired(1), traced(power(2)), traced(power(3)), traced(traced(power(2))), Model, Wired),
        *(functools.lru_cache(power(2)), functools.cache(power(3)), math.sqrt, len, np.linalg.norm, np.sum, np.add),
        *(msgspec.json.decode, functools.partial(power(2), 1), str.upper, "a".upper),
    ]
    assert len({code_digest(function) for function in functions}) == len(functions)
    assert code_digest(power(2)) == code_digest(power(2))
    assert code_digest(Wired(1)) == code_digest(Wired(2)), "its lock cannot be digested, so its type counts"
    before = code_digest(Wired(1))
    Wired.step = Model.__call__  # type: ignore[method-assign]
    assert code_digest(Wired(1)) != before
    used = functools.lru_cache(power(2))
    used(5)
    assert code_digest(used) == code_digest(functools.lru_cache(power(2)))


def test_a_task_is_its_function() -> None:
    class Wrapped:
        def __init__(self, function: Any) -> None:
            self.function = function

        def __heald_code__(self) -> Any:
            return self.function

    function = compiled(BODY)
    assert code_digest(Wrapped(function)) == code_digest(function)
    caller = "def g(x): return f(x)"
    assert code_digest(compiled(caller, "g", f=Wrapped(function))) == code_digest(compiled(caller, "g", f=function))
    assert code_digest(compiled(caller, "g", f=len)) != code_digest(compiled(caller, "g", f=function))


CLASS = """
from dataclasses import dataclass, field
import abc, enum, functools
class Base(abc.ABC):
    unit = 1
    def area(self): return self.side * scale
class Kind(enum.Enum):
    A = 1
    B = 2
    def other(self): return Kind.B if self is Kind.A else Kind.A
@dataclass
class Shape(Base):
    side: int = 1
    notes: list = field(default_factory=list)
    kind: Kind = Kind.A
    @property
    def double(self): return 2 * self.side
    @functools.cached_property
    def triple(self): return 3 * self.side
    @classmethod
    def make(cls): return cls(5)
    @staticmethod
    def name(): return "shape"
    def __len__(self):
        def inner(): return super(Shape, self).area()
        return inner()
scale = 1
def f(x): return Shape(x).area()
"""
EDITS = [
    ("unit = 1", "unit = 2"),
    ("self.side * scale", "self.side + scale"),
    ("scale = 1", "scale = 2"),
    ("A = 1", "A = 7"),
    ("Kind.B if self", "Kind.A if self"),
    ("side: int = 1", "side: int = 2"),
    ("default_factory=list", "default_factory=tuple"),
    ("kind: Kind = Kind.A", "kind: Kind = Kind.B"),
    ("2 * self.side", "4 * self.side"),
    ("3 * self.side", "4 * self.side"),
    ("cls(5)", "cls(6)"),
    ('"shape"', '"form"'),
    (".area()\n        return inner", ".unit\n        return inner"),
    ("class Shape(Base)", "class Shape"),
]


def test_classes_count_with_their_methods_and_bases(folder: Folder) -> None:
    def both(text: str) -> tuple[bytes, bytes]:
        module = folder.load({"project.py": text})
        return code_digest(module.f), digest(module.Shape(3))

    seen = [both(CLASS), *(both(CLASS.replace(*edit)) for edit in EDITS)]
    assert both(CLASS.replace("\n    def", "\n\n    # A method.\n    def")) == seen[0]
    functions, instances = zip(*seen, strict=True)
    assert len(set(functions)) == len(functions)
    assert len(set(instances)) == len(instances)


def test_project_modules_are_followed(folder: Folder) -> None:
    project, inner, deep = "project.py", "pack/inner.py", "pack/deep.py"
    files = {
        project: "import pack, numpy as np\nfrom pack import deep\n"
        "def f(x): return pack.inner.work(x) + deep.more(x) + np.sum(x)",
        "pack/__init__.py": "from pack import inner, deep",
        inner: "def work(x): return idle(x) + len(__file__)\ndef idle(x): return x\ndef unused(x): return x",
        deep: "LIMIT = 3\ndef more(x): return x if x < LIMIT else 0",
    }
    first = code_digest(folder.load(files).f)

    def edited(file: str, old: str, new: str) -> bytes:
        assert old in files[file]
        return code_digest(folder.load({**files, file: files[file].replace(old, new)}).f)

    assert edited(inner, "return idle(x)", "return -idle(x)") != first
    assert edited(inner, "def idle(x): return x", "def idle(x): return -x") != first
    assert edited(deep, "LIMIT = 3", "LIMIT = 4") != first
    assert edited(project, "np.sum", "np.prod") != first
    assert edited(inner, "def unused(x): return x", "def unused(x): return -x") == first
    assert edited(deep, "LIMIT = 3", "# At most.\nLIMIT = 3") == first


LIBRARY = """import functools
SEEN = {}
def job(x): return x
def wrap(function):
    cache = {}
    @functools.wraps(function)
    def inside(x):
        cache[x] = SEEN[x] = 1
        return function(x)
    return inside
"""
USER = """import shelf
from shelf import job, wrap
def f(x): return shelf.job(x) + job(x)
@wrap
def g(x): return x
"""


def test_library_functions_count_by_name(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder.path / "site-packages")
    shelf = "site-packages/shelf.py"
    module = folder.load({"project.py": USER, shelf: LIBRARY})
    assert not is_project("shelf")
    first, wrapped = code_digest(module.f), code_digest(module.g)
    module.g(1)
    assert code_digest(module.g) == wrapped, "the cache of a library's wrapper does not count"
    del sys.modules["shelf"]
    edited = LIBRARY.replace("job(x): return x", "job(x): return -x")
    module = folder.load({"project.py": USER.replace("g(x): return x", "g(x): return -x"), shelf: edited})
    del sys.modules["shelf"]
    assert module.f(1) == -2
    assert code_digest(module.f) == first
    assert code_digest(module.g) != wrapped


@pytest.mark.parametrize(
    ("statement", "late"),
    [
        ("import late", "late"),
        ("from late import g", "late"),
        ("import late as other, math", "late"),
        ("from . import late", "pack.late"),
        ("from .late import g", "pack.late"),
        ("import pack.late", "pack.late"),
    ],
)
def test_imports_inside_functions(folder: Folder, statement: str, late: str) -> None:
    file = f"{late.replace('.', '/')}.py"
    files = {"pack/__init__.py": "", "pack/project.py": f"def f():\n    {statement}\n    return 1", file: "g = 1"}
    first = code_digest(folder.load(files, "pack.project").f)
    importlib.import_module(late)
    function = sys.modules["pack.project"].f
    assert code_digest(function) == first, "imported by now or not"
    assert late in [module for module, _ in sources(function)]
    assert code_digest(folder.load({**files, file: "g = 2"}, "pack.project").f) != first


def test_imports_that_cannot_be_found() -> None:
    lines = ["def f():", "import nowhere", "from ... import above", "from nowhere import name", "import __main__"]
    function = compiled("\n    ".join(lines))
    assert list(sources(function)) == []
    assert len(code_digest(function)) == 16


def test_reach_names_paths() -> None:
    text = "def f(): return K, math.pi, missing, len, __file__, environ"
    function = compiled(text, K=1, math=math, __file__="here", environ=os.environ)
    assert list(reach(function)) == [("K", 1), ("math", math)]


@pytest.mark.parametrize(
    ("module", "project"),
    [("numpy.linalg", False), ("heald.core.task", False), ("os", False), ("builtins", False), (__name__, True)],
)
def test_is_project(module: str, project: bool) -> None:
    assert is_project(module) is project


def test_what_an_installed_program_runs_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel of a notebook is installed, the functions in its cells are not."""
    program = ModuleType("__main__")
    program.__file__ = str(tmp_path / "site-packages" / "kernel" / "__main__.py")
    monkeypatch.setitem(sys.modules, "__main__", program)
    assert is_project("__main__")
    assert code_digest(compiled(BODY)) != code_digest(compiled(OTHER["operator"]))


def test_many_functions_that_know_each_other_take_no_time() -> None:
    names = [f"f{number}" for number in range(150)]
    text = "\n".join(f"def {name}(x): return {' + '.join(f'{other}(x)' for other in names)}" for name in names)
    assert code_digest(compiled(text, "f0")) == code_digest(compiled(text, "f0")) != code_digest(compiled(text, "f1"))
