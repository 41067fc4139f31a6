from __future__ import annotations

import collections
import copy
import enum
import functools
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.data.digest import _LIMIT, Undigestible, _plain, _Writer, code_digest, digest

FEW = [None, True, False, 0, 1, 0.0, -0.0, 1.0, 1j, "1", b"1", "", b"", "\ud800", ..., 2**5000, "x" * 600, b"x" * 600]


def pick(number: int) -> object:
    return FEW[number]


few = st.integers(0, len(FEW) - 1).map(pick)  # not sampled_from, which prints them all, very often
scalars = few | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
hashable = scalars | st.lists(scalars, max_size=3).map(tuple) | st.frozensets(scalars, max_size=3)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.sets(hashable, max_size=3)
    ),
    max_leaves=12,
)


def twin(value: Any) -> Any:
    """Equal content in other objects, and in the other order where there is no order."""
    kind = type(value)
    if kind is dict:
        return {twin(key): twin(item) for key, item in reversed(value.items())}
    if kind in (list, tuple, set, frozenset):
        items = [twin(item) for item in value]
        return kind(items if kind in (list, tuple) else reversed(items))
    return pickle.loads(pickle.dumps(value, 5))


def model(value: Any) -> Any:
    """What makes two values of the strategy above the same, written in another way."""
    kind = type(value)
    if kind in (list, tuple):
        return kind.__name__, tuple(model(item) for item in value)
    if kind in (set, frozenset):
        return kind.__name__, frozenset(model(item) for item in value)
    if kind is dict:
        return "dict", frozenset((model(key), model(item)) for key, item in value.items())
    return kind.__name__, pickle.dumps(value, 2) if kind in (int, float, complex) else repr(value)


@given(values)
def test_equal_content_gives_equal_bytes(value: object) -> None:
    assert digest(value) == digest(twin(value))
    assert len(digest(value)) == 16


@given(values, values)
def test_other_content_gives_other_bytes(one: object, other: object) -> None:
    assert (digest(one) == digest(other)) == (model(one) == model(other))


