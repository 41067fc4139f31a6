from __future__ import annotations

import os
import stat

import msgspec
import pytest

from heald.core.errors import ConfigurationError
from heald.wire import key


def test_each_run_has_keys_of_its_own():
    one, other = key.new(), key.new()
    halves = {half for keys in (one, other) for pair in (keys.head, keys.agent) for half in (pair.public, pair.secret)}
    assert len(halves) == 8
    assert {len(half) for half in halves} == {40}


def test_a_secret_is_not_printed():
    keys = key.new()
    assert keys.head.secret not in repr(keys)
    assert keys.agent.secret not in f"{keys} {keys.agent!r}"


def test_a_run_that_is_started_again_has_the_same_keys(tmp_path):
    file = tmp_path / "keys.json"
    assert key.load(file) == key.load(file)


def test_the_file_is_the_users_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        key.load(tmp_path / "keys.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o602])
def test_a_file_that_others_could_read_or_change_is_refused(tmp_path, mode):
    file = tmp_path / "keys.json"
    key.load(file)
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match="could be read by others") as raised:
        key.load(file)
    assert raised.value.hint == f"delete it: rm {file}"
    with pytest.raises(ConfigurationError):
        key.read(file)


def test_a_file_of_another_user_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "keys.json"
    key.load(file)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ConfigurationError, match="could be read by others"):
        key.load(file)


def test_a_link_that_somebody_laid_is_not_followed(tmp_path):
    key.load(tmp_path / "keys.json")
    (tmp_path / "link").symlink_to(tmp_path / "keys.json")
    with pytest.raises(OSError, match="link"):
        key.load(tmp_path / "link")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"head": {"public": "x", "secret": "y"}, "agent": {"public": "x", "secret": "y"}}',
        msgspec.json.encode(key.new())[:-20],
    ],
)
def test_a_file_that_holds_no_keys(tmp_path, content):
    file = tmp_path / "keys.json"
    key.write(file, content)
    with pytest.raises(ConfigurationError, match=r"keys\.json holds no keys"):
        key.load(file)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "keys.json"
    key.write(file, b"one")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        key.write(file, b"two")
    assert file.read_bytes() == b"one"


def test_a_draft_that_lies_there_is_not_written_to(tmp_path):
    # Somebody could have laid it there, to read what is written.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch(0o666)
    (tmp_path / f".keys.json.{os.getpid()}").symlink_to(elsewhere)
    key.write(tmp_path / "keys.json", b"secret")
    assert elsewhere.read_bytes() == b""
    assert key.read(tmp_path / "keys.json") == b"secret"


def test_a_zeromq_that_cannot_encrypt(monkeypatch):
    import zmq

    monkeypatch.setattr(zmq, "has", lambda what: False)
    with pytest.raises(ConfigurationError, match="cannot encrypt"):
        key.new()
