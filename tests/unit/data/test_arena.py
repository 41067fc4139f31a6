from __future__ import annotations

import array
import gc
import mmap
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from heald.core.errors import UsageError
from heald.core.ref import Ref
from heald.data import arena as module
from heald.data.arena import OWNERS, PAGE, Arena, ArenaFull

LARGE = 2**20  # mapped by a reader
SMALL = 2**16  # copied by a reader


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(capacity=2**26)
    yield made
    made.close()


def offset(ref: Ref) -> int:
    return int(ref.uri.removeprefix("shm:"))


def resident(arena: Arena) -> int:
    return os.fstat(arena.fd).st_blocks * 512


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, SMALL, LARGE, LARGE + 5])
def test_what_is_written_is_read(arena, size):
    content = os.urandom(size)
    ref = arena.write(content)
    assert ref.size == size
    assert offset(ref) % PAGE == 0
    assert arena.read(ref) == content


def test_buffers_of_all_kinds(arena):
    for buffer in (b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4], memoryview(array.array("i", [1, 2, 3]))):
        assert arena.read(arena.write(buffer)) == memoryview(buffer).cast("B")


def test_a_buffer_of_several_chunks(arena, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 1000)
    content = os.urandom(SMALL)
    assert arena.read(arena.write(content)) == content


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_a_reader_writes_is_its_own(arena, size):
    ref = arena.write(b"a" * size)
    one, other = arena.read(ref), arena.read(ref)
    one[:3] = b"bbb"
    other[-1:] = b"c"
    assert bytes(one[:4]) == b"bbba"
    assert bytes(other[:4]) == b"aaaa"
    assert arena.read(ref) == b"a" * size


def test_space_of_a_collected_ref_is_used_again(arena):
    ref = arena.write(bytes(LARGE))
    kept = arena.write(bytes(LARGE))
    first = offset(ref)
    del ref
    again = arena.write(bytes(LARGE))
    assert offset(again) == first
    assert offset(kept) != first


def test_a_view_keeps_its_ref(arena):
    view = arena.read(arena.write(b"a" * LARGE))
    later = [arena.write(b"b" * LARGE) for _ in range(3)]
    assert view == b"a" * LARGE
    assert len({offset(ref) for ref in later}) == 3


def test_free_by_hand_and_by_collection_is_free_once(arena):
    ref = arena.write(bytes(LARGE))
    arena.free(ref)
    arena.free(ref)
    first = arena.write(bytes(LARGE))
    assert offset(first) == offset(ref)
    del ref
    second = arena.write(bytes(LARGE))
    assert offset(second) != offset(first)


def test_full(arena):
    kept = [arena.write(bytes(2**24)) for _ in range(4)]
    with pytest.raises(ArenaFull, match="no room for 4096 bytes"):
        arena.write(b"x")
    kept.pop()
    arena.write(b"x")


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_on_release_when_the_last_user_is_gone(arena, size):
    released: list[Ref] = []
    ref = arena.write(b"a" * size)
    view = arena.read(ref, released.append)
    part = view[10:20]
    del view
    if size == LARGE:
        assert released == []
    del part
    gc.collect()
    assert released == [ref]


def test_adopted_refs_tell_when_they_are_collected(arena):
    released: list[Ref] = []
    ref = arena.write(bytes(LARGE))
    decoded = arena.adopt(Ref(ref.uri, ref.size), released.append)
    view = arena.read(decoded)
    del decoded
    assert released == []
    del view
    assert released == [ref]


def test_a_copy_instead_of_a_mapping_when_there_are_no_descriptors(arena, monkeypatch):
    def refuse(*args: object, **options: object) -> None:
        raise OSError(24, "Too many open files")

    content = os.urandom(LARGE)
    ref = arena.write(content)
    monkeypatch.setattr(module, "mmap", refuse)
    released: list[Ref] = []
    view = arena.read(ref, released.append)
    assert view == content
    assert released == [ref]
    view[0] = 0


@pytest.mark.parametrize(
    ("uri", "size"),
    [
        ("file:/tmp/x", 10),
        ("shm:", 10),
        ("shm:-4096", 10),
        ("shm:x", 10),
        ("shm:²", 10),
        ("shm:17", 10),
        ("shm:0", -1),
        ("shm:0", 2**60),
        (f"shm:{2**60}", 10),
        (f"shm:{2**36 - PAGE}", PAGE + 1),
    ],
)
def test_refs_that_name_nothing_here(arena, uri, size):
    with pytest.raises(UsageError, match="names no memory of this run"):
        arena.read(Ref(uri, size))
    with pytest.raises(UsageError, match="names no memory of this run"):
        arena.free(Ref(uri, size))