@given(st.lists(scalars, max_size=3).map(tuple), st.dictionaries(st.text(max_size=3), scalars, max_size=2))
def test_fast_and_slow_way_agree(arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
    for value in ((arguments, keywords), arguments, (*arguments, arguments)):
        writer = _Writer(None)
        slow = writer.write(value)
        assert writer.finish(slow) == digest(value)
        assert _plain(value) in (None, slow)


def test_the_fast_way_is_taken() -> None:
    assert _plain(((5, "text", None, True, 1.5), {})) is not None
    assert _plain(((5,), {"a": 1})) is not None
    assert _plain((("x" * _LIMIT,), {})) is None


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"


class Mode(enum.IntFlag):
    READ = 1
    WRITE = 2


class Place(NamedTuple):
    x: int
    y: int = 0


class Named(NamedTuple):
    x: int
    y: int = 0


@dataclass
class Config:
    steps: int
    labels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frozen:
    steps: int


class Record(msgspec.Struct):
    steps: int


class Slotted:
    __slots__ = ("one", "two")

    def __init__(self, one: object) -> None:
        self.one = one


class Plain:
    def __init__(self, **state: object) -> None:
        self.__dict__.update(state)


class Tags(set[str]):
    pass


class Text(str):
    pass


class Whole(int):
    pass


class Bag(dict[str, int]):
    pass


class Sample:
    """Says itself what it holds, as a file does."""

    def __init__(self, content: bytes, note: str) -> None:
        self.content, self.note = content, note

    def __heald_digest__(self) -> bytes:
        return self.content


def scale(x: int, by: int = 2) -> int:
    return x * by


# Values that all differ, made anew by each call.
def table() -> list[object]:
    letters = ["alpha", "beta", "gamma", "delta", "epsilon"]
    ordered = collections.OrderedDict
    return [
        *(None, True, 1, 1.0, 1 + 0j, "1", b"1", bytearray(b"1"), Whole(1), Text("1"), -0.0, 0.0, float("nan"), 2**70),
        *(bytes(600), bytearray(600), "\0" * 600, [], (), {}, set(), frozenset(), NotImplemented, ..., object()),
        *(set(letters), frozenset(letters), Tags(letters), dict.fromkeys(letters), dict.fromkeys(map(hash, range(9)))),
        *([1, (2, 3)], [(1, 2), 3], [1, 2, (3,)], [[1, 2, 3]], {1: {"a"}}, {1: {"a": None}}, {1: "a", "1": "a"}),
        *(range(3), range(4), slice(3), slice(0, 3), Decimal("1.0"), Decimal("1.00"), Fraction(1, 3)),
        *(date(2024, 1, 2), datetime(2024, 1, 2), datetime(2024, 1, 2, tzinfo=UTC), timedelta(1)),
        *(Path("a/b"), PurePosixPath("a/b"), Path("a"), UUID(int=1), Color.RED, Color.BLUE, Mode.READ, Mode(3)),
        *(Place(1), Named(1), (1, 0), Config(1), Config(1, {"a": 1}), Frozen(1), Record(1), Record(2), Slotted(1)),
        *(Slotted("1"), Plain(), Plain(a=1), Plain(a={"b"}), collections.Counter(letters), Bag(a=1), {"a": 1}),
        *(ordered(a=1, b=2), ordered(b=2, a=1), collections.deque([1]), collections.deque([1], 3)),
        *(collections.defaultdict(int, a=1), collections.defaultdict(None, a=1), Sample(b"1", ""), Sample(b"2", "")),
        *(scale, len, dict, Color, Config, os, os.path, functools.partial(scale, 1), functools.partial(scale, by=1)),
        *([].append, "".join, Config(1).__eq__, functools.lru_cache(scale), print, time.time, lambda: 1, lambda: 2),
        *(list[int], list[str], int | None, typing.Optional[str], typing.Callable[[int], str]),  # noqa: UP045
        *(np.arange(3), np.arange(3.0), np.arange(3).reshape(1, 3), np.arange(3, dtype=">i8"), np.array(1.0)),
        *(np.float64(1), np.int64(1), np.datetime64(1, "s"), np.array(["a", None]), np.array(["a", "b"])),
        *(np.zeros(0), np.zeros((0, 1)), np.zeros(2, "i4,f8"), np.zeros(2, [("a", "i4"), ("b", "f8")])),
        *(np.array([1, 2], "M8[s]"), np.zeros(2, "S0"), np.ma.array([1, 2], mask=[False, True]), np.dtype("f8")),
        *(np.rec.array([(1, 2.0)], "i4,f8"), np.add, np.random.default_rng(1)),
    ]  # fmt: skip


def test_types_and_values_are_told_apart() -> None:
    texts = collections.defaultdict(list)
    for value in table():
        texts[digest(value)].append(value)
    assert [same for same in texts.values() if len(same) > 1] == []
    assert [digest(value) for value in table()] == list(texts)


@pytest.mark.parametrize("seed", ["0", "1"])
def test_other_processes_agree(seed: str) -> None:
    script = (
        "import runpy, sys\nfrom heald.data.digest import digest\n"
        "import importlib.util as util\nspec = util.spec_from_file_location(sys.argv[1], sys.argv[2])\n"
        "module = sys.modules[sys.argv[1]] = util.module_from_spec(spec)\nspec.loader.exec_module(module)\n"
        "print(*(digest(value).hex() for value in module.table()))"
    )
    command = [sys.executable, "-c", script, __name__, __file__]
    run = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
    )
    theirs = run.stdout.split()
    assert [value for value, text in zip(table(), theirs, strict=True) if digest(value).hex() != text] == []


def test_sharing_makes_no_difference() -> None:
    part = [1, {"a"}]
    assert digest([part, part]) == digest([part, copy.deepcopy(part)])
    deep: list[object] = [1]
    for _ in range(100):
        deep = [deep, deep]  # 2**100 leaves for who writes each of them
    assert len(digest(deep)) == 16


def test_cycles() -> None:
    def loop(last: object) -> list[object]:
        ring: list[object] = [1, {"a": 2}]
        ring.append({"back": ring, "last": last})
        return ring

    assert digest(loop(1)) == digest(loop(1)) != digest(loop(2))
    assert digest([loop(1), loop(1)]) == digest([loop(1)] * 2)
    family = Plain(name="mother")
    family.child = Plain(name="child", parent=family)  # type: ignore[attr-defined]
    assert digest(family) == digest(copy.deepcopy(family))


