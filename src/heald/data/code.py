"""What the code of a function says and what it reaches: bytecode without lines, global names, imports.

Findings only: `digest` makes bytes of them. Nothing here runs or imports code of the user.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from enum import EnumType
from functools import cached_property, lru_cache
from importlib.util import find_spec, resolve_name
from opcode import hasconst, hasjrel, opmap
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

_EXTENDED, _IMPORT, _STORE = opmap["EXTENDED_ARG"], opmap["IMPORT_NAME"], opmap["STORE_NAME"]
_CACHE = opmap.get("CACHE", 0)
_EMPTY = {_CACHE, _EXTENDED, opmap["NOP"]}
# By the number of a step that is two in one: these two. By the number of one that jumps: forwards or backwards.
_JOINED = {
    opmap[one]: (opmap[found[1]], opmap[found[2]])
    for one in opmap
    if (found := re.fullmatch(r"((?:LOAD|STORE)_FAST(?:_BORROW)?)_((?:LOAD|STORE)_FAST(?:_BORROW)?)", one))
}
_JUMPS = {opmap[one]: -1 if "BACKWARD" in one else 1 for one in opmap if opmap[one] in hasjrel}
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
    operations, guarded = _steps(code)
    for step, argument in operations:
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
    tables = code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, guarded
    says = (tuple(steps), tuple(constants), parameters, tables)
    return Body(says, frozenset(reads), frozenset(names), frozenset(imports))


def _steps(code: CodeType) -> tuple[list[tuple[int, int]], tuple[Any, ...]]:
    """The steps of a code object with their arguments, and which of them which handler of exceptions guards.

    The same however its lines are laid out: Python from 3.13 on joins two steps that stand on one line, and leaves
    empty ones for some lines; so both are undone, and jumps count steps.
    """
    bytecode, high = code.co_code, 0
    steps: list[tuple[int, int]] = []
    places: dict[int, int] = {}  # by offset in bytes: which step begins there, or is the next to begin
    jumps: list[tuple[int, int]] = []  # places, and offsets that they lead to
    for offset in range(0, len(bytecode), 2):
        step, argument = bytecode[offset], high | bytecode[offset + 1]
        places[offset] = len(steps)
        high = argument << 8 if step == _EXTENDED else 0
        if step in _JOINED:
            first, second = _JOINED[step]
            steps += (first, argument >> 4), (second, argument & 15)
        elif step not in _EMPTY:
            if step in _JUMPS:
                jumps.append((len(steps), _after(bytecode, offset) + 2 * argument * _JUMPS[step]))
            steps.append((step, argument))
    places[len(bytecode)] = len(steps)
    for place, offset in jumps:
        steps[place] = steps[place][0], places[offset] - place
    return steps, _guarded(code, places)


def _after(bytecode: bytes, offset: int) -> int:
    """Where the next step begins, behind the room that the interpreter keeps for itself."""
    offset += 2
    while offset < len(bytecode) and bytecode[offset] == _CACHE:
        offset += 2
    return offset


def _guarded(code: CodeType, places: dict[int, int]) -> tuple[Any, ...]:
    if not code.co_exceptiontable:
        return ()
    import dis

    entries = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    return tuple((places[one.start], places[one.end], places[one.target], one.depth, one.lasti) for one in entries)


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
    if module in ("", "__main__") or not is_project(module):
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
    top = module.partition(".")[0]
    # What stands in __main__ is never installed, though a program that was started it may be, as `python -m pytest` is.
    return top == "__main__" or _is_project(top)


@lru_cache(maxsize=4096)
def _is_project(top: str) -> bool:
    if top in sys.stdlib_module_names or top in {"heald", ""}:
        return False
    module = sys.modules.get(top)
    spec = getattr(module, "__spec__", None) if module else _spec(top)
    places = [getattr(module, "__file__", None), getattr(spec, "origin", None)]
    places += getattr(spec, "submodule_search_locations", None) or ()
    return not any({"site-packages", "dist-packages"} & {*Path(place).parts} for place in places if place)
