from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heald.core.errors import OutputMissing, StagingError
from heald.data.file import File
from heald.data.staging import prepare_outputs, stage_in, stage_out

from .conftest import Web, held, page

Spawn = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return tmp_path / "task"


@pytest.fixture
def spawn(task: Path, cache: Path) -> Spawn:
    """Starts a process that stages one URL into a folder of its own, and prints "ready", then what it got."""

    def start(url: str, name: str) -> subprocess.Popen[str]:
        code = f"""
            import aiohttp, fsspec.implementations.http
            from pathlib import Path
            from heald.data.file import File
            from heald.data.staging import stage_in
            file = File({url!r})
            print("ready", flush=True)
            stage_in([file], Path({str(task / name)!r}), Path({str(cache)!r}))
            print(file.read_text(), flush=True)
        """
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return start


class TestStageIn:
    def test_far_files_get_a_path(self, web: Web, task: Path, cache: Path) -> None:
        file = File(web.url("/data.txt"))
        stage_in([file], task, cache)
        assert file.path == task / "data.txt"
        assert file.read_text() == Path(f"{file}").read_text() == "some data"

    def test_local_files_stay_where_they_are(self, tmp_path: Path, task: Path, cache: Path) -> None:
        (tmp_path / "x").write_text("data")
        digest = "sha256:" + hashlib.sha256(b"data").hexdigest()
        file = File(tmp_path / "x", digest=digest)
        stage_in([file, File(tmp_path)], task, cache)
        assert file.path == tmp_path / "x"
        assert not cache.exists()
        assert not task.exists()

    def test_local_files_must_be_there(self, tmp_path: Path, task: Path, cache: Path) -> None:
        with pytest.raises(StagingError, match=f"^{tmp_path}/none does not exist"):
            stage_in([File(tmp_path / "none")], task, cache)

    def test_local_files_must_be_those_promised(self, tmp_path: Path, task: Path, cache: Path) -> None:
        (tmp_path / "x").write_text("data")
        with pytest.raises(StagingError, match="is not what it should be"):
            stage_in([File(tmp_path / "x", digest="md5:" + "0" * 32)], task, cache)
        with pytest.raises(StagingError, match=r"cannot read .*Is a directory"):
            stage_in([File(tmp_path, digest="md5:" + "0" * 32)], task, cache)

    def test_once_a_machine(self, web: Web, tmp_path: Path, cache: Path) -> None:
        files = [File(web.url("/data.txt")) for _ in range(3)]
        stage_in(files[:2], tmp_path / "a", cache)
        stage_in(files[2:], tmp_path / "b", cache)
        assert web.requests == ["GET /data.txt"]
        assert files[0].path == files[1].path
        assert files[2].path.samefile(files[0].path)

    def test_twice_into_one_folder_is_once(self, web: Web, task: Path, cache: Path) -> None:
        for _ in range(2):
            file = File(web.url("/data.txt"))
            stage_in([file], task, cache)
            assert file.path == task / "data.txt"
        assert os.listdir(task) == ["data.txt"]

    def test_equal_content_of_other_urls_is_brought_once(self, web: Web, task: Path, cache: Path) -> None:
        digest = "md5:" + hashlib.md5(b"some data").hexdigest()
        stage_in([File(web.url("/data.txt"), digest=digest)], task, cache)
        stage_in([File(web.url("/elsewhere"), digest=digest)], task, cache)
        assert web.requests == ["GET /data.txt"]
        assert sorted(os.listdir(task)) == ["data.txt", "elsewhere"]

    def test_equal_names_do_not_meet(self, web: Web, task: Path, cache: Path) -> None:
        for number in range(3):
            web.answers[f"/{number}/x"] = page(str(number).encode())
        task.mkdir()
        (task / "x").write_text("the user's own")
        files = [File(web.url(f"/{number}/x")) for number in range(3)]
        stage_in(files, task, cache)
        assert [file.read_text() for file in files] == ["0", "1", "2"]
        assert [file.name for file in files] == ["x"] * 3
        assert len({file.path for file in files}) == 3
        assert all(file.path.name == "x" and file.path.is_relative_to(task) for file in files)
        assert (task / "x").read_text() == "the user's own"

    def test_tasks_cannot_change_what_others_read(self, web: Web, task: Path, cache: Path) -> None:
        file = File(web.url("/data.txt"))
        stage_in([file], task, cache)
        assert not file.path.stat().st_mode & 0o222

    def test_without_links_it_is_copied(
        self, web: Web, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
        first, second = File(web.url("/data.txt")), File(web.url("/data.txt"))
        stage_in([first], tmp_path / "task", cache)
        stage_in([second], tmp_path / "task", cache)
        assert first.read_text() == second.read_text() == "some data"
        assert first.path != second.path

    def test_failures_name_the_file_and_leave_nothing(self, web: Web, task: Path, cache: Path) -> None:
        good, bad = File(web.url("/data.txt")), File(web.url("/404"))
        with pytest.raises(StagingError, match=f"cannot bring {bad.url}: it does not exist"):
            stage_in([good, bad], task, cache)
        assert not task.exists()
        assert not [path for path in cache.rglob("*") if path.suffix == ".part"]

    def test_wrong_digest_is_never_kept(self, web: Web, task: Path, cache: Path) -> None:
        for _ in range(2):
            with pytest.raises(StagingError, match="is not what it should be"):
                stage_in([File(web.url("/data.txt"), digest="md5:" + "0" * 32)], task, cache)
        assert web.gets("/data.txt") == 2

    def test_no_place_for_it(self, web: Web, tmp_path: Path, task: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StagingError, match="cannot bring"):
            stage_in([File(web.url("/data.txt"))], task, tmp_path / "file" / "cache")
        with pytest.raises(StagingError, match="cannot bring"):
            stage_in([File(web.url("/data.txt"))], tmp_path / "file" / "task", tmp_path / "cache")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
    @given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30))
    def test_odd_names(self, tmp_path: Path, name: str) -> None:
        file = File(f"memory://odd/{name}")
        data = name.encode()
        fsspec.filesystem("memory").pipe(f"/odd/{name}", data)
        stage_in([file], tmp_path / "task", tmp_path / "cache")
        assert file.read_bytes() == data
        assert file.path.is_relative_to(tmp_path / "task")


