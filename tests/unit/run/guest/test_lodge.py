from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

import heald
from heald.run.cluster.settings import AgentSettings
from heald.run.guest import lodge
from heald.site.profile import Site
from heald.wire import key


def given(folder: Path) -> bytes:
    keys = key.load(folder / "keys.json")
    return msgspec.json.encode(
        AgentSettings(
            allocation="x-1", endpoints=("tcp://127.0.0.1:1",), head=keys.head.public, pair=keys.agent,
            run=str(folder), directory=str(folder), path=(), site=Site("x"),
        )
    )  # fmt: skip


def test_other_versions_are_refused_and_named() -> None:
    with pytest.raises(heald.ConfigurationError, match=r"Python 3\.1\.4 with heald 0\.0\.1 where") as raised:
        lodge.lodge("x-1", b"", 0, ("3.1.4", "0.0.1"))
    assert lodge.versions()[1] in str(raised.value)
    assert raised.value.hint == "use the same on both sides: pip install heald==0.0.1"


def test_another_patch_of_python_will_do(tmp_path: Path) -> None:
    python, version = lodge.versions()
    major, minor, _ = python.split(".")
    with pytest.raises(msgspec.DecodeError):  # it goes on to what it was given
        lodge.lodge("x-1", b"", 0, (f"{major}.{minor}.999", version))


def test_an_agent_that_cannot_reach_its_head_can_be_ended_from_elsewhere(tmp_path: Path) -> None:
    stays = threading.Thread(target=lodge.stay, args=["x-1"])
    stays.start()
    ended: list[object] = []
    runs = threading.Thread(target=lambda: ended.append(_run(tmp_path)))
    runs.start()
    with lodge._changed:
        assert lodge._changed.wait_for(lambda: "x-1" in lodge._begun, 30)
    process = lodge._begun["x-1"]
    import asyncio

    asyncio.run(lodge.leave("x-1"))
    runs.join(30)
    stays.join(30)
    assert process.poll() is not None
    assert not lodge._begun
    assert len(ended) == 1


def _run(folder: Path) -> object:
    try:
        return lodge.lodge("x-1", given(folder), 0, lodge.versions())
    except heald.SiteError as raised:
        return raised


def test_who_stays_for_nobody_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lodge, "_ARRIVAL", 0.01)
    lodge.stay("nobody")


def test_a_folder_that_is_not_here_is_not_used(tmp_path: Path) -> None:
    assert lodge._usable(str(tmp_path))
    assert not lodge._usable(str(tmp_path / "elsewhere"))


def test_who_has_lost_its_parent_does_not_begin(tmp_path: Path) -> None:
    code = f"from heald.run.guest.lodge import main; raise SystemExit(main('1', {str(tmp_path)!r}))"
    import subprocess
    import sys

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
