from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from heald.core.errors import JournalCorrupt, JournalError, JournalLocked, UsageError
from heald.core.ref import Ref
from heald.store.folder import Buffer, Folder, prune, runs_directory, scratch_run
from heald.store.owner import this_process

# Claims and releases as it is told, and says how it went. Argument "without-locks": as on a file system without.
CLAIMANT = """if True:
    import errno, fcntl, os, sys
    from heald.core.errors import JournalLocked
    from heald.store.folder import Folder
    if "without-locks" in sys.argv:
        def lockf(*arguments):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        fcntl.lockf = lockf
    print("ready", flush=True)
    for line in sys.stdin:
        verb, _, path = line.strip().partition(" ")
        if verb == "claim":
            folder = Folder(path)
        try:
            getattr(folder, verb)()
        except JournalLocked:
            print("lost", flush=True)
        else:
            print("won", flush=True)
"""


class Claimant:
    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-c", CLAIMANT, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """Kills it and leaves it a zombie: gone, but not waited for."""
        self.process.kill()
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def __enter__(self) -> Claimant:
        assert self.answer() == "ready"
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        with self.process:
            pass


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path / "run.heald")
    yield folder
    folder.release()


def test_naming_a_folder_makes_nothing(folder: Folder) -> None:
    assert folder.owner is None
    assert not folder.path.exists()


def test_a_claimed_folder_is_ready_and_private(folder: Folder) -> None:
    folder.claim()
    assert folder.journal == folder.path / "journal.log"
    for directory in (folder.path, folder.objects, folder.logs):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert (folder.path / "owner").stat().st_mode & 0o777 == 0o600


def test_a_claim_is_kept_until_release(folder: Folder) -> None:
    folder.claim()
    folder.claim()
    with pytest.raises(JournalLocked):
        Folder(folder.path).claim()
    folder.release()
    folder.release()
    assert folder.owner is None
    other = Folder(folder.path)
    other.claim()
    other.release()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"cannot claim .*Not a directory"):
        Folder(tmp_path / "file" / "run.heald").claim()


def test_release_leaves_what_another_has_taken_by_force(folder: Folder) -> None:
    folder.claim()
    (folder.path / "owner").unlink()
    (folder.path / "owner").write_bytes(msgspec.json.encode(this_process()))
    folder.release()
    assert folder.owner is not None


def test_a_run_can_be_given_back_to_its_dead_owner(folder: Folder) -> None:
    gone = msgspec.structs.replace(this_process(), started="1")
    folder.path.mkdir()
    (folder.path / "owner").write_bytes(msgspec.json.encode(gone))
    folder.claim()
    folder.release(gone)
    assert folder.owner == gone
    other = Folder(folder.path)
    other.claim()
    other.release()
    assert other.owner is None


def test_a_living_process_keeps_its_run_and_a_killed_one_does_not(folder: Folder) -> None:
    with Claimant() as claimant:
        claimant.tell(f"claim {folder.path}")
        assert claimant.answer() == "won"
        with pytest.raises(JournalLocked, match=f"process {claimant.process.pid} "):
            folder.claim()
        claimant.kill()
        folder.claim()
    assert folder.owner is not None
    assert folder.owner.pid == os.getpid()


def test_the_lock_holds_where_the_owner_file_was_removed(folder: Folder) -> None:
    with Claimant() as claimant:
        claimant.tell(f"claim {folder.path}")
        assert claimant.answer() == "won"
        (folder.path / "owner").unlink()
        with pytest.raises(JournalLocked, match="another process holds"):
            folder.claim()


@pytest.mark.parametrize("arguments", [(), ("without-locks",)], ids=["locks", "no-locks"])
@pytest.mark.parametrize("left", [False, True], ids=["new", "left-by-a-dead-owner"])
def test_of_several_claimants_exactly_one_wins(tmp_path: Path, arguments: tuple[str, ...], left: bool) -> None:
    with ExitStack() as stack:
        claimants = [stack.enter_context(claimant) for claimant in [Claimant(*arguments) for _ in range(4)]]
        for number in range(50):
            path = tmp_path / f"{number}.heald"
            if left:
                path.mkdir()
                gone = msgspec.structs.replace(this_process(), started="1")
                (path / "owner").write_bytes(msgspec.json.encode(gone))
            for claimant in claimants:
                claimant.tell(f"claim {path}")
            answers = [claimant.answer() for claimant in claimants]
            assert sorted(answers) == ["lost", "lost", "lost", "won"]
            winner = claimants[answers.index("won")]
            owner = Folder(path).owner
            assert owner is not None
            assert owner.pid == winner.process.pid
            assert sorted(os.listdir(path)) == ["lock", "logs", "objects", "owner"]
            winner.tell("release")
            assert winner.answer() == "won"


def test_a_forked_child_does_not_release(folder: Folder) -> None:
    script = """if True:
        import os, sys
        from heald.store.folder import Folder
        folder = Folder(sys.argv[1])
        folder.claim()
        if (child := os.fork()) == 0:
            folder.release()
            os._exit(0 if folder.owner else 1)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    subprocess.run([sys.executable, "-c", script, str(folder.path)], check=True)
    folder.claim()


# Objects ----------------------------------------------------------------------------------------------------------


