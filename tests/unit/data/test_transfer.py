from __future__ import annotations

import copyreg
import hashlib
import os
import pickle
import resource
import socket
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import tblib.pickling_support
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from heald.core.errors import StagingError
from heald.data import transfer

from .conftest import Web, hangs_up, page

DATA = b"some data"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "x"


def nothing_left(target: Path) -> bool:
    return not target.parent.exists() or not os.listdir(target.parent)


class TestFetch:
    def test_brings_the_file(self, web: Web, target: Path) -> None:
        assert transfer.fetch(web.url("/data.txt"), target) == len(DATA)
        assert target.read_bytes() == DATA
        assert os.listdir(target.parent) == ["x"]
        assert web.requests == ["GET /data.txt"]

    def test_replaces_what_was_there(self, web: Web, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("old")
        transfer.fetch(web.url("/data.txt"), tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == DATA

    def test_quotes_what_needs_it_and_nothing_else(self, web: Web, target: Path) -> None:
        for path in ("/my run.txt", "/my%20run.txt"):
            transfer.fetch(web.url(path), target)
            assert target.read_bytes() == b"spaced"
        transfer.fetch(web.url("/data.txt?signature=a%2Fb%2B"), target)
        assert web.requests[-1] == "GET /data.txt?signature=a%2Fb%2B"

    def test_keeps_compressed_files_as_they_are_stored(self, web: Web, target: Path) -> None:
        transfer.fetch(web.url("/packed.gz"), target)
        assert target.read_bytes() == b"\x1f\x8b not really gzip"

    @pytest.mark.parametrize(
        ("path", "what"),
        [
            ("/404", "it does not exist"),
            ("/403", "the server answered 403 Forbidden\n  hint: it wants credentials"),
            ("/500", "the server answered 500 Internal Server Error"),
            ("/202", "the server answered 202 Accepted"),
            ("/204", "the server answered 204 No Content"),
        ],
    )
    def test_pages_that_are_no_data_are_refused_at_once(self, web: Web, target: Path, path: str, what: str) -> None:
        with pytest.raises(StagingError, match=f"cannot bring {web.url(path)}: {what}"):
            transfer.fetch(web.url(path), target)
        assert nothing_left(target)
        assert web.gets(path) == 1

    @pytest.mark.parametrize(("path", "what"), [("/short", "ClientPayloadError"), ("/hangs-up", "Disconnected")])
    def test_broken_connections_are_tried_again(self, web: Web, target: Path, path: str, what: str) -> None:
        with pytest.raises(StagingError, match=what):
            transfer.fetch(web.url(path), target)
        assert nothing_left(target)
        assert web.gets(path) >= 3  # aiohttp adds some of its own

    def test_a_second_try_may_succeed(self, web: Web, target: Path) -> None:
        def answer(handler: object) -> None:
            web.answers["/flaky"] = page(DATA)
            hangs_up(handler)  # type: ignore[arg-type]

        web.answers["/flaky"] = answer
        assert transfer.fetch(web.url("/flaky"), target) == len(DATA)

    def test_silence_ends(self, web: Web, target: Path) -> None:
        with pytest.raises(StagingError, match=r"nothing came or went for 0\.2 s"):
            transfer.fetch(web.url("/stalls"), target, timeout=0.2, attempts=1)
        assert nothing_left(target)

    def test_slow_is_not_silent(self, web: Web, target: Path) -> None:
        assert transfer.fetch(web.url("/slow"), target, timeout=0.8) == 10

    def test_nobody_there(self, web: Web, target: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            with pytest.raises(StagingError, match="ClientConnectorError"):
                transfer.fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/x", target)

    def test_digest_is_checked(self, web: Web, target: Path) -> None:
        transfer.fetch(web.url("/data.txt"), target, digest="sha256:" + hashlib.sha256(DATA).hexdigest())
        target.unlink()
        with pytest.raises(StagingError, match="is not what it should be"):
            transfer.fetch(web.url("/data.txt"), target, digest="sha256:" + hashlib.sha256(b"other").hexdigest())
        assert nothing_left(target)

    def test_failure_leaves_what_was_there(self, web: Web, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("old")
        with pytest.raises(StagingError):
            transfer.fetch(web.url("/404"), tmp_path / "x")
        assert (tmp_path / "x").read_text() == "old"
        assert os.listdir(tmp_path) == ["x"]

    def test_works_within_an_event_loop(self, web: Web, target: Path) -> None:
        import asyncio

        async def main() -> int:
            return transfer.fetch(web.url("/data.txt"), target)

        assert asyncio.run(main()) == len(DATA)

    def test_secrets_are_not_told(self, web: Web, target: Path) -> None:
        with pytest.raises(StagingError) as caught:
            transfer.fetch(web.url("/500").replace("//", "//me:secret@"), target)
        assert "secret" not in str(caught.value)

    @pytest.fixture
    def with_tracebacks(self) -> Iterator[None]:
        """All exceptions of the process are pickled with their tracebacks, for a while."""
        known = dict(copyreg.dispatch_table)
        tblib.pickling_support.install()
        yield
        copyreg.dispatch_table.clear()
        copyreg.dispatch_table.update(known)

    @pytest.mark.usefixtures("with_tracebacks")
    def test_errors_travel(self, web: Web, target: Path) -> None:
        for path in ("/500", "/404", "/hangs-up"):
            with pytest.raises(StagingError) as caught:
                transfer.fetch(web.url(path), target)
            assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


class Promising(MemoryFileSystem):  # type: ignore[misc]
    """Says of every file that it is there, nine bytes long."""

    def info(self, path: str, **_: object) -> dict[str, object]:
        return {"name": path, "size": len(DATA), "type": "file"}


class TestOtherProtocols:
    def test_memory(self, target: Path) -> None:
        fsspec.filesystem("memory").pipe("/fetch/x", DATA)
        assert transfer.fetch("memory://fetch/x", target) == len(DATA)
        assert target.read_bytes() == DATA

    def test_not_there(self, target: Path) -> None:
        with pytest.raises(StagingError, match="cannot bring memory://fetch/none: it does not exist"):
            transfer.fetch("memory://fetch/none", target)

    def test_a_folder_is_no_file(self, target: Path) -> None:
        fsspec.filesystem("memory").pipe("/fetch/folder/x", DATA)
        with pytest.raises(StagingError, match="it is a folder"):
            transfer.fetch("memory://fetch/folder", target)
        assert nothing_left(target)

    def test_zip(self, tmp_path: Path, target: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a b%.zip", "w") as archive:
            archive.writestr("in/x.txt", DATA)
        assert transfer.fetch(f"zip://in/x.txt::{tmp_path}/a b%.zip", target) == len(DATA)
        with pytest.raises(StagingError, match="it does not exist"):
            transfer.fetch(f"zip://in/y.txt::{tmp_path}/a b%.zip", target)

    def test_zip_over_http(self, web: Web, tmp_path: Path, target: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("x.txt", DATA)
        web.answers["/a.zip"] = page((tmp_path / "a.zip").read_bytes())
        assert transfer.fetch(f"zip://x.txt::{web.url('/a.zip')}", target) == len(DATA)
        with pytest.raises(StagingError, match="the server answered 500"):
            transfer.fetch(f"zip://x.txt::{web.url('/500')}", target)

    def test_unknown_protocol(self, target: Path) -> None:
        with pytest.raises(StagingError, match="Protocol not known: nonsense"):
            transfer.fetch("nonsense://x", target)

    def test_http_without_its_package(self, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "aiohttp", None)
        with pytest.raises(StagingError, match=r"pip install 'heald\[http\]'"):
            transfer.fetch("http://host/x", target)

    def test_cut_short_without_a_word(self, target: Path, register: Callable[..., None]) -> None:
        class Short(Promising):
            def get_file(self, rpath: str, lpath: str, **_: object) -> None:
                Path(lpath).write_bytes(b"12")

        register("short", Short)
        with pytest.raises(StagingError, match="only 2 of 9 bytes arrived"):
            transfer.fetch("short://x", target)

    def test_silence_ends_for_every_protocol(self, target: Path, register: Callable[..., None]) -> None:
        release, ended = threading.Event(), threading.Event()

        class Silent(Promising):
            def get_file(self, rpath: str, lpath: str, callback: fsspec.Callback, **_: object) -> None:
                try:
                    release.wait(20)
                    Path(lpath).write_bytes(DATA)
                    callback.relative_update(len(DATA))
                finally:
                    ended.set()

        register("silent", Silent)
        with pytest.raises(StagingError, match=r"nothing came or went for 0\.05 s"):
            transfer.fetch("silent://x", target, timeout=0.05)
        release.set()
        assert ended.wait(20)
        assert not target.exists()


class TestLocal:
    def test_copies(self, tmp_path: Path, target: Path) -> None:
        source = tmp_path / "a\nb 100%"
        source.write_bytes(DATA)
        source.chmod(0o755)
        assert transfer.fetch(source.as_uri(), target) == len(DATA)
        assert target.read_bytes() == DATA
        assert os.access(target, os.X_OK)

    def test_never_onto_itself(self, tmp_path: Path) -> None:
        source, link = tmp_path / "x", tmp_path / "link"
        source.write_bytes(DATA)
        link.symlink_to(source)
        before = source.stat()
        assert transfer.fetch(source.as_uri(), source) == len(DATA)
        assert transfer.fetch(source.as_uri(), link) == len(DATA)
        assert (source.stat().st_ino, source.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert link.is_symlink()

    def test_not_there_or_no_file(self, tmp_path: Path, target: Path) -> None:
        with pytest.raises(StagingError, match="it does not exist"):
            transfer.fetch((tmp_path / "none").as_uri(), target)
        with pytest.raises(StagingError, match="Is a directory"):
            transfer.fetch(tmp_path.as_uri(), target)

    def test_no_folder_to_put_it(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(DATA)
        with pytest.raises(StagingError, match="cannot bring"):
            transfer.fetch((tmp_path / "x").as_uri(), tmp_path / "x" / "y")


def test_a_full_disk_is_told(web: Web, tmp_path: Path) -> None:
    code = f"""
        from pathlib import Path
        from heald.core.errors import StagingError
        from heald.data.transfer import fetch
        try:
            fetch({web.url("/long")!r}, Path({str(tmp_path)!r}) / "x")
        except StagingError as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert "no room left on the disk" in run.stdout
    assert "free some space" in run.stdout
    assert run.stderr == ""
    assert not os.listdir(tmp_path)
    assert web.gets("/long") == 1


class TestDeliver:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        (tmp_path / "source").write_bytes(DATA)
        return tmp_path / "source"

    def test_local(self, source: Path, target: Path) -> None:
        assert transfer.deliver(source, target.as_uri()) == len(DATA)
        assert target.read_bytes() == DATA

    def test_memory(self, source: Path) -> None:
        assert transfer.deliver(source, "memory://deliver/x") == len(DATA)
        assert fsspec.filesystem("memory").cat("/deliver/x") == DATA

    def test_http_by_put(self, source: Path, web: Web) -> None:
        assert transfer.deliver(source, web.url("/new?a=b%2F")) == len(DATA)
        assert web.stored == {"/new?a=b%2F": DATA}

    def test_nobody_there(self, source: Path, web: Web) -> None:
        with pytest.raises(StagingError, match=r"cannot deliver http://.*: ClientConnectorError"):
            transfer.deliver(source, "http://127.0.0.1:1/x")

    def test_no_source(self, tmp_path: Path) -> None:
        with pytest.raises(StagingError, match="cannot deliver memory://x: it does not exist"):
            transfer.deliver(tmp_path / "none", "memory://x")

    def test_in_one_step_where_names_can_change(
        self, source: Path, tmp_path: Path, register: Callable[..., None]
    ) -> None:
        steps: list[str] = []

        class Renaming(DirFileSystem):  # type: ignore[misc]
            def __init__(self, **_: object) -> None:
                super().__init__(path=str(tmp_path / "far"), fs=fsspec.filesystem("file"))

            def put_file(self, lpath: str, rpath: str, **options: object) -> None:
                steps.append(Path(rpath).suffix)
                super().put_file(lpath, rpath, **options)

            def mv(self, path1: str, path2: str, **options: object) -> None:
                steps.append(path2)
                super().mv(path1, path2, **options)

        register("renaming", Renaming)
        transfer.deliver(source, "renaming://a/x")
        assert steps == [".part", "a/x"]
        assert os.listdir(tmp_path / "far" / "a") == ["x"]
        assert (tmp_path / "far" / "a" / "x").read_bytes() == DATA
        with pytest.raises(StagingError):
            transfer.deliver(source, "renaming://a/x/y")
        assert os.listdir(tmp_path / "far" / "a") == ["x"]

    def test_stored_short(self, source: Path, register: Callable[..., None]) -> None:
        class Lossy(Promising):
            def put_file(self, lpath: str, rpath: str, **_: object) -> None:
                """Takes it and keeps nothing."""

        source.write_bytes(DATA + DATA)
        register("lossy", Lossy)
        with pytest.raises(StagingError, match="only 9 of 18 bytes were stored"):
            transfer.deliver(source, "lossy://x", attempts=1)


class TestInfo:
    def test_what_the_server_says(self, web: Web) -> None:
        found = transfer.info(web.url("/data.txt"))
        assert found is not None
        assert found["size"] == len(DATA)
        assert found["ETag"] == '"one"'

    def test_not_there(self, web: Web) -> None:
        assert transfer.info(web.url("/404")) is None
        assert transfer.info("memory://info/none") is None

    def test_nobody_to_ask(self, web: Web) -> None:
        with pytest.raises(StagingError, match="cannot ask for"):
            transfer.info(web.url("/hangs-up"))


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Adds a filesystem to fsspec for one test."""
    monkeypatch.setattr(transfer, "PAUSE", 0.001)

    def add(protocol: str, kind: type[fsspec.AbstractFileSystem]) -> None:
        monkeypatch.setattr(kind, "protocol", protocol)
        fsspec.register_implementation(protocol, kind, clobber=True)

    return add