def test_only_the_owner_frees(arena):
    other = Arena(fd=os.dup(arena.fd), owner=3, capacity=2**20)
    ref = other.write(b"mine")
    with pytest.raises(UsageError, match="belongs to another process"):
        arena.free(ref)
    assert arena.read(ref) == b"mine"
    other.close()


@pytest.mark.parametrize("wrong", [{"owner": -1}, {"owner": OWNERS}, {"capacity": 0}])
def test_wrong_settings(wrong):
    with pytest.raises(UsageError):
        Arena(**wrong)


def test_closed(arena):
    one = Arena(capacity=2**20)
    ref = one.write(b"a" * 2**19)
    view = one.read(ref)
    one.close()
    assert view == b"a" * 2**19
    with pytest.raises(ArenaFull):
        one.write(b"x")
    with pytest.raises(UsageError, match="closed"):
        one.read(ref)


def test_pages_that_were_not_needed_since_the_last_trim_go_back(arena, monkeypatch):
    monkeypatch.setattr(module, "_WARM", 2 * LARGE)
    kept = arena.write(b"k" * LARGE)
    assert not arena.swollen
    refs = [arena.write(b"a" * LARGE) for _ in range(8)]
    assert arena.swollen
    refs.clear()
    arena.trim(0.0)
    assert resident(arena) == 9 * LARGE  # all were in use at once
    arena.trim(9.9)
    assert resident(arena) == 9 * LARGE  # too soon
    assert arena.swollen
    arena.trim(10.0)
    assert resident(arena) == 2 * LARGE
    assert not arena.swollen
    assert arena.read(kept) == b"k" * LARGE
    assert arena.read(arena.write(b"b" * LARGE)) == b"b" * LARGE


