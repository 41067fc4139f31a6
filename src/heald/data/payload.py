"""Values to Payloads and back.

A value is pickled once, by whoever has it, and unpickled once, by whoever needs it. Large buffers inside it (arrays)
stay out of the pickle, in the arena. A future inside a value, at any depth, pickles as a numbered gap, which the
value of its task fills when the pickle is loaded: so nothing ever walks through the arguments of a task.

Knows nothing of tasks, nor of where the values of futures come from.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from types import FunctionType, ModuleType
from typing import Any, Protocol

from heald.core.errors import NotPicklable, UsageError
from heald.core.ref import Ref
from heald.core.task import Payload
from heald.data.arena import SCHEME, Arena, ArenaFull, OnRelease

LARGE = 64 * 1024  # bytes from which a buffer travels beside the pickle rather than in it
_DEPTH, _BREADTH = 8, 1000  # how far the search for what cannot be pickled goes
_by_value: tuple[bytes, ...] = (b"__main__",)  # modules that are missing in a worker, or are others there

Resolve = Callable[[Ref], "bytes | bytearray | memoryview"]


class Store(Protocol):
    """Where large buffers go: an arena, or a file."""

    def share(self, buffer: memoryview, /) -> Ref:
        """The name of a buffer that was put there."""


class Placeholder:
    """Stands for a value that is not there yet, wherever it is pickled. Told apart by identity: give it no `__eq__`."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return gap(self)


class _Here(threading.local):
    """What the pickle that this thread writes or reads right now needs to know."""

    gaps: dict[Placeholder, int] | None = None
    values: Sequence[object] = ()


_here = _Here()


def gap(owner: Placeholder, path: tuple[object, ...] = ()) -> tuple[Any, ...]:
    """What `__reduce__` of a placeholder returns: take the value of `owner`, then its item `path[0]`, and so on.

    Raises UsageError outside of `pack`.
    """
    gaps = _here.gaps
    if gaps is None:
        raise UsageError(
            "a future can only be pickled as an argument of a task",
            hint="pass the future itself to submit(), or its result() to anything else",
        )
    index = gaps.setdefault(owner, len(gaps))
    return fill, ((index, path) if path else (index,))


def fill(index: int, path: tuple[Any, ...] = ()) -> object:
    """The value for a gap. Pickles call this while `unpack` loads them; it is of no use elsewhere."""
    values = _here.values
    if index >= len(values):
        raise UsageError(f"the value needs input {index}, and {len(values)} are given")
    value: Any = values[index]
    for item in path:
        value = value[item]
    return value


def send_by_value(module: ModuleType) -> None:
    """Let functions and classes of the module travel as they are, since a worker cannot import it."""
    global _by_value
    import cloudpickle

    name = module.__name__.encode()
    if name not in _by_value:
        cloudpickle.register_pickle_by_value(module)
        _by_value += (name,)


def pack(value: object, arena: Store | None, *, subject: str) -> tuple[Payload, list[Placeholder]]:
    """The Payload of a value, and the placeholders in it in the order of their gaps.

    Large buffers go into the arena (or what stands for it) when there is one and it has room. Raises NotPicklable,
    which says what inside `subject` is to blame.

    >>> payload, placeholders = pack({"x": [1, 2]}, None, subject="the settings")
    >>> unpack(payload), placeholders
    ({'x': [1, 2]}, [])
    """
    outer = _here.gaps
    try:
        try:
            payload, placeholders = _dump(pickle.dumps, value, arena)
            for name in _by_value:
                if name in payload.data:
                    break
            else:
                return payload, placeholders
        except Exception:  # a lambda, for one; what is truly wrong fails again
            pass
        import cloudpickle

        return _dump(cloudpickle.dumps, value, arena)
    except Exception as error:
        raise _not_picklable(value, subject, error) from error
    finally:
        _here.gaps = outer


def pack_call(
    arguments: tuple[object, ...], keywords: dict[str, object], arena: Store | None, *, name: str
) -> tuple[Payload, list[Placeholder]]:
    """`pack` for the arguments of a call of `name`. NotPicklable names the argument: "argument 2 of square".

    >>> payload, _ = pack_call((5,), {"log": True}, None, name="square")
    >>> unpack(payload)
    ((5,), {'log': True})
    """
    try:
        return pack((arguments, keywords), arena, subject=f"the arguments of {name}")
    except NotPicklable:
        for label, value in chain(enumerate(arguments, 1), keywords.items()):
            pack(value, None, subject=f"argument {label} of {name}")
        raise


def unpack(
    payload: Payload,
    arena: Arena | None = None,
    inputs: Sequence[object] = (),
    *,
    on_release: OnRelease | None = None,
    resolve: Resolve | None = None,
) -> Any:
    """The value of a Payload, its gaps filled from `inputs`.

    Without `inputs`, those of the payload itself serve. An input that is a Payload is unpacked first, once, whatever
    the number of its gaps; any other stands for itself. `on_release` is for each buffer read from the arena (see
    `Arena.read`); `resolve` gives the bytes of Refs that are elsewhere. Raises whatever the code of the pickled
    objects raises, and pickle.UnpicklingError for damaged bytes.
    """
    buffers = [_buffer(ref, arena, on_release, resolve) for ref in payload.buffers]
    values = [
        unpack(value, arena, on_release=on_release, resolve=resolve) if isinstance(value, Payload) else value
        for value in inputs or payload.inputs
    ]
    return load(payload.data, buffers, values)


