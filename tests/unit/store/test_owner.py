from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from pathlib import Path

import msgspec
import pytest

from heald.core.errors import JournalLocked
from heald.store.owner import Owner, give, lock, owner_in, refuse_living, take, this_process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "my run.heald"
    folder.mkdir()
    return folder / "owner"


def changed(owner: Owner, **fields: object) -> Owner:
    return msgspec.structs.replace(owner, **fields)


def dead(nonce: str = "dead") -> Owner:
    """A process with this one's id, but of an earlier time."""
    return changed(this_process(), started="1", nonce=nonce)


def put(path: Path, owner: Owner) -> None:
    path.write_bytes(msgspec.json.encode(owner))


def test_a_process_lives_while_its_start_and_boot_agree() -> None:
    this = this_process()
    assert this.alive is True
    assert changed(this, started="1").alive is False
    assert changed(this, boot="another").alive is False
    assert changed(this, host="elsewhere").alive is None


def test_a_zombie_is_dead() -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        started = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19]
        assert changed(this_process(), pid=child, started=started).alive is False
    finally:
        os.waitpid(child, 0)


def test_the_file_says_who_in_words(path: Path) -> None:
    owner = this_process()
    take(path, owner)
    record = json.loads(path.read_text())
    assert (record["pid"], record["host"]) == (os.getpid(), socket.gethostname())
    assert owner_in(path) == owner
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["owner"]


def test_it_is_given_to_another(path: Path) -> None:
    take(path, this_process())
    path.with_name(".owner.dead").write_text("left by one that was killed while it gave")
    give(path, dead())
    assert owner_in(path) == dead()
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["owner"]


def test_a_living_owner_keeps_it(path: Path) -> None:
    first = this_process()
    take(path, first)
    with pytest.raises(JournalLocked, match=f"process {os.getpid()} of .* since 20") as caught:
        take(path, this_process())
    assert caught.value.hint == f"wait for it to end, or only look: heald run show '{path.parent}'"
    assert owner_in(path) == first


def test_an_owner_on_another_host_keeps_it(path: Path) -> None:
    put(path, changed(dead(), host="node7"))
    with pytest.raises(JournalLocked, match=r"on node7 .*cannot be seen from this host") as caught:
        take(path, this_process())
    assert f"remove {path}" in caught.value.hint


def test_a_dead_owner_is_replaced(path: Path) -> None:
    put(path, dead())
    owner = this_process()
    take(path, owner)
    assert owner_in(path) == owner
    assert os.listdir(path.parent) == ["owner"]


def test_a_claimant_that_died_while_taking_over_is_no_hindrance(path: Path) -> None:
    put(path, dead("first"))
    put(path.with_name("owner.first"), dead("second"))
    put(path.with_name("owner.first.second"), dead("third"))
    owner = this_process()
    take(path, owner)
    assert owner_in(path) == owner
    assert os.listdir(path.parent) == ["owner"]


def test_a_claimant_that_is_taking_over_wins(path: Path) -> None:
    first, winner = dead("first"), this_process()
    put(path, first)
    put(path.with_name("owner.first"), winner)
    with pytest.raises(JournalLocked):
        take(path, this_process())
    assert owner_in(path) == first
    assert owner_in(path.with_name("owner.first")) == winner


def test_a_slow_claimant_does_not_remove_the_winner(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(path, dead())
    winner, link_really = this_process(), os.link

    def win_first(draft: Path, name: Path) -> None:
        if name.name == "owner.dead":  # the slow one has seen the dead owner, and goes for its file
            put(path, winner)
        link_really(draft, name)

    monkeypatch.setattr(os, "link", win_first)
    with pytest.raises(JournalLocked):
        take(path, this_process())
    assert owner_in(path) == winner
    assert os.listdir(path.parent) == ["owner"]


def test_a_link_whose_answer_was_lost_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link_really = os.link

    def lose_the_answer(draft: Path, name: Path) -> None:
        link_really(draft, name)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", lose_the_answer)
    owner = this_process()
    take(path, owner)
    assert owner_in(path) == owner


def test_a_file_that_comes_and_goes_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(draft: Path, name: Path) -> None:
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(JournalLocked, match="comes and goes"):
        take(path, this_process())


@pytest.mark.parametrize("content", ["", "somebody", "{}"])
def test_a_file_that_names_nobody_is_for_a_human(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(JournalLocked, match="does not say who") as caught:
        refuse_living(path)
    assert f"remove {path}" in caught.value.hint


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_does_without(path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    os.close(lock(path))


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EACCES])
def test_a_lock_that_another_process_holds_is_refused(path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(JournalLocked, match="another process holds"):
        lock(path)


def test_a_broken_lock_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        lock(path)
