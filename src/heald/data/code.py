"""What the code of a function says and what it reaches: bytecode without lines, global names, imports.

Findings only: `digest` makes bytes of them. Nothing here runs or imports code of the user.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from enum import EnumType
from functools import cached_property, lru_cache
from importlib.util import find_spec, resolve_name
from opcode import hasconst, opmap
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

_EXTENDED, _IMPORT, _STORE = opmap["EXTENDED_ARG"], opmap["IMPORT_NAME"], opmap["STORE_NAME"]
_CACHE = opmap.get("CACHE", 0)
_CONSTANT = frozenset(hasconst)
_LOADS = _CONSTANT | {opmap[name] for name in ("LOAD_SMALL_INT",) if name in opmap}
_GLOBAL = opmap["LOAD_GLOBAL"]  # its lowest bit is no part of the name's number
_NAME = {opmap[name] for name in ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS") if name in opmap}
# Varying and keyword arguments, and the kinds of generators and coroutines; the rest is the compiler's own affair.
_FLAGS = 0x4 | 0x8 | 0x20 | 0x80 | 0x100 | 0x200
# What the body of a class inside a function notes about itself: texts and lines, which change nothing.
_INCIDENTAL = {"__doc__", "__firstlineno__", "__static_attributes__", "__qualname__"}


class Import(NamedTuple):
    """An import statement inside a function: dots before the name, the name, what is taken from it."""

    level: int
    name: str
    wanted: tuple[str, ...]


class Body(NamedTuple):
    """What a code object holds, functions inside it included.

    `says`: numbers, texts and constants, the same wherever and whenever the code was compiled. `reads`: names it
    looks up in its module. `names`: these and all attributes that it asks of anything.
    """

    says: tuple[Any, ...]
    reads: frozenset[str]
    names: frozenset[str]
    imports: frozenset[Import]


@lru_cache(maxsize=4096)  # code objects compare by content, and never change
def read(code: CodeType) -> Body:
    """The findings in a code object.

    Comments, line numbers, file names, annotations of parameters and docstrings leave no trace:

    >>> one = compile("def f(x):\\n    'Doubles.'\\n    return 2 * x", "here", "exec").co_consts[0]
    >>> two = compile("\\n\\ndef f(x): return 2 * x  # twice", "there", "exec").co_consts[0]
    >>> read(one) == read(two)
    True
    """
    steps: list[int] = []
    constants: list[Any] = []
    reads, names, imports = set(), {*code.co_names}, set()
    for step, argument in _steps(code.co_code):
        if step in _CONSTANT:
            # By content, not by its place in the table: a docstring takes a place there and is never loaded.
            constants.append(code.co_consts[argument])
            argument = 0
        elif step == _GLOBAL:
            reads.add(code.co_names[argument >> 1])
        elif step in _NAME:
            reads.add(code.co_names[argument])
        elif step == _IMPORT:
            level = constants[-2] if steps[-4] in _CONSTANT else steps[-3]
            imports.add(Import(level, code.co_names[argument], constants[-1] or ()))
        elif step == _STORE and code.co_names[argument] in _INCIDENTAL and steps[-2] in _LOADS:
            if steps[-2] in _CONSTANT:
                constants.pop()
            del steps[-2:]
        steps += step, argument
    for place, constant in enumerate(constants):
        if isinstance(constant, CodeType):
            inner = read(constant)
            constants[place] = inner.says
            reads |= inner.reads
            names |= inner.names
            imports |= inner.imports
    parameters = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _FLAGS
    tables = code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_exceptiontable
    says = (tuple(steps), tuple(constants), parameters, tables)
    return Body(says, frozenset(reads), frozenset(names), frozenset(imports))


def _steps(bytecode: bytes) -> Iterator[tuple[int, int]]:
    high = 0
    for step, low in zip(bytecode[::2], bytecode[1::2], strict=True):
        if step == _EXTENDED:
            high = (high | low) << 8
        elif step != _CACHE:
            yield step, high | low
            high = 0


def reach(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Paths and values of the globals that a function reads, through modules of the project as far as its names lead.

    Names that begin with two underscores (`__file__`) and `os.environ` are left out: they say where code is and who
    runs it, not what it does.
    """
    body, space = read(function.__code__), function.__globals__
    found = [(name, space[name]) for name in sorted(body.reads, reverse=True) if name in space]
    modules = set()
    while found:
        path, value = found.pop()
        if path.rpartition(".")[2].startswith("__") or value is os.environ:
            continue
        yield path, value
        if isinstance(value, ModuleType) and id(value) not in modules and is_project(value.__name__):
            modules.add(id(value))
            members = vars(value)
            found += [(f"{path}.{name}", members[name]) for name in sorted(body.names) if name in members]


def sources(function: FunctionType) -> Iterator[tuple[str, bytes]]:
    """Names and source texts of the project's modules that a function imports when it runs.

    The text and not the module counts, so that it makes no difference whether something has imported it by now.
    """
    package = function.__globals__.get("__package__") or ""
    for level, name, wanted in read(function.__code__).imports:
        try:
            module = resolve_name("." * level + name, package)
        except ImportError:  # as it will be when the function runs
            continue
        for candidate in (module, *(f"{module}.{item}" for item in wanted)):
            if (file := _source(candidate)) is not None:
                yield candidate, file.read_bytes()


def _source(module: str) -> Path | None:
    if not module or not is_project(module):
        return None
    top, *inner = module.split(".")
    spec = _spec(top)
    places = [Path(place, *inner) for place in (spec and spec.submodule_search_locations) or ()]
    files = [file for place in places for file in (place / "__init__.py", place.parent / f"{place.name}.py")]
    if not inner and spec and spec.origin:
        files.append(Path(spec.origin))
    return next((file for file in files if file.suffix == ".py" and file.is_file()), None)


def _spec(top: str) -> Any:
    try:
        return find_spec(top)  # of a top-level name: this imports nothing
    except (ImportError, ValueError):  # ValueError: a module made by hand has none
        return None


def members(kind: type) -> Iterator[tuple[str, object]]:
    """What the author of a class has put into it, by name, without the descriptors around it."""
    hidden = "_" if isinstance(kind, EnumType) else "__"  # an Enum keeps lists that grow as it is used
    for name, member in sorted(vars(kind).items()):
        if name.startswith(hidden) and (not isinstance(member, FunctionType) or "annotate" in name):
            continue
        if isinstance(member, property):
            yield name, (member.fget, member.fset, member.fdel)
        elif isinstance(member, classmethod | staticmethod):
            yield name, member.__func__
        else:
            yield name, member.func if isinstance(member, cached_property) else member


def is_project(module: str) -> bool:
    """Whether a module is the user's own: neither of the standard library, nor installed, nor heald.

    >>> is_project("__main__"), is_project("os.path"), is_project("msgspec")
    (True, False, False)
    """
    return _is_project(module.partition(".")[0])


@lru_cache(maxsize=4096)
def _is_project(top: str) -> bool:
    if top in sys.stdlib_module_names or top in {"heald", ""}:
        return False
    module = sys.modules.get(top)
    spec = getattr(module, "__spec__", None) if module else _spec(top)
    places = [getattr(module, "__file__", None), getattr(spec, "origin", None)]
    places += getattr(spec, "submodule_search_locations", None) or ()
    return not any({"site-packages", "dist-packages"} & {*Path(place).parts} for place in places if place)