def test_much_goes_back_in_parts(arena, monkeypatch):
    monkeypatch.setattr(module, "_WARM", 0)
    monkeypatch.setattr(module, "_TRIMMED", 3 * LARGE)
    refs = [arena.write(b"a" * LARGE) for _ in range(8)]
    kept = refs.pop(4)
    refs.clear()
    sizes = []
    for number in range(5):
        sizes.append((resident(arena) // LARGE, arena.swollen))
        arena.trim(number * 10.0)
    assert sizes == [(8, True), (8, True), (5, True), (2, True), (1, True)]
    assert arena.read(kept) == b"a" * LARGE


def test_discard_of_a_dead_owner(arena):
    other = Arena(fd=os.dup(arena.fd), owner=1, capacity=2**22)
    lost = other.write(b"a" * LARGE)
    kept = arena.write(b"k" * LARGE)
    arena.discard(1)
    assert resident(arena) == LARGE
    assert arena.read(kept) == b"k" * LARGE
    assert arena.read(lost) == bytes(LARGE)
    with pytest.raises(UsageError):
        arena.discard(0)
    other.close()


def test_numbers_of_owners_are_given_once(arena):
    first, second = arena.appoint(), arena.appoint()
    assert len({arena.owner, first, second}) == 3
    arena.discard(first)
    assert arena.appoint() == first


def test_there_are_only_so_many_owners(arena):
    arena._appointed.update(range(OWNERS))
    with pytest.raises(ArenaFull):
        arena.appoint()


class TestShare:
    def test_one_copy_while_nothing_changes(self, arena):
        numbers = array.array("B", bytes(LARGE))
        assert arena.share(memoryview(numbers)) is arena.share(memoryview(numbers))

    def test_a_change_makes_a_new_copy(self, arena):
        numbers = array.array("B", bytes(LARGE))
        before = arena.share(memoryview(numbers))
        numbers[-1] = 1
        after = arena.share(memoryview(numbers))
        assert offset(after) != offset(before)
        assert arena.read(before)[-1] == 0
        assert arena.read(after)[-1] == 1

    def test_parts_of_one_object_are_told_apart(self, arena):
        memory = mmap.mmap(-1, 2 * LARGE)
        memory[:] = b"a" * LARGE + b"b" * LARGE
        whole = memoryview(memory)
        one, other = arena.share(whole[:LARGE]), arena.share(whole[LARGE:])
        assert arena.read(one)[0] == ord("a")
        assert arena.read(other)[0] == ord("b")

    def test_free_when_the_object_and_all_refs_are_gone(self, arena):
        numbers = array.array("B", bytes(LARGE))
        ref = arena.share(memoryview(numbers))
        first = offset(ref)
        del numbers
        assert offset(arena.write(bytes(LARGE))) != first
        del ref
        assert offset(arena.write(bytes(LARGE))) == first

    def test_the_object_alone_keeps_the_copy(self, arena):
        numbers = array.array("B", bytes(LARGE))
        first = offset(arena.share(memoryview(numbers)))
        assert offset(arena.write(bytes(LARGE))) != first
        assert offset(arena.share(memoryview(numbers))) == first

    def test_kept_copies_yield_when_there_is_no_room(self, arena):
        arrays = [array.array("B", bytes([index])) * 2**25 for index in range(5)]
        for index, numbers in enumerate(arrays):
            assert arena.read(arena.share(memoryview(numbers)))[0] == index

    def test_objects_without_weak_references(self, arena):
        numbers = bytearray(LARGE)
        assert arena.read(arena.share(memoryview(numbers))) == numbers


def test_many_threads(arena):
    wrong: list[object] = []

    def work(number: int) -> None:
        refs: list[tuple[Ref, bytes]] = []
        for turn in range(60):
            content = bytes([number, turn]) * (1000 * (turn % 9 + 1) * 16)
            refs.append((arena.write(content), content))
            if len(refs) > 3:
                ref, content = refs.pop(turn % 3)
                if arena.read(ref) != content:
                    wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    gc.collect()
    assert offset(arena.write(bytes(2**26))) == 0  # all came back, and merged


def test_a_finalizer_that_runs_inside_write_does_without(arena):
    outcomes: list[object] = []

    def act() -> int:
        # As when the garbage collector starts here and a finalizer submits something.
        try:
            outcomes.append(arena.write(b"x"))
        except ArenaFull as error:
            outcomes.append(error)
        arena.trim(0.0)
        return 0

    assert arena._alone(act) == 0
    assert [type(outcome) for outcome in outcomes] == [ArenaFull]
    arena.write(b"x")


def test_refs_in_cycles_are_collected_during_writes(arena):
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(300):  # far more than there is room for
            cycle: list[object] = [arena.write(bytes(LARGE))]
            cycle.append(cycle)
            del cycle
            gc.collect(0)
    finally:
        gc.set_threshold(*thresholds)


CHILD = """
import sys
from heald.core.ref import Ref
from heald.data.arena import Arena
arena = Arena(fd=int(sys.argv[1]), owner=1, capacity=2**24)
view = arena.read(Ref(sys.argv[2], 2**20))
view[:5] = b"child"
ref = arena.write(view)
print(ref.uri)
"""


def test_another_process_reads_and_writes(arena):
    ref = arena.write(b"driver" + bytes(2**20 - 6))
    command = [sys.executable, "-c", CHILD, str(arena.fd), ref.uri]
    done = subprocess.run(command, pass_fds=[arena.fd], capture_output=True, text=True, check=True, timeout=60)
    answer = Ref(done.stdout.strip(), 2**20)
    assert bytes(arena.read(answer)[:6]) == b"childr"
    assert bytes(arena.read(ref)[:6]) == b"driver"


def test_a_forked_child_reads_but_leaves_the_rest_to_its_parent(arena):
    content = array.array("B", b"a" * LARGE)
    released: list[Ref] = []
    ref = arena.share(memoryview(content))
    view = arena.read(ref, released.append)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            read = arena.read(ref) == content.tobytes()
            arena.trim(0.0)
            try:
                arena.share(memoryview(content))
            except ArenaFull:
                del view
                gc.collect()
                status = 0 if read and not released else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert view == content.tobytes()


def test_smaller_strides_under_a_limit_on_file_sizes():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**44, hard))
        small = Arena(capacity=2**20)
        assert os.fstat(small.fd).st_size == 2**44
        assert small.read(small.write(b"abc")) == b"abc"
        small.close()
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, hard))
        with pytest.raises(OSError, match="no shared memory: a file of"):
            Arena()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_without_memfd_create_in_python(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    one = Arena(capacity=2**20)
    assert not os.get_inheritable(one.fd)
    assert one.read(one.write(b"abc")) == b"abc"
    one.close()


def test_capacity_follows_the_machine():
    one = Arena()
    assert one.capacity % PAGE == 0
    assert one.capacity <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 + PAGE
    one.close()
