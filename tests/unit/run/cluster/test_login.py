"""A depot behind a login node that is this machine: an ssh that is played, and real shells and Pythons."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.wire.test_relay import SSH

import heald
from heald.core.errors import SiteError
from heald.core.version import __version__
from heald.run.cluster.login import Arrived, LoginNode
from heald.site.profile import Site
from heald.wire import relay

PYTHON = ".".join(map(str, sys.version_info[:2]))
ENDS = [["tcp://127.0.0.1:9"], ["tcp://127.0.0.1:19"]]
Make = Callable[..., LoginNode]


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the ssh that is played."""
    (tmp_path / "ssh.py").write_text(SSH.replace("echo Welcome to this machine; ", ""))
    monkeypatch.setenv("HEALD_SSH", f"{sys.executable} {tmp_path}/ssh.py {tmp_path}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(relay, "_PAUSES", (0.01,))
    (tmp_path / "calls").touch()
    (tmp_path / "home").mkdir()
    return tmp_path


@pytest.fixture
def make(ssh: Path) -> Iterator[Make]:
    made: list[LoginNode] = []

    def build(*, kept: bool = False, **keys: object) -> LoginNode:
        usual = {"scheduler": "slurm", "login": "me@there", "python": sys.executable, "interface": "lo"}
        executor = heald.ClusterExecutor(Site("mine", **{**usual, **keys}))  # type: ignore[arg-type]
        made.append(LoginNode(executor, ssh, "study-17", kept=kept))
        return made[-1]

    yield build
    for one in made:
        one.close()


def test_a_folder_is_made_there(make: Make, ssh: Path) -> None:
    there = make()
    endpoints = there.open(ENDS)
    assert [len(one) for one in endpoints] == [1, 1]
    state = ssh / "home" / ".local" / "state" / "heald" / "study-17"
    assert (there.run, there.folder, there.directory) == (str(state), f"{state}/agents", str(ssh / "home"))
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o700 for one in (state, state / "agents"))


def test_or_where_the_site_says(make: Make, ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = make(folder="$SPACE/far", variables={"SPACE": str(ssh)})
    there.open(ENDS)
    assert there.run == f"{ssh}/far/study-17"
    monkeypatch.setenv("XDG_STATE_HOME", f"{ssh}/state")
    other = make()
    other.open(ENDS)
    assert other.run == f"{ssh}/state/heald/study-17"


def test_the_environment_of_jobs_is_loaded(make: Make, ssh: Path) -> None:
    (ssh / "own").mkdir()
    (ssh / "own" / "mine").symlink_to(sys.executable)
    there = make(python="mine", setup=(f"echo noise; PATH={ssh}/own:$PATH; export PYTHONPATH={':'.join(sys.path)}",))
    there.open(ENDS)
    assert there.site.python == "mine"


def test_files_are_written_and_read_there(make: Make) -> None:
    there = make()
    there.open(ENDS)
    content = '{"secret": "é"}'.encode()
    for _ in range(2):
        there.write("a1.json", content)
    file = Path(there.folder, "a1.json")
    assert file.read_bytes() == content
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert there.tail("a1.json") == content.decode()
    assert there.tail("none") == ""


def test_what_came_in_part_is_not_there(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    there = make()
    there.open(ENDS)
    whole = there.ask
    monkeypatch.setattr(there, "ask", lambda argv, text="": whole(argv, text[:3]))
    with pytest.raises(SiteError, match=r"me@there: .*a1\.json cannot be written"):
        there.write("a1.json", b"secret")
    assert not Path(there.folder, "a1.json").exists()


@pytest.mark.parametrize("kept", [True, False])
def test_nothing_is_left_but_what_tasks_printed(make: Make, *, kept: bool) -> None:
    there = make(kept=kept)
    there.open(ENDS)
    there.write("a1.json", b"secret")
    logs = Path(there.run, "logs", "0")
    logs.mkdir(parents=True)
    (logs / "1.1.out").write_text("hello")
    (logs / "2.1.out").touch()
    there.close()
    left = [file.name for file in Path(there.run).rglob("*") if file.is_file()]
    assert left == ["1.1.out"] * kept
    assert Path(there.run).exists() == kept


def test_a_line_that_is_cut_at_the_end(make: Make, ssh: Path, caplog: pytest.LogCaptureFixture) -> None:
    there = make()
    there.open(ENDS)
    (ssh / "down").touch()
    there.close()
    assert "keys of the run are left on me@there: ssh me@there: ssh: connect to host there" in caplog.text
    assert f"ssh me@there rm -r {there.folder}" in caplog.text
    assert "its output is me@there" not in caplog.text


def test_a_python_that_is_not_there(make: Make) -> None:
    with pytest.raises(SiteError, match=r"me@there: .*python9.*not found") as caught:
        make(python="python9").open(ENDS)
    assert caught.value.hint.startswith("`python` of the site is 'python9'")


def unfit(there: LoginNode, **found: str) -> SiteError:
    usual = {"python": f"{PYTHON}.0", "executable": "/opt/bin/python", "home": "/home/me"}
    problem = there._unfit(Arrived(**{**usual, **found}))
    assert problem is not None
    return problem


def test_what_does_not_fit_is_said_with_what_to_type(make: Make) -> None:
    there = make()
    assert there._unfit(Arrived("", "", "", folder="/home/me/run")) is None
    problem = unfit(there, python="3.6.8", problem="invalid syntax")
    assert "Python 3.6.8 at /opt/bin/python on me@there, and 3." in problem.message
    assert problem.hint == (
        f"ssh me@there 'python{PYTHON} -m venv ~/heald && ~/heald/bin/pip install heald=={__version__}', and in the "
        'site: python = "/home/me/heald/bin/python"'
    )
    problem = unfit(there, problem="No module named 'heald'")
    assert problem.message.startswith("/opt/bin/python on me@there has no heald (No module named 'heald'), and here is")
    assert problem.hint == f"ssh me@there /opt/bin/python -m pip install heald=={__version__}"
    problem = unfit(there, heald="0.0.1")
    assert f"has heald 0.0.1, and here is heald {__version__}" in problem.message
    problem = unfit(there, heald=__version__, problem="No module named 'zmq'")
    assert f"has heald {__version__} (No module named 'zmq')" in problem.message
