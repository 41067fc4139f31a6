from __future__ import annotations

import functools
import gc
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.errors import NotPicklable, UsageError
from heald.core.ref import Ref
from heald.core.task import Payload
from heald.data.arena import Arena
from heald.data.payload import LARGE, Placeholder, fill, gap, inband, pack, pack_call, unpack

ROW = LARGE // 8  # doubles in a buffer that is just large


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(capacity=2**26)
    yield made
    made.close()


class Later(Placeholder, Future[Any]):
    """A future, as the session has them."""


class Item(Placeholder):
    """What `future["key"]` gives."""

    def __init__(self, owner: Placeholder, *path: object) -> None:
        self.owner, self.path = owner, path

    def __reduce__(self) -> tuple[Any, ...]:
        return gap(self.owner, self.path)


@dataclass(frozen=True)
class Point:
    x: object
    y: object


class Stubborn:
    """Raises what it is given when it is pickled."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        raise self.error


def explode(text: str) -> None:
    raise RuntimeError(text)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return explode, ("no module of that name here",)


class Holder:
    __slots__ = ("__dict__", "slot")

    def __init__(self, **parts: object) -> None:
        self.slot = parts.pop("slot", None)
        self.__dict__.update(parts)


def packed(value: object, arena: Arena | None = None) -> Payload:
    return pack(value, arena, subject="the value")[0]


def through(value: object, arena: Arena | None = None) -> Any:
    return unpack(packed(value, arena), arena)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda part: st.lists(part) | st.tuples(part, part) | st.dictionaries(st.text(), part),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values(value):
    assert through(value) == value


class TestFunctions:
    def test_what_pickle_refuses_goes_through_cloudpickle(self):
        step = 3
        assert through(lambda x: x + step)(4) == 7

    def test_what_lives_in_main_travels_by_value(self, monkeypatch):
        main = {"__name__": "__main__"}
        exec("class Local:\n    def answer(self): return 42\n", main)
        monkeypatch.setattr("__main__.Local", main["Local"], raising=False)
        payload = packed(main["Local"]())
        monkeypatch.delattr("__main__.Local")
        assert unpack(payload).answer() == 42

    def test_text_that_mentions_main_is_no_harm(self):
        assert through("__main__") == "__main__"


ARRAYS = {
    "plain": lambda: np.arange(2.0 * ROW),
    "two-dimensional": lambda: np.arange(2.0 * ROW).reshape(-1, 4),
    "Fortran order": lambda: np.asfortranarray(np.arange(2.0 * ROW).reshape(-1, 4)),
    "every second": lambda: np.arange(4.0 * ROW)[::2],
    "backwards": lambda: np.arange(2.0 * ROW)[::-1],
    "transposed part": lambda: np.arange(4.0 * ROW).reshape(4, -1).T[1:, 1:],
    "objects": lambda: np.array(["a", None, 3] * ROW, dtype=object),
    "empty": lambda: np.empty((0, 5)),
    "scalar": lambda: np.array(3.5),
    "records": lambda: np.zeros(ROW, dtype=[("id", "i8"), ("name", "U4")]),
    "text": lambda: np.array(["abc"] * ROW),
    "dates": lambda: np.arange(2 * ROW).astype("M8[s]"),
    "big-endian": lambda: np.arange(2 * ROW, dtype=">f8"),
    "masked": lambda: np.ma.masked_less(np.arange(2.0 * ROW), 5),
    "small": lambda: np.arange(10),
}


class TestArrays:
    @pytest.mark.parametrize("shared", [True, False], ids=["arena", "in-band"])
    @pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS.keys())
    def test_all_kinds(self, arena, make: Callable[[], Any], shared):
        array = make()
        back = through(array, arena if shared else None)
        np.testing.assert_array_equal(back, array)
        assert back.dtype == array.dtype
        assert back.flags.f_contiguous == array.flags.f_contiguous or not array.flags.forc
        assert back.flags.writeable

    @pytest.mark.parametrize("size", [ROW, 100 * ROW])
    def test_large_ones_stay_out_of_the_pickle(self, arena, size):
        payload = packed({"a": np.ones(size)}, arena)
        assert len(payload.data) < 500
        assert [ref.size for ref in payload.buffers] == [size * 8]

    def test_small_ones_stay_in_it(self, arena):
        assert packed(np.ones(ROW - 1), arena).buffers == ()

    def test_read_only_stays_read_only(self, arena):
        array = np.ones(ROW)
        array.flags.writeable = False
        assert not through(array, arena).flags.writeable

    @pytest.mark.parametrize("size", [ROW, 100 * ROW])
    def test_changes_stay_private(self, arena, size):
        array = np.ones(size)
        payload = packed(array, arena)
        one, other = unpack(payload, arena), unpack(payload, arena)
        one[:] = 2
        assert other.sum() == array.sum() == unpack(payload, arena).sum() == size

    def test_one_array_for_many_tasks_is_copied_once(self, arena):
        array = np.ones(100 * ROW)
        refs = {packed((array, index), arena).buffers[0].uri for index in range(20)}
        assert len(refs) == 1

    def test_an_array_that_changed_is_copied_again(self, arena):
        array = np.ones(100 * ROW)
        before = packed(array, arena)
        array[7] = 0
        after = packed(array, arena)
        assert unpack(before, arena)[7] == 1
        assert unpack(after, arena)[7] == 0

    def test_in_band_when_the_arena_is_full(self):
        small = Arena(capacity=2 * LARGE)
        arrays = [np.full(ROW, float(number)) for number in range(4)]
        payloads = [packed(array, small) for array in arrays]
        assert [len(payload.buffers) for payload in payloads] == [1, 1, 0, 0]
        assert [unpack(payload, small)[0] for payload in payloads] == [0, 1, 2, 3]
        small.close()

    def test_space_comes_back_with_the_payload(self, arena):
        for _ in range(50):  # 400 MB through 64
            assert through(np.ones(2**20), arena)[-1] == 1

    def test_in_a_lambda(self, arena):
        array = np.ones(ROW)
        payload = packed(lambda: array.sum(), arena)
        assert len(payload.buffers) == 1
        assert unpack(payload, arena)() == ROW

    def test_on_release(self, arena):
        released: list[Ref] = []
        payload = packed(np.ones(100 * ROW), arena)
        array = unpack(payload, arena, on_release=released.append)
        part = array[5:]
        del array
        gc.collect()
        assert released == []
        del part
        gc.collect()
        assert released == list(payload.buffers)


@pytest.mark.parametrize("make", [bytes, bytearray, lambda content: memoryview(bytearray(content))])
@pytest.mark.parametrize("size", [10, LARGE, 10 * LARGE])
def test_pickle_buffers(arena, make, size):
    content = bytes(range(10)) * (size // 10)
    payload = packed(pickle.PickleBuffer(make(content)), arena)
    assert len(payload.buffers) == (len(content) >= LARGE)
    assert unpack(payload, arena) == content


class TestElsewhere:
    def test_resolve(self):
        payload = Payload(*_split(np.arange(ROW), "object:abc"))
        back = unpack(payload, resolve=_bytes_of)
        np.testing.assert_array_equal(back, np.arange(ROW))

    def test_nobody_to_resolve(self, arena):
        with pytest.raises(UsageError, match="object:abc cannot be read here"):
            unpack(Payload(*_split(np.arange(ROW), "object:abc")), arena)

    def test_shared_memory_without_an_arena(self, arena):
        with pytest.raises(UsageError, match="cannot be read here"):
            unpack(packed(np.ones(ROW), arena))

    def test_inband(self, arena):
        array = np.arange(100.0 * ROW)
        data, buffers = inband(packed({"a": array}, arena), arena)
        arena.write(bytes(array.nbytes))  # would take the space, if the views did not hold it
        np.testing.assert_array_equal(pickle.loads(data, buffers=buffers)["a"], array)

    def test_inband_of_nothing_large(self):
        assert inband(packed(5)) == (packed(5).data, [])


def _split(array: Any, uri: str) -> tuple[bytes, tuple[Ref, ...]]:
    data = pickle.dumps(array, 5, buffer_callback=lambda buffer: None)
    return data, (Ref(uri, array.nbytes),)


def _bytes_of(ref: Ref) -> bytearray:
    assert ref.uri == "object:abc"
    return bytearray(np.arange(ROW).tobytes())


class TestPlaceholders:
    def test_in_every_container(self):
        a, b = Later(), Later()
        value = ([a, 1], (b,), {"k": a, b: "as a key"}, {a, 7}, frozenset([b]), Point(a, [b]), {"deep": [({"x": a},)]})
        payload, placeholders = pack(value, None, subject="v")
        assert placeholders[0] is a
        assert placeholders[1] is b
        assert unpack(payload, None, ("A", "B")) == (
            ["A", 1],
            ("B",),
            {"k": "A", "B": "as a key"},
            {"A", 7},
            frozenset(["B"]),
            Point("A", ["B"]),
            {"deep": [({"x": "A"},)]},
        )

    def test_alone(self):
        a = Later()
        payload, placeholders = pack(a, None, subject="v")
        assert placeholders == [a]
        assert unpack(payload, None, (5,)) == 5

    def test_in_a_closure(self):
        a = Later()
        payload, placeholders = pack(lambda: a, None, subject="v")
        assert placeholders == [a]
        assert unpack(payload, None, (5,))() == 5

    def test_numbered_by_first_appearance_once_each(self):
        futures = [Later() for _ in range(5)]
        order = [3, 1, 3, 0, 1, 4]
        payload, placeholders = pack([futures[index] for index in order], None, subject="v")
        assert placeholders == [futures[index] for index in (3, 1, 0, 4)]
        assert unpack(payload, None, ("d", "b", "a", "e")) == ["d", "b", "d", "a", "b", "e"]

    def test_numbered_anew_when_pickle_gives_up_half_way(self):
        a, b = Later(), Later()
        payload, placeholders = pack([a, lambda: None, b], None, subject="v")
        assert placeholders == [a, b]
        assert unpack(payload, None, (1, 2))[::2] == [1, 2]

    def test_items_of_a_future(self):
        a, b = Later(), Later()
        payload, placeholders = pack([Item(a, "x"), a, Item(b, 1, "y")], None, subject="v")
        assert placeholders == [a, b]
        assert unpack(payload, None, ({"x": 1}, [None, {"y": 2}])) == [1, {"x": 1}, 2]

    def test_a_future_as_the_key_of_an_item(self):
        a, b = Later(), Later()
        payload, placeholders = pack(Item(a, b), None, subject="v")
        assert placeholders == [a, b]
        assert unpack(payload, None, ({"k": "found"}, "k")) == "found"

    def test_inputs_that_are_payloads_are_unpacked_once(self, arena):
        a = Later()
        payload, _ = pack([a, {"again": a}, Item(a, 0)], arena, subject="v")
        result = packed([np.ones(ROW)], arena)
        one, other, item = unpack(payload, arena, (result,))
        assert one is other["again"]
        assert one[0] is item

    def test_a_missing_input(self):
        payload, _ = pack([Later(), Later()], None, subject="v")
        with pytest.raises(UsageError, match="needs input 1, and 1 are given"):
            unpack(payload, None, (5,))

    def test_inputs_do_not_see_those_around_them(self):
        inner, _ = pack(Later(), None, subject="v")
        with pytest.raises(UsageError, match="needs input 0, and 0 are given"):
            unpack(inner, None, (inner,))

    def test_not_outside_of_a_task(self):
        with pytest.raises(UsageError, match="a future can only be pickled as an argument of a task"):
            pickle.dumps([Later()])
        pack(Later(), None, subject="v")
        with pytest.raises(UsageError):
            pickle.dumps(Later())
        with pytest.raises(UsageError):
            fill(0)

    def test_a_pack_within_a_pack(self):
        a, b = Later(), Later()

        class Submits:
            def __reduce__(self) -> tuple[Any, ...]:
                assert pack([b], None, subject="inner")[1] == [b]
                return tuple, ([a],)

        assert pack([Submits(), a], None, subject="outer")[1] == [a]

    def test_threads_do_not_mix(self):
        wrong: list[int] = []

        def work(number: int) -> None:
            own = [Later() for _ in range(20)]
            for _ in range(50):
                payload, placeholders = pack(own, None, subject="v")
                if placeholders != own or unpack(payload, None, range(number, number + 20)) != [
                    *range(number, number + 20)
                ]:
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def closes_over(lock: object) -> Callable[[], object]:
    return lambda: lock


LOCK = threading.Lock()
BLAME = {
    "itself": (LOCK, "it is a _thread.lock"),
    "in a dictionary": ({"a": 1, "lock": LOCK}, "its part ['lock'] (a _thread.lock)"),
    "deep": ([1, ({"x": [LOCK]},)], "its part [1][0]['x'][0] (a _thread.lock)"),
    "a key": ({LOCK: 1}, "its part key <unlocked"),
    "in a set": ({LOCK}, "its part element <unlocked"),
    "in a dataclass": (Point(1, {"lock": LOCK}), "its part .y['lock'] (a _thread.lock)"),
    "in a slot": (Holder(slot=LOCK), "its part .slot (a _thread.lock)"),
    "in an attribute": (Holder(inner=Holder(lock=LOCK)), "its part .inner.lock (a _thread.lock)"),
    "in a closure": (closes_over(LOCK), "its part variable lock (a _thread.lock)"),
    "in a partial": (functools.partial(print, LOCK), "(a _thread.lock)"),
    "a bound method": (Holder(lock=LOCK).__init__, "its part constructor argument 0.lock (a _thread.lock)"),
    "a generator": ([0, 1, (number for number in range(2))], "its part [2] (a generator)"),
    "a stubborn object": ([Stubborn(KeyError("gone"))], "its part [0] (a "),
}


class TestNotPicklable:
    @pytest.mark.parametrize(("value", "blame"), BLAME.values(), ids=BLAME.keys())
    def test_names_the_part_to_blame(self, value, blame):
        with pytest.raises(NotPicklable) as caught:
            pack(value, None, subject="argument x of square")
        assert caught.value.message.startswith("argument x of square cannot be pickled: it")
        assert blame in caught.value.message
        assert caught.value.hint
        assert caught.value.__cause__ is not None

    def test_names_the_argument(self):
        with pytest.raises(NotPicklable, match=r"^argument 2 of square cannot be pickled: it is a _thread.lock"):
            pack_call((1, LOCK), {}, None, name="square")
        with pytest.raises(NotPicklable, match=r"^argument log of square cannot be pickled: its part \['lock'\]"):
            pack_call((1,), {"log": {"lock": LOCK}}, None, name="square")

    @pytest.mark.parametrize("error", [ValueError("no"), KeyError(3), RuntimeError(), pickle.PicklingError("x")])
    def test_whatever_the_users_code_raises(self, error, arena):
        with pytest.raises(NotPicklable) as caught:
            pack([Stubborn(error)], arena, subject="v")
        assert caught.value.__cause__ is error
        assert type(error).__name__ in caught.value.message

    def test_too_deep(self):
        with pytest.raises(NotPicklable, match="the list cannot be pickled: it is nested too deeply"):
            pack(nested(100_000), None, subject="the list")

    def test_a_cycle_with_a_lock(self):
        value: list[object] = [LOCK]
        value.insert(0, value)
        with pytest.raises(NotPicklable, match=r"its part \[1\]"):
            pack(value, None, subject="v")

    def test_placeholders_are_not_to_blame(self):
        with pytest.raises(NotPicklable, match=r"its part \[1\] \(a _thread.lock\)"):
            pack([Later(), LOCK], None, subject="v")

    def test_a_later_pack_is_not_disturbed(self):
        with pytest.raises(NotPicklable):
            pack([Later(), LOCK], None, subject="v")
        a = Later()
        assert pack([a], None, subject="v")[1] == [a]

    def test_buffers_of_a_failure_come_back(self, arena):
        for _ in range(20):
            with pytest.raises(NotPicklable):
                pack([np.ones(2**20), LOCK], arena, subject="v")


class TestBadPickles:
    @pytest.mark.parametrize("data", [b"", b"\x80\x05", b"nonsense", b"\x80\x05cno_such_module\nname\n."])
    def test_damaged(self, data):
        with pytest.raises((pickle.UnpicklingError, EOFError, ModuleNotFoundError)):
            unpack(Payload(data))

    def test_buffers_missing(self, arena):
        payload = packed(np.ones(ROW), arena)
        with pytest.raises(pickle.UnpicklingError):
            unpack(Payload(payload.data), arena)

    def test_the_objects_own_error_comes_through(self):
        payload = packed(Bomb())
        with pytest.raises(RuntimeError, match="no module of that name here"):
            unpack(payload)
