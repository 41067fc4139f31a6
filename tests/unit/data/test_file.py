from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.errors import StagingError, UsageError
from heald.data.file import File, collecting, staged

from .conftest import Web, page

MD5 = "md5:d41d8cd98f00b204e9800998ecf8427e"
names = st.binary(min_size=1, max_size=60).filter(
    lambda name: not set(name) & set(b"\0/") and name not in (b".", b"..")
)


@given(names)
def test_any_name_survives_text_and_pickle(name: bytes) -> None:
    path = os.path.join(b"/data", name)
    file = File(path)
    assert os.fsencode(file) == path
    assert os.fsencode(f"{file}") == path
    assert os.fsencode(file.path) == path
    assert os.fsencode(file.name) == name
    assert pickle.loads(pickle.dumps(file)) == file == File(str(file)) == File(file.url)
    assert eval(repr(file)) == file


def test_odd_names_are_read(tmp_path: Path) -> None:
    for name in (b"two\nlines", b"\xff\xfe", b"$(rm -rf x); 'y' \"z\" %41"):
        path = os.fsencode(tmp_path) + b"/" + name
        with open(path, "wb") as file:
            file.write(name)
        assert File(path).exists()
        assert File(path).read_bytes() == name


def test_relative_paths_are_of_the_folder_where_they_were_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = File("x.txt")
    monkeypatch.chdir("/")
    assert file.path == tmp_path / "x.txt"
    assert pickle.loads(pickle.dumps(file)).path == tmp_path / "x.txt"


def test_what_it_says() -> None:
    far = File("HTTPS://host/a%20b.tar.gz", digest=MD5)
    assert (far.url, far.scheme, far.name, far.suffix, far.local) == (
        "https://host/a%20b.tar.gz",
        "https",
        "a b.tar.gz",
        ".gz",
        False,
    )
    assert str(far) == f"{far}" == far.url
    assert repr(far) == f"File('https://host/a%20b.tar.gz', digest='{MD5}')"
    assert repr(File("ftp://me:secret@host/x")) == "File('ftp://me:***@host/x')"
    assert f"{File('/a/b'):>6}" == "  /a/b"


def test_equality_is_of_url_and_digest() -> None:
    assert File("/a") == File(Path("/a")) == File("file:///a") == File(File("/a"))
    assert File("/a") != File("/b")
    assert File("/a") != File("/a", digest=MD5)
    assert File("/a") != "/a"
    assert {File("s3://b/k"): 1}[File("s3://b/k")] == 1


def test_it_never_changes() -> None:
    with pytest.raises(AttributeError, match="never changes"):
        File("/a").url = "b"


def test_names_and_digests_are_checked() -> None:
    with pytest.raises(UsageError):
        File("")
    with pytest.raises(UsageError):
        File("/a", digest="nonsense")


def test_a_far_file_has_a_path_once_staged() -> None:
    file = File("s3://bucket/x")
    with pytest.raises(UsageError, match="no local path yet"):
        os.fspath(file)
    staged(file, "/scratch/x")
    assert (os.fspath(file), str(file), f"{file}", file.path) == ("/scratch/x",) * 3 + (Path("/scratch/x"),)
    assert file == File("s3://bucket/x")
    assert not file.local
    with pytest.raises(UsageError):  # the copy is this machine's
        os.fspath(pickle.loads(pickle.dumps(file)))


def test_pickles_are_small() -> None:
    assert len(pickle.dumps(File("/data/x"), 5)) < 80


def test_unpickled_files_are_collected_however_deep() -> None:
    same = File("/same")
    arguments = pickle.dumps(([same, same, {"x": (File("s3://b/k"),)}], {"y": File("/same")}))
    with collecting() as files:
        (listed, _) = pickle.loads(arguments)
        with collecting() as inner:
            pickle.loads(pickle.dumps(File("/inner")))
        other = threading.Thread(target=pickle.loads, args=(arguments,))
        other.start()
        other.join()
    assert files == [same, File("s3://b/k"), same]
    assert files[0] is listed[0] is listed[1]
    assert inner == [File("/inner")]
    pickle.loads(arguments)
    assert len(files) == 3