class TestAtOnce:
    def test_one_of_many_brings_it(self, web: Web, spawn: Spawn) -> None:
        web.answers["/big"] = held(web, b"0123456789")
        children = [spawn(web.url("/big"), str(number)) for number in range(4)]
        assert [read(child) for child in children] == ["ready"] * 4
        web.release.set()
        assert [finish(child) for child in children] == ["0123456789"] * 4
        assert web.requests == ["GET /big"]

    def test_who_is_killed_gives_way(self, web: Web, spawn: Spawn, task: Path, cache: Path) -> None:
        web.answers["/big"] = held(web, b"0123456789")
        killed = spawn(web.url("/big"), "killed")
        assert web.asked.wait(20)
        waiting = spawn(web.url("/big"), "waiting")
        assert read(waiting) == "ready"
        web.answers["/big"] = page(b"0123456789")
        killed.kill()
        killed.communicate()
        assert finish(waiting) == "0123456789"
        assert web.gets("/big") == 2
        assert not list(cache.rglob("*.part"))

    def test_waiting_ends(self, web: Web, task: Path, cache: Path) -> None:
        file = File(web.url("/late"))
        with pytest.raises(StagingError):
            stage_in([file], task, cache)
        web.answers["/late"] = page(b"some data")
        (lock,) = cache.glob("*.lock")
        with lock.open() as taken:
            fcntl.flock(taken, fcntl.LOCK_EX)
            with pytest.raises(StagingError, match=r"another worker has been bringing the same file for 0\.05 s"):
                stage_in([file], task, cache, patience=0.05)
        stage_in([file], task, cache)
        assert file.read_text() == "some data"


class TestOutputs:
    def test_local_ones_get_their_folders(self, tmp_path: Path, task: Path) -> None:
        file = File(tmp_path / "deep" / "er" / "x")
        prepare_outputs([file], task)
        file.path.write_text("data")
        stage_out([file])
        assert not task.exists()

    def test_far_ones_are_written_here_and_sent(self, task: Path, web: Web) -> None:
        memory, http = File("memory://outputs/x"), File(web.url("/x"))
        prepare_outputs([memory, http], task)
        assert memory.path == task / "x"
        assert memory.path != http.path
        memory.path.write_text("one")
        http.path.write_text("two")
        stage_out([memory, http])
        assert fsspec.filesystem("memory").cat("/outputs/x") == b"one"
        assert web.stored == {"/x": b"two"}

    def test_equal_ones_are_one(self, task: Path) -> None:
        files = [File("memory://outputs/y"), File("memory://outputs/y")]
        prepare_outputs(files, task)
        assert files[0].path == files[1].path == task / "y"

    def test_they_do_not_meet_inputs(self, task: Path, cache: Path, web: Web) -> None:
        source, output = File(web.url("/data.txt")), File("memory://outputs/data.txt")
        stage_in([source], task, cache)
        prepare_outputs([output], task)
        output.path.write_text("new")
        assert source.read_text() == "some data"

    def test_what_is_missing_is_told_with_what_is_there(self, tmp_path: Path, task: Path) -> None:
        good, bad, far = File(tmp_path / "good"), File(tmp_path / "bad"), File("memory://outputs/none")
        prepare_outputs([good, bad, far], task)
        good.path.write_text("")
        for number in range(30):
            (tmp_path / f"other{number:02}").touch()
        with pytest.raises(OutputMissing) as caught:
            stage_out([good, bad, far])
        text = str(caught.value)
        assert text.startswith(f"2 of 3 outputs were not written: {tmp_path}/bad, {task}/none\n")
        assert f"{tmp_path} has good, other00, " in text
        assert "other18 and 12 more" in text
        assert f"{task} has nothing" in text
        assert "hint: write to the paths in `outputs`" in text

    def test_nothing_is_sent_when_anything_is_missing(self, tmp_path: Path, task: Path, web: Web) -> None:
        outputs = [File(web.url("/x")), File(tmp_path / "none")]
        prepare_outputs(outputs, task)
        outputs[0].path.write_text("data")
        with pytest.raises(OutputMissing):
            stage_out(outputs)
        assert not web.requests

    def test_folders_can_be_outputs(self, tmp_path: Path, task: Path) -> None:
        folder = File(tmp_path / "case")
        prepare_outputs([folder], task)
        folder.path.mkdir()
        stage_out([folder])

    def test_no_place_for_them(self, tmp_path: Path, task: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StagingError, match="cannot write"):
            prepare_outputs([File(tmp_path / "file" / "x")], task)


def read(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().rstrip("\n")


def finish(child: subprocess.Popen[str]) -> str:
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return output.splitlines()[-1]