def test_too_many_references_end() -> None:
    crowd = [Plain(number=number) for number in range(30)]
    for one in crowd:
        one.__dict__["others"] = crowd
        one.__dict__["friends"] = list(crowd)
    with pytest.raises(Undigestible, match="too many objects refer to each other"):
        digest(crowd)


def test_too_deep() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Undigestible, match="nested too deeply"):
        digest(deep)


def test_array_order_and_memory_make_no_difference() -> None:
    rows = np.arange(12.0).reshape(3, 4)
    assert digest(rows) == digest(np.asfortranarray(rows)) == digest(np.arange(24.0)[::2].reshape(3, 4) / 2)
    assert digest(rows) != digest(rows.T)
    words = np.array(["a", {"b": 1}], dtype=object)
    assert digest(words) == digest(words.copy()) != digest(words[::-1])
    assert digest(np.array([{"a", "b"}, None])) == digest(np.array([{"b", "a"}, None]))


def test_numpy_strings() -> None:
    kind = np.dtypes.StringDType()
    one, other = np.array(["a", "b" * 100], dtype=kind), np.array(["a", "c" * 100], dtype=kind)
    assert digest(one) == digest(one.copy()) != digest(other)


def test_an_object_speaks_for_itself() -> None:
    assert digest(Sample(b"1", "here")) == digest(Sample(b"1", "there")) != digest(b"1")


def test_state_is_what_would_be_pickled() -> None:
    class Connected(Plain):
        def __getstate__(self) -> object:
            return {"url": self.__dict__["url"]}

    assert digest(Connected(url="a", link=threading.Lock())) == digest(Connected(url="a"))


def test_use_makes_no_difference() -> None:
    before = digest(Mode.READ), digest(part := functools.partial(scale, 1))
    assert Mode.READ | Mode.WRITE
    assert part.__dict__ == {}
    assert (digest(Mode.READ), digest(part)) == before


def test_structured_scalars_with_objects() -> None:
    row = np.array([(1, "a" * 100)], dtype=[("n", "i4"), ("text", object)])
    assert digest(row[0]) == digest(row.copy()[0]) != digest(np.array([(1, "b")], dtype=row.dtype)[0])


def test_placeholder_is_asked_about_objects() -> None:
    class Later:
        def __init__(self) -> None:
            self.lock = threading.Lock()

    later, asked = Later(), []

    def placeholder(value: object) -> bytes | None:
        asked.append(value)
        return b"task 7" if isinstance(value, Later) else None

    one = digest(((later, 1, "a", [Path("b")]), {}), placeholder=placeholder)
    assert one == digest(((Later(), 1, "a", [Path("b")]), {}), placeholder=placeholder)
    assert one != digest(((b"task 7", 1, "a", [Path("b")]), {}), placeholder=placeholder)
    assert later in asked
    assert not any(isinstance(value, list | int | str | tuple) for value in asked)


@pytest.fixture
def plug() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda it: it, ""),
        (lambda it: ((1,), {"data": {"sock": it}}), "[1]['data']['sock']: "),
        (lambda it: [0, Plain(a=1, b=Plain(c=(0, it)))], "[1].b.c[1]: "),
        (lambda it: {it}, "{...}: "),
        (lambda it: {it: 1}, "{...}: "),
        (lambda it: {10**5000: it}, "[...]: "),
        (lambda it: np.array([1, it], dtype=object), "[1]: "),
    ],
)
def test_undigestible_says_where(wrap: Callable[[object], object], path: str, plug: socket.socket) -> None:
    with pytest.raises(Undigestible) as caught:
        digest(wrap(plug))
    assert str(caught.value) == f"{path}a socket.socket cannot be digested"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("value", [(n for n in "ab"), threading.Lock(), threading.Thread(), memoryview(b"a")])
def test_undigestible(value: object) -> None:
    with pytest.raises(Undigestible):
        digest(value)


def test_failing_methods_are_undigestible() -> None:
    class Broken:
        def __heald_digest__(self) -> bytes:
            raise FileNotFoundError("gone")

    with pytest.raises(Undigestible, match="Broken cannot be digested") as caught:
        digest([Broken()])
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_code_and_data_meet() -> None:
    factor = 2

    def double(x: int) -> int:
        return scale(x, factor)

    before = digest([double]), code_digest(double)
    assert before == (digest([double]), code_digest(double))
    factor = 3
    assert digest([double]) != before[0]
    assert code_digest(double) != before[1]