def load(data: bytes, buffers: Iterable[Any], values: Sequence[object]) -> Any:
    """What was pickled, its gaps filled from `values`. Pickles of a `Sealed` call this."""
    outer, _here.values = _here.values, values
    try:
        return pickle.loads(data, buffers=buffers)
    finally:
        _here.values = outer


class Sealed:
    """A value that whoever passes it on has not unpickled: where this is pickled and unpickled, the value comes out.

    >>> unpack(pack([seal(Payload(pickle.dumps("weft")))], None, subject="a list")[0])
    ['weft']
    """

    def __init__(self, data: bytes, buffers: Sequence[Any], inputs: Sequence[Sealed]) -> None:
        self.data = data
        self.buffers = buffers
        self.inputs = inputs

    def open(self) -> Any:
        """The value."""
        return load(self.data, self.buffers, [value.open() for value in self.inputs])

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (self.data, list(map(pickle.PickleBuffer, self.buffers)), list(self.inputs))


def seal(
    payload: Payload,
    arena: Arena | None = None,
    inputs: Sequence[Payload] = (),
    *,
    on_release: OnRelease | None = None,
    resolve: Resolve | None = None,
) -> Sealed:
    """The value of a Payload, still pickled. Parameters are those of `unpack`."""
    buffers = [_buffer(ref, arena, on_release, resolve) for ref in payload.buffers]
    sealed = [seal(value, arena, on_release=on_release, resolve=resolve) for value in inputs or payload.inputs]
    return Sealed(payload.data, buffers, sealed)


def inband(
    payload: Payload, arena: Arena | None = None, resolve: Resolve | None = None
) -> tuple[bytes, list[memoryview]]:
    """The pickle and the buffers themselves, for a journal or another machine.

    The views hold their memory: nothing is copied before somebody writes them out.
    """
    return payload.data, [memoryview(_buffer(ref, arena, None, resolve)) for ref in payload.buffers]


def _buffer(
    ref: Ref, arena: Arena | None, on_release: OnRelease | None, resolve: Resolve | None
) -> bytes | bytearray | memoryview:
    if ref.uri.startswith(SCHEME) and arena is not None:
        return arena.read(ref, on_release)
    if resolve is None:
        raise UsageError(f"{ref.uri} cannot be read here")
    return resolve(ref)


def _dump(dumps: Callable[..., bytes], value: object, arena: Store | None) -> tuple[Payload, list[Placeholder]]:
    gaps = _here.gaps = {}
    if arena is None:
        return Payload(dumps(value, 5)), list(gaps)
    refs: list[Ref] = []

    def inside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes >= LARGE:
            try:
                refs.append(arena.share(raw))
            except ArenaFull:
                return True
            return False
        return True

    data = dumps(value, 5, buffer_callback=inside)
    return Payload(data, tuple(refs)), list(gaps)


def _not_picklable(value: object, subject: str, error: Exception) -> NotPicklable:
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return NotPicklable(
            f"{subject} cannot be pickled: it is nested too deeply",
            hint="pass it as a flat list, as an array or in a file",
        )
    path, culprit = _culprit(value)
    kind = type(culprit)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    where = f"its part {path.lstrip()} (a {name})" if path else f"it is a {name}"
    return NotPicklable(
        f"{subject} cannot be pickled: {where}; {type(error).__name__}: {error}",
        hint="leave it out, or make it inside the task from what can travel: a path, a name, numbers",
    )


def _culprit(value: object) -> tuple[str, object]:
    """Where in a value the smallest part is that cannot be pickled, and that part."""
    path, seen = "", {id(value)}
    for _ in range(_DEPTH):
        try:
            parts = list(islice(_parts(value), _BREADTH))
        except Exception:  # of the user's own __reduce__ or keys(): this object is to blame
            break
        wrong = next(((step, part) for step, part in parts if id(part) not in seen and not _travels(part)), None)
        if wrong is None:
            break
        path, value = path + wrong[0], wrong[1]
        seen.add(id(value))
    return path, value


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    """What a value is made of, each with the words that lead there."""
    if isinstance(value, dict):
        yield from ((f"[{_short(key)}]", part) for key, part in value.items())
        yield from ((f" key {_short(key)}", key) for key in value)
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f" element {_short(part)}", part) for part in value)
    elif isinstance(value, FunctionType):
        code = value.__code__
        cells = zip(code.co_freevars, value.__closure__ or (), strict=True)
        yield from ((f" variable {name}", cell.cell_contents) for name, cell in cells)
        known = value.__globals__
        yield from ((f" variable {name}", known[name]) for name in code.co_names if name in known)
    elif isinstance(value, type):
        yield from ((f".{name}", part) for name, part in vars(value).items())
    else:
        yield from _state(value)


def _state(value: object) -> Iterator[tuple[str, object]]:
    """Attributes and the like, as the object itself gives them to pickle."""
    reduced = value.__reduce_ex__(5)
    if not isinstance(reduced, tuple):
        return
    yield from ((f" constructor argument {index}", part) for index, part in enumerate(reduced[1]))
    states = reduced[2] if len(reduced) > 2 else None
    for state in states if isinstance(states, tuple) else (states,):  # (attributes, slots), when there are slots
        if isinstance(state, dict):
            yield from ((f".{name}", part) for name, part in state.items())
        elif state is not None:
            yield " state", state


def _short(value: object) -> str:
    import reprlib

    return reprlib.repr(value)


def _travels(value: object) -> bool:
    import cloudpickle

    try:
        cloudpickle.dumps(value, 5, buffer_callback=lambda buffer: None)
    except Exception:
        return False
    return True
