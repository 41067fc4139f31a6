from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from heald.core.errors import SchedulerUnreachable, SiteError
from heald.site.command import Answer
from heald.site.login import connected, over

# Stands in for ssh: writes down its words; the last one is for the shell of the host. "dark" does not answer.
FAKE = """\
#!/usr/bin/env python3
import json, os, sys
folder, words = os.path.dirname(__file__), sys.argv[1:]
with open(folder + "/calls", "a") as calls:
    print(json.dumps(words), file=calls)
if "dark" in words:
    sys.exit("ssh: connect to host dark port 22: No route to host") if "-O" in words else None
    print("ssh: connect to host dark port 22: No route to host", file=sys.stderr)
    sys.exit(255)
if words[:2] == ["-O", "check"]:
    sys.exit(0 if os.path.exists(folder + "/open") else 255)
if "-fN" in words or "exit" in words:
    sys.exit(0)
os.execv("/bin/sh", ["sh", "-c", words[-1]])
"""


class FakeSsh:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSsh:
    file = tmp_path / "ssh"
    file.write_text(FAKE)
    file.chmod(stat.S_IRWXU)
    monkeypatch.setenv("HEALD_SSH", str(file))
    monkeypatch.setenv("HOME", str(tmp_path))
    return FakeSsh(tmp_path)


WORDS = ["a b", "it's", '"$HOME"', "", "*", "\n", "é"]


def test_words_arrive_as_they_are(ssh: FakeSsh) -> None:
    show = "import sys; print(sys.argv[1:], sys.stdin.read()); sys.exit(3)"
    answer = over("there")(["python3", "-c", show, *WORDS], "in")
    assert answer == Answer(3, f"{WORDS} in\n")
    assert ssh.calls[0][-3:-1] == ["there", "--"]
    assert "-oBatchMode=yes" in ssh.calls[0]


def test_variables_too(ssh: FakeSsh) -> None:
    assert over("there")(["printenv", "X"], variables={"X": "a 'b'"}).out == "a 'b'\n"


def test_the_connection_is_shared(ssh: FakeSsh) -> None:
    over("there", "/tmp/control")(["true"])
    (call,) = ssh.calls
    assert call[call.index("-S") + 1] == "/tmp/control"


def test_programs_are_found_where_a_login_finds_them(ssh: FakeSsh, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sbatch").write_text("#!/bin/sh\necho 17\n")
    (tmp_path / "own" / "sbatch").chmod(stat.S_IRWXU)
    (tmp_path / ".bash_profile").write_text("echo Welcome; PATH=$HOME/own:$PATH")
    assert over("there")(["sbatch"]).out == "17\n"


def test_the_words_of_ssh(ssh: FakeSsh) -> None:
    with pytest.raises(SchedulerUnreachable, match=r"ssh dark: ssh: connect .* No route to host") as caught:
        over("dark")(["true"])
    assert caught.value.hint == "this must work: ssh dark true"


def test_a_program_that_is_not_there(ssh: FakeSsh) -> None:
    with pytest.raises(SiteError, match=r"there has no nosbatch: .*not found") as caught:
        over("there")(["nosbatch"])
    assert "type nosbatch" in caught.value.hint
    with pytest.raises(SiteError, match="there has no nosbatch"):
        over("there")(["nosbatch"], variables={"X": "1"})


def test_a_connection_is_made_for_several_programs_and_ended(ssh: FakeSsh) -> None:
    with connected("there") as ask:
        ask(["true"])
    check, made, ran, ended = ssh.calls
    control = made[made.index("-S") + 1]
    assert "-oBatchMode=yes" not in made
    assert ran[ran.index("-S") + 1] == control
    assert ended == ["-S", control, "-O", "exit", "there"]
    assert check == ["-O", "check", "there"]


def test_that_of_the_user_serves(ssh: FakeSsh) -> None:
    (ssh.folder / "open").touch()
    with connected("there") as ask:
        ask(["true"])
    assert len(ssh.calls) == 2
    assert "-S" not in ssh.calls[1]


def test_none_can_be_made(ssh: FakeSsh, monkeypatch: Any) -> None:
    with pytest.raises(SiteError, match="no connection to dark: ssh: connect to host dark"), connected("dark"):
        pass
    monkeypatch.setenv("HEALD_SSH", "/nowhere/ssh")
    with pytest.raises(SiteError, match=r"no connection to dark: .*nowhere/ssh"), connected("dark"):
        pass
