from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from heald.run.cluster import pilot, settings
from heald.run.cluster.pilot import commands, hosts, program
from heald.run.cluster.settings import AgentSettings
from heald.site import node
from heald.site.profile import Site
from heald.wire.key import Pair

from .conftest import Head


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Path, AgentSettings]]:
    """A file of settings for a site, in a job of two hosts."""
    monkeypatch.setenv(node.HOSTS, "n1 n2")

    def make(**site: object) -> tuple[Path, AgentSettings]:
        pair = Pair("p" * 40, "s" * 40)
        made = AgentSettings("a1", ("tcp://10.0.0.1:5",), "h" * 40, pair, "/run", "/", ("/lib",), Site("mine", **site))  # type: ignore[arg-type]
        file = tmp_path / "a1.json"
        settings.write(file, made)
        return file, made

    return make


def test_one_command_where_the_launcher_knows_all_nodes(given: Callable[..., tuple[Path, AgentSettings]]) -> None:
    file, made = given(scheduler="slurm", python="/opt/python")
    (line,) = commands(file, made, hosts())
    assert (line[0], "--nodes=2" in line, "--nodelist=n1,n2" in line) == ("srun", True, True)
    assert line[-5:-2] == ["/opt/python", "-c", line[-3]]
    assert line[-2:] == [str(file), "/lib"]


def test_one_for_each_where_nodes_are_reached_one_by_one(given: Callable[..., tuple[Path, AgentSettings]]) -> None:
    file, made = given(scheduler="local")
    assert commands(file, made, hosts()) == [program("warden", "", file, ["/lib"])] * 2


def test_variables_go_with_it_where_the_launcher_brings_none(
    given: Callable[..., tuple[Path, AgentSettings]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODULE", "it's \n loaded")
    monkeypatch.setenv("SLURM_NODEID", "0")
    monkeypatch.setenv("BASH_FUNC_module%%", "() { :; }")
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/bash\nwhile [[ $1 == -o* ]]; do shift; done\nexec env -i bash -c "$2"\n')
    ssh.chmod(0o700)
    monkeypatch.setenv("HEALD_SSH", str(ssh))
    shown = tmp_path / "python"
    shown.write_text("#!/bin/sh\nenv\n")
    shown.chmod(0o700)
    file, made = given(scheduler="ssh", python=str(shown))
    first, second = commands(file, made, hosts())
    assert (first[-2], second[-2]) == ("n1", "n2")
    assert file.with_suffix(".environment").stat().st_mode & 0o077 == 0
    said = subprocess.run(first, capture_output=True, text=True, check=True).stdout
    assert "MODULE=it's \n loaded\n" in said
    assert "SLURM_NODEID" not in said
    assert "BASH_FUNC" not in said


def test_this_machine_where_no_hosts_are_known(
    given: Callable[..., tuple[Path, AgentSettings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(node.HOSTS)
    file, made = given(scheduler="flux", launcher="ssh")
    ((*_, host, _),) = commands(file, made, hosts())
    assert host == os.uname().nodename


def test_another_python_says_so_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 1, "final", 0))
    argv = program("warden", "", Path("/no/such/file"), [])
    monkeypatch.undo()
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 1
    here = ".".join(map(str, sys.version_info[:2]))
    assert done.stderr.startswith(
        f"heald: Python {here} at {sys.executable} on this node, and 3.8 where the run was started"
    )
    assert "set `python` of the site" in done.stderr


class TestMain:
    @pytest.fixture(autouse=True)
    def restored(self) -> object:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        yield
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def python(self, folder: Path, script: str) -> str:
        """A program in the place of the agents' Python."""
        file = folder / "python"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o700)
        return str(file)

    def test_its_status_is_the_worst(self, given: Callable[..., tuple[Path, AgentSettings]], tmp_path: Path) -> None:
        file, _ = given(python=self.python(tmp_path, f"mkdir {tmp_path}/first 2>/dev/null || exit 3"))
        assert pilot.main([str(file)]) == 3

    def test_signals_go_on_to_all(self, given: Callable[..., tuple[Path, AgentSettings]], tmp_path: Path) -> None:
        """Each of the two begins, and the second has the pilot told to end."""
        program = tmp_path / "program.py"
        program.write_text(
            "import os, signal, sys\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
            f"with open({str(tmp_path / 'begun')!r}, 'a+') as file:\n"
            "    file.write('x')\n"
            "    file.flush()\n"
            "    file.seek(0)\n"
            "    second = len(file.read()) == 2\n"
            "if second:\n"
            "    os.kill(os.getppid(), signal.SIGTERM)\n"
            "signal.pause()\n"
        )
        file, _ = given(python=self.python(tmp_path, f"exec {sys.executable} {program}"))
        assert pilot.main([str(file)]) == 7

    def test_what_cannot_start_any_is_told(
        self, given: Callable[..., tuple[Path, AgentSettings]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        for site, said in (({"launcher": "mpirun"}, "no launcher 'mpirun'"), ({"python": "/no/python"}, "/no/python")):
            file, _ = given(**site)
            assert pilot.main([str(file)]) == 1
            assert said in capsys.readouterr().err


class TestSwitch:
    def test_few_agents_have_none(self, given: Callable[..., tuple[Path, AgentSettings]]) -> None:
        file, made = given()
        assert pilot.switched(file, made, 64) == (file, None)

    def test_many_are_told_where_it_is(
        self, open_head: Callable[..., Head], capsys: pytest.CaptureFixture[str]
    ) -> None:
        head = open_head(fan_out=2, site=Site("mine", interface="127.0.0.1"))
        told, switch = pilot.switched(head.file, head.given, 3)
        assert switch is not None
        assert settings.read(told) == msgspec.structs.replace(head.given, switch=tuple(switch.endpoints))
        assert told.stat().st_mode & 0o077 == 0
        switch.close()

    def test_without_a_head_they_are_on_their_own(
        self, given: Callable[..., tuple[Path, AgentSettings]], capfd: pytest.CaptureFixture[str]
    ) -> None:
        file, made = given(interface="192.0.2.1")
        made = msgspec.structs.replace(made, endpoints=("tcp://127.0.0.1:1",))
        assert pilot.switched(file, made, 65) == (file, None)
        assert "each agent has a connection of its own: nobody answers" in capfd.readouterr().err