def test_those_that_leave_are_collected_on_their_own() -> None:
    with collecting("pickled") as left, collecting() as arrived:
        pickle.loads(pickle.dumps(([File("/a")], File("s3://b/k"))))
    assert left == arrived == [File("/a"), File("s3://b/k")]
    assert left[0] is not arrived[0]


def test_files_are_written(tmp_path: Path) -> None:
    file = File(tmp_path / "out.txt")
    file.write_text("température\n")
    assert file.path.read_bytes() == "température\n".encode()
    file.write_bytes(b"\xff")
    assert file.read_bytes() == b"\xff"
    File("memory://test-written/x").write_text("hello")
    assert File("memory://test-written/x").read_text() == "hello"


def test_far_files_are_read_and_asked_for(web: Web) -> None:
    file = File(web.url("/data.txt"))
    assert file.read_text() == "some data"
    with file.open() as text:
        assert text.read() == "some data"
    assert file.exists()
    assert not File(web.url("/404")).exists()
    with pytest.raises(StagingError, match="the server answered 500"):
        File(web.url("/500")).exists()
    with pytest.raises(StagingError, match="it does not exist"):
        File(web.url("/404")).open()


def test_far_files_are_written_where_they_can_be() -> None:
    with File("memory://test-file/x").open("w") as file:
        file.write("hello")
    assert File("memory://test-file/x").read_text() == "hello"


def test_nothing_is_left_open_by_reading(web: Web) -> None:
    code = f"import heald.data.file; print(heald.data.file.File({web.url('/data.txt')!r}).read_text())"
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.stdout, run.stderr) == ("some data\n", "")


class TestDigest:
    def test_of_local_files_is_of_content(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("same")
        (tmp_path / "b").write_text("same")
        assert digest(File(tmp_path / "a")) == digest(File(tmp_path / "b"))
        (tmp_path / "b").write_text("some")
        assert digest(File(tmp_path / "a")) != digest(File(tmp_path / "b"))

    def test_of_what_is_not_there_is_of_the_name(self, tmp_path: Path) -> None:
        assert digest(File(tmp_path / "a")) == digest(File(tmp_path / "a")) != digest(File(tmp_path / "b"))

    def test_given_is_believed(self, web: Web) -> None:
        assert digest(File(web.url("/a"), digest=MD5)) == digest(File("/b", digest=MD5)) != digest(File("/b"))
        assert not web.requests

    def test_of_far_files_is_of_what_the_server_says(self, web: Web) -> None:
        asked = File(web.url("/data.txt?1"))
        again = File(web.url("/data.txt?1"))
        assert digest(asked) == digest(again)
        assert web.requests == ["HEAD /data.txt?1"]

    def test_of_far_files_changes_with_their_etag(self, web: Web) -> None:
        from heald.data import file as module

        file = File(web.url("/data.txt"))
        before = digest(file)
        web.answers["/data.txt"] = page(b"some data", ETag='"two"')
        module._far_digest.cache_clear()
        assert digest(file) != before

    def test_of_unreachable_files_is_of_the_url(self) -> None:
        assert digest(File("nonsense://x/y")) == digest(File("nonsense://x/y")) != digest(File("nonsense://x/z"))

    def test_of_objects_in_memory_changes(self) -> None:
        from heald.data import file as module

        file = File("memory://test-digest/x")
        fsspec.filesystem("memory").pipe("/test-digest/x", b"1")
        before = digest(file)
        fsspec.filesystem("memory").pipe("/test-digest/x", b"22")
        module._far_digest.cache_clear()
        assert digest(file) != before


def digest(file: File) -> bytes:
    found = file.__heald_digest__()
    assert len(found) == 16
    return found