def test_bytes_come_back_by_their_name(folder: Folder) -> None:
    ref = folder.put(b"pickled")
    assert ref.uri == "object:" + ref.digest
    assert ref.size == 7
    assert folder.get(ref) == b"pickled"
    path = folder.objects / ref.digest[:2] / ref.digest
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_buffers_are_kept_as_one(folder: Folder) -> None:
    buffers: list[Buffer] = [b"one", bytearray(b"two"), memoryview(b"three"), pickle.PickleBuffer(b"four"), b""]
    assert folder.put(iter(buffers)) == folder.put(b"onetwothreefour")
    assert folder.put([]) == folder.put(b"")
    wide = memoryview(bytes(range(16))).cast("I")
    assert folder.get(folder.put(wide)) == bytes(range(16))


def test_what_is_there_is_not_written_again(folder: Folder) -> None:
    ref = folder.put(b"same")
    path = folder.objects / ref.digest[:2] / ref.digest
    before = path.stat()
    assert folder.put(b"same") == ref
    assert path.stat().st_ino == before.st_ino
    path.write_bytes(b"")  # as a power failure may leave it
    assert folder.put(b"same") == ref
    assert folder.get(ref) == b"same"
    assert os.listdir(path.parent) == [ref.digest]


def test_many_may_put_the_same(folder: Folder) -> None:
    with ThreadPoolExecutor(8) as pool:
        refs = set(pool.map(folder.put, [b"x" * 100_000] * 50))
    assert len(refs) == 1
    assert len(folder.get(refs.pop())) == 100_000


def test_what_nobody_uses_is_swept(folder: Folder) -> None:
    folder.claim()
    kept, left = folder.put(b"kept"), folder.put(b"left")
    (folder.objects / left.digest[:2] / ".draft").touch()  # of one that was killed while it wrote
    folder.sweep({kept.digest})
    assert folder.get(kept) == b"kept"
    assert [path.name for path in folder.objects.glob("??/*")] == [kept.digest]


def test_a_damaged_object_is_refused(folder: Folder) -> None:
    ref = folder.put(b"sound")
    path = folder.objects / ref.digest[:2] / ref.digest
    path.write_bytes(b"Sound")
    assert folder.has(ref)
    with pytest.raises(JournalCorrupt, match="is damaged") as raised:
        folder.get(ref)
    assert raised.value.hint.startswith("remove it and start the script again")
    path.write_bytes(b"So")
    assert not folder.has(ref)
    path.unlink()
    assert not folder.has(ref)
    with pytest.raises(JournalCorrupt, match="is gone"):
        folder.get(ref)


@pytest.mark.parametrize("uri", ["object:../../../etc/passwd", "file:///etc/passwd", "object:", "object:" + "A" * 32])
def test_what_is_no_object_is_refused(folder: Folder, uri: str) -> None:
    with pytest.raises(UsageError, match="names no object"):
        folder.get(Ref(uri))


def test_an_object_that_cannot_be_written_is_told(folder: Folder) -> None:
    folder.path.mkdir()
    folder.objects.touch()
    with pytest.raises(JournalError, match="cannot write"):
        folder.put(b"bytes")


# Scratch runs -----------------------------------------------------------------------------------------------------


def test_the_runs_directory_is_under_the_state_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert runs_directory() == tmp_path / "heald" / "runs"
    monkeypatch.setenv("HOME", "/home/ada")
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_STATE_HOME", ignored)
        assert runs_directory() == Path("/home/ada/.local/state/heald/runs")


def test_scratch_runs_are_new_and_ours() -> None:
    runs = [scratch_run() for _ in range(3)]
    assert len({run.path for run in runs}) == 3
    for run in runs:
        assert run.path.parent == runs_directory()
        assert f"-{os.getpid()}" in run.path.name
        assert run.owner is not None
        assert run.owner.alive
        run.release()
    assert runs_directory().stat().st_mode & 0o777 == 0o700


def test_a_place_where_no_scratch_run_can_be_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nobody")
    with pytest.raises(JournalError, match="cannot make /proc/nobody/heald/runs/") as caught:
        scratch_run()
    assert "XDG_STATE_HOME" in caught.value.hint


def test_prune_keeps_the_newest_and_all_that_live() -> None:
    assert prune() == []
    runs_directory().mkdir(parents=True)
    old = [Folder(runs_directory() / f"20240101-00000{second}-77") for second in range(5)]
    for run in old:
        run.claim()
    for run in old[1:]:
        run.release()
    other = Folder(runs_directory() / "a name of somebody")
    other.path.mkdir()
    newest = scratch_run()
    assert prune(keep=2, pretend=True) == [old[2].path, old[1].path]
    assert old[1].path.exists()
    assert prune(keep=2) == [old[2].path, old[1].path]
    left = {run.path for run in (old[0], old[3], old[4], other, newest)}
    assert set(runs_directory().iterdir()) == left
    newest.release()
    old[0].release()
    assert set(prune(keep=0)) == left - {other.path}


def test_prune_passes_over_a_run_that_is_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = scratch_run()
    run.release()
    with Claimant() as claimant:

        def taken_up(folder: Folder) -> bool:
            claimant.tell(f"claim {run.path}")
            return claimant.answer() == "won"

        monkeypatch.setattr("heald.store.folder._ended", taken_up)
        assert prune(keep=0) == []
        claimant.process.send_signal(signal.SIGKILL)
        claimant.process.wait()
    assert run.path.exists()
