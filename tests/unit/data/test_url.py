from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.errors import UsageError
from heald.data import url as urls

# Every name that a POSIX filesystem takes, also those that are not UTF-8.
file_names = st.binary(min_size=1, max_size=60).filter(
    lambda name: not set(name) & set(b"\0/") and name not in (b".", b"..")
)


@given(file_names)
def test_a_local_path_comes_back_from_its_url(name: bytes) -> None:
    path = "/data/" + os.fsdecode(name)
    url = urls.absolute(path)
    assert url.isascii()
    assert urls.local_path(url) == path
    assert urls.absolute(url) == url
    assert urls.name(url) == os.fsdecode(name)


@given(st.text(min_size=1))
def test_the_name_is_one_part_whatever_the_url(text: str) -> None:
    name = urls.name("https://host/" + text)
    assert name
    assert not set(name) & {"/", "\0"}
    assert name not in (".", "..")


def test_relative_paths_are_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert urls.local_path(urls.absolute("a/./b")) == f"{tmp_path}/a/b"
    assert urls.absolute("zip://in.txt::archive.zip") == f"zip://in.txt::{tmp_path}/archive.zip"
    assert urls.absolute("zip://in.txt::file:///my%20data.zip") == "zip://in.txt::/my data.zip"


def test_parents_are_left_to_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # through a link, a/.. is not where it seems
    elsewhere = tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    (elsewhere.parent / "x").write_text("right")
    (tmp_path / "link").symlink_to(elsewhere)
    monkeypatch.chdir(tmp_path)
    path = urls.local_path(urls.absolute("link/../x"))
    assert path is not None
    assert Path(path).read_text() == "right"


@pytest.mark.parametrize("text", ["a::b", "run:1", "C:/x", "dir/http://x", "-n", "*", "~/x"])
def test_what_only_looks_like_a_url_is_a_path(text: str) -> None:
    assert urls.local_path(urls.absolute(text)) is not None


@pytest.mark.parametrize("text", ["", "a\0b", "file://far/x", "file://x", "file://"])
def test_what_names_no_file_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        urls.absolute(text)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a/b.txt?x=/y#z", "b.txt"),
        ("https://host/a/", "a"),
        ("https://host?x=/y", "file"),
        ("https://host/a%2F..%2Fb", "b"),
        ("https://host/%2e%2e", "file"),
        ("s3://bucket/a?b#c", "a?b#c"),
        ("simplecache::s3://bucket/k.txt", "k.txt"),
        ("zip://::/data/x.zip", "x.zip"),
        ("memory://x", "x"),
    ],
)
def test_names(url: str, name: str) -> None:
    assert urls.name(url) == name


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://token@host/x", "https://***@host/x"),
        ("zip://a::https://me:pw@host/x", "zip://a::https://***@host/x"),
        ("abfs://container@account/x", "abfs://container@account/x"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
    ],
)
def test_secrets_are_not_shown(url: str, shown: str) -> None:
    assert urls.redacted(url) == shown
