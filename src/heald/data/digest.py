"""The same 16 bytes for equal content, in every process and run: of values, and of what functions do.

A value is written down and the text is hashed. Plain scalars, tuples, lists and dicts of them are written as
`marshal` (version 2) writes them, with the keys of a dict in order; everything else has marks that marshal does not
use. Each part tells its own length, so that no two values have one text, and a part longer than `_LIMIT` is replaced
by its hash, so that texts stay short. Thereby the fast way (marshal the whole call at once) and the slow way agree
wherever the fast way is open.

Knows nothing of tasks and futures: a caller's `placeholder` says what those count as.
"""

from __future__ import annotations

import copyreg
import functools
import marshal
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from operator import methodcaller
from reprlib import repr as brief
from typing import Any

from heald.data import code

__all__ = ["Undigestible", "code_digest", "digest"]

_LIMIT = 512
_ENTANGLED = 10_000
_PLAIN = frozenset({type(None), bool, int, float, complex, str, type(...)})
_PYTHON = "{}.{}".format(*sys.version_info)

Placeholder = Callable[[object], "bytes | None"]


class Undigestible(TypeError):
    """A value that has no content to speak of, such as a socket; `path` leads to it from the value asked about.

    No part of the tree of heald's errors, because nobody needs to handle it: a call with such an argument just runs.
    """

    def __init__(self, reason: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"{''.join(self.path)}: {self.reason}" if self.path else self.reason

    def within(self, step: str) -> Undigestible:
        """The same, as seen from one step further out."""
        return Undigestible(self.reason, (step, *self.path))


def digest(value: object, *, placeholder: Placeholder | None = None) -> bytes:
    """16 bytes that name a value by its content: equal content gives equal bytes, another type or value others.

    The order of sets and dicts, and whether equal parts are one object, make no difference. Arrays count by dtype,
    shape and elements; functions and classes by `code_digest`; instances by class and by what they would pickle. A
    method `__heald_digest__() -> bytes` speaks for its object. `placeholder` is asked about every object of other
    than plain types and containers, and returns the bytes to use, or None.

    >>> digest({"a": 1, "b": {2, 3}}) == digest({"b": {3, 2}, "a": 1})
    True
    >>> len({digest(value) for value in (1, True, 1.0, "1", b"1", (1,), [1], {1}, 0.0, -0.0)})
    10

    Raises Undigestible, which says what inside the value is to blame:

    >>> digest([1, {"lines": iter("ab").__next__, "feed": (line for line in "ab")}])
    Traceback (most recent call last):
    heald.data.digest.Undigestible: [1]['feed']: a generator cannot be digested
    """
    text = _plain(value)
    if text is not None:
        return blake2b(text, digest_size=16).digest()
    writer = _Writer(placeholder)
    try:
        return writer.finish(writer.write(value))
    except RecursionError:
        raise Undigestible("it is nested too deeply to be digested") from None


def code_digest(function: object) -> bytes:
    """16 bytes that name what a function does, and Python's version.

    Its bytecode, constants, defaults and closure count, and so do the project's functions and classes, and the
    values, that it reaches through global names; comments, docstrings, lines and annotations do not. Functions of
    the standard library and of installed packages count by name. What cannot be digested counts by its type.

    >>> code_digest(lambda x: x + 1) == code_digest(lambda x: x + 1)
    True
    >>> code_digest(lambda x: x + 1) == code_digest(lambda x: x + 2)
    False
    """
    writer = _Writer(None)
    return writer.finish(_pack(b"R", [writer.write_or_type(function), writer.write(_PYTHON)]))


def _plain(value: object) -> bytes | None:
    """The text of a call that has only plain arguments, the short way."""
    if type(value) is not tuple:
        return None
    part: Any
    for part in value:
        kind = type(part)
        if kind is tuple:
            if not _PLAIN.issuperset(map(type, part)):
                return None
        elif kind is dict:
            if len(part) > 1 or not _PLAIN.issuperset(map(type, part.values())) or not _named(part):
                return None
        elif kind not in _PLAIN:
            return None
    text = marshal.dumps(value, 2)
    return text if len(text) <= _LIMIT else None


def _named(mapping: Mapping[Any, object]) -> bool:
    return all(type(key) is str for key in mapping)


def _short(text: bytes) -> bytes:
    return text if len(text) <= _LIMIT else _hashed(text)


def _hashed(*texts: Any) -> bytes:
    whole = blake2b(digest_size=16)
    for text in texts:
        whole.update(text)
    return b"#" + whole.digest()


def _pack(mark: bytes, parts: Sequence[bytes]) -> bytes:
    """A text of parts that tell their own lengths; with the marks of tuple and list, it is that of marshal."""
    return mark + len(parts).to_bytes(4, "little") + b"".join(parts)


def _item(key: object) -> str:
    try:
        return f"[{brief(key)}]"
    except ValueError:  # of an integer that Python finds too long to print
        return "[...]"


class _Writer:
    """Writes values down. One for each call of `digest`, as what functions reach may change in between."""

    def __init__(self, placeholder: Placeholder | None) -> None:
        self.placeholder = placeholder
        # By id: the text, or None for one that depends on where it stands, and the object, to keep its id.
        self.known: dict[int, tuple[bytes | None, object]] = {}
        self.open: dict[int, int] = {}  # what is being written: id to depth
        self.reach = sys.maxsize  # the least depth that was referred back to
        self.repeats = 0
        self.functions: dict[int, types.FunctionType] = {}  # of the project, to be followed at the end

    def finish(self, text: bytes) -> bytes:
        """The digest of a text and of all code that it mentions."""
        followed: set[int] = set()
        bodies: set[bytes] = set()
        while rest := self.functions.keys() - followed:
            for number in rest:
                bodies.add(self.function_reach(self.functions[number]))
            followed |= rest
        if bodies:
            text = _pack(b"W", [text, self.write(_PYTHON), *sorted(bodies)])
        return blake2b(text, digest_size=16).digest()

    def write(self, value: Any) -> bytes:
        """The text of a value, at most `_LIMIT` bytes."""
        kind = type(value)
        if kind in _PLAIN:
            return _short(marshal.dumps(value, 2))
        if kind is bytes or kind is bytearray:
            return _write_bytes(value)
        number = id(value)
        text, _ = self.known.get(number, (None, None))
        if text is not None:
            return text
        if number in self.open:
            # How far up: the same wherever the whole cycle stands.
            self.reach = min(self.reach, self.open[number])
            return b"^" + (len(self.open) - self.open[number]).to_bytes(4, "little")
        if number in self.known:
            self.repeats += 1
            if self.repeats > _ENTANGLED:
                raise Undigestible("too many objects refer to each other")
        here = self.open[number] = len(self.open)
        outer, self.reach = self.reach, sys.maxsize
        try:
            text = _short(_CONTAINERS.get(kind, _Writer.write_object)(self, value))
            self.known[number] = (text if self.reach >= here else None), value
            return text
        finally:
            del self.open[number]
            self.reach = min(outer, self.reach) if self.reach < here else outer

    def write_or_type(self, value: object) -> bytes:
        """The text of a value, or of its type when it has none."""
        try:
            return self.write(value)
        except (Undigestible, RecursionError):
            return _pack(b"?", [self.write(type(value))])

    def write_all(self, values: Iterable[object], step: Callable[[int], str]) -> list[bytes]:
        """The texts of some values; `step` says for messages how one gets to the one with a number."""
        texts: list[bytes] = []
        try:
            texts.extend(map(self.write, values))  # what is there when one fails tells its number
        except Undigestible as error:
            raise error.within(step(len(texts))) from error.__cause__
        return texts

    def write_name(self, kind: Any) -> list[bytes]:
        return [self.write(str(kind.__module__)), self.write(kind.__qualname__)]

    # Containers.

    def write_sequence(self, value: Any) -> bytes:
        if _PLAIN.issuperset(map(type, value)):
            return marshal.dumps(value, 2)
        return _pack(b"(" if type(value) is tuple else b"[", self.write_all(value, "[{}]".format))

    def write_dict(self, value: Mapping[Any, Any], step: Callable[[Any], str] = _item) -> bytes:
        # A copy, as what a function reads may be at work in another thread.
        named = _named(value := dict(value))
        if named:
            value = dict(sorted(value.items()))  # keys differ, so values are not compared
            if _PLAIN.issuperset(map(type, value.values())):
                return marshal.dumps(value, 2)
        order = list(value)
        keys = self.write_all(order, lambda number: "{...}")
        values = self.write_all(value.values(), lambda number: step(order[number]))
        pairs = [key + item for key, item in zip(keys, values, strict=True)]
        return b"{" + b"".join(pairs if named else sorted(pairs)) + b"0"

    def write_set(self, value: Iterable[object]) -> bytes:
        mark = b"<" if isinstance(value, set) else b">"
        return _pack(mark, sorted(self.write_all(list(value), lambda number: "{...}")))

    # Objects.

    def write_object(self, value: Any) -> bytes:
        if self.placeholder is not None and (given := self.placeholder(value)) is not None:
            return _pack(b"P", [_write_bytes(given)])
        kind = type(value)
        if hasattr(kind, "__heald_digest__"):
            return _pack(b"D", [*self.write_name(kind), _write_bytes(_ask(value, methodcaller("__heald_digest__")))])
        if hasattr(kind, "__heald_code__"):
            return self.write(value.__heald_code__())
        if kind.__module__ == "typing" or kind in (types.GenericAlias, types.UnionType):
            return _pack(b"t", [self.write(repr(value))])
        for family, write in _FAMILIES.items():
            if isinstance(value, family):
                return write(self, value)
        numpy = sys.modules.get("numpy")
        if numpy is not None and (kind is numpy.ndarray or isinstance(value, numpy.generic)):
            return self.write_array(value)
        wrapped = getattr(value, "__wrapped__", None) if callable(value) else None
        if isinstance(wrapped, types.FunctionType) and not code.is_project(kind.__module__):
            return _pack(b"L", [*self.write_name(kind), self.write(wrapped)])  # functools.lru_cache and the like
        return self.write_reduced(value)

    def write_array(self, value: Any) -> bytes:
        """A NumPy array, in whatever order it has in memory, or scalar."""
        parts = [*self.write_name(type(value)), self.write(repr(value.dtype)), self.write(value.shape)]
        if value.dtype.hasobject or value.dtype.kind == "T":  # strings of any length, kept elsewhere
            parts.append(self.write(value.tolist()))
        elif value.nbytes:
            parts.append(_hashed(value.reshape(-1).view("u1")))  # in C order; a copy only if it has another
        return _pack(b"A", parts)

    def write_reduced(self, value: Any) -> bytes:
        """By what a pickle of it would hold: how to make it, and its state."""
        reduced = _ask(value, _reduce)
        if isinstance(reduced, str):
            module = getattr(value, "__module__", None) or type(value).__module__
            return _pack(b"G", [self.write(module), self.write(reduced)])
        make, arguments, state, items, pairs = reduced
        parts = self.write_all((make, *arguments), lambda number: f".__reduce__()[{number}]")
        if type(state) is tuple and len(state) == 2 and isinstance(state[1], dict):  # of a class with slots
            state = {**(state[0] or {}), **state[1]}
        if type(state) is dict and _named(state):
            parts.append(self.write_dict(state, ".{}".format))
        else:
            parts.append(self.write(state))
        parts.append(self.write(items))
        parts.append(
            self.write(pairs) if pairs is None or isinstance(value, OrderedDict) else self.write_dict(dict(pairs))
        )
        return _pack(b"O", parts)

    def write_partial(self, value: functools.partial[Any]) -> bytes:
        """Its own way to pickle tells whether anybody has ever looked at its attributes."""
        held = (type(value), value.func, value.args, value.keywords, vars(value))
        return _pack(b"p", self.write_all(held, ("", ".func", ".args", ".keywords", "").__getitem__))

    def write_subset(self, value: Any) -> bytes:
        """An instance of a subclass of set or frozenset, whose own way to pickle has no order."""
        state = self.write(getattr(value, "__dict__", None))
        return _pack(b"E", [self.write(type(value)), self.write_set(value), state])

    # Code.

    def write_function(self, value: types.FunctionType) -> bytes:
        module = str(value.__globals__.get("__name__", "__main__"))  # not __module__, which wrappers take over
        cells = [cell.cell_contents if cell != _EMPTY else _EMPTY for cell in value.__closure__ or ()]
        wrapped = value.__dict__.get("__wrapped__")
        name = value.__code__.co_qualname
        parts = [self.write(module), self.write(name)]
        if not code.is_project(module):
            if "<" in name:  # "<lambda>" and what is made inside of functions: one name for many
                parts.append(_write_body(value.__code__))
            # Of a library's closure only functions count: the rest may be its cache.
            return _pack(b"K", [*parts, *map(self.write_or_type, filter(callable, (*cells, wrapped)))])
        self.functions[id(value)] = value
        held = (value.__defaults__, value.__kwdefaults__, wrapped, *cells)
        return _pack(b"X", [*parts, _write_body(value.__code__), *map(self.write_or_type, held)])

    def function_reach(self, function: types.FunctionType) -> bytes:
        """What a function of the project is, and what the names in it mean."""
        parts = [self.write_or_type(function)]
        for path, value in code.reach(function):
            parts += self.write(path), self.write_or_type(value)
        for module, source in sorted(code.sources(function)):
            parts += self.write(module), self.write(source)
        return _hashed(_pack(b"r", parts))

    def write_class(self, value: type) -> bytes:
        parts = self.write_name(value)
        if not code.is_project(str(value.__module__)):
            return _pack(b"c", parts)
        parts.append(_pack(b"(", [self.write_or_type(base) for base in (type(value), *value.__bases__)]))
        for name, member in code.members(value):
            parts += self.write(name), self.write_or_type(member)
        return _pack(b"C", parts)

    def write_method(self, value: types.MethodType) -> bytes:
        return _pack(b"M", [self.write(value.__func__), self.write_or_type(value.__self__)])

    def write_module(self, value: types.ModuleType) -> bytes:
        return _pack(b"m", [self.write(value.__name__)])


_EMPTY = types.CellType()
_CONTAINERS: dict[type, Callable[[_Writer, Any], bytes]] = {
    tuple: _Writer.write_sequence,
    list: _Writer.write_sequence,
    dict: _Writer.write_dict,
    set: _Writer.write_set,
    frozenset: _Writer.write_set,
}
_FAMILIES: dict[type, Callable[[_Writer, Any], bytes]] = {
    types.FunctionType: _Writer.write_function,
    type: _Writer.write_class,
    types.MethodType: _Writer.write_method,
    types.ModuleType: _Writer.write_module,
    set: _Writer.write_subset,
    frozenset: _Writer.write_subset,
    functools.partial: _Writer.write_partial,
}


def _write_bytes(value: bytes | bytearray) -> bytes:
    small, large = (b"S", b"Y") if type(value) is bytearray else (b"s", b"B")
    if len(value) > _LIMIT:
        return _hashed(large, value)
    return _short(small + len(value).to_bytes(4, "little") + value)


@functools.lru_cache(maxsize=4096)
def _write_body(body: types.CodeType) -> bytes:
    return _Writer(None).write(code.read(body).says)


def _reduce(value: object) -> Any:
    """What pickle asks of an object, its iterators read to the end."""
    reduced: Any = copyreg.dispatch_table.get(type(value), methodcaller("__reduce_ex__", 4))(value)
    if isinstance(reduced, str):
        return reduced
    make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    return make, arguments, state, items and list(items), pairs and list(pairs)


def _ask(value: object, question: Callable[[Any], Any]) -> Any:
    """What an object of anybody's answers, which may fail in any way."""
    try:
        return question(value)
    except Exception as error:
        kind = type(value)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        raise Undigestible(f"a {name} cannot be digested") from error
