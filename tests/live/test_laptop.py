"""A script on a laptop that drives a Slurm cluster over ssh: n4 is the laptop, n0 the login node, the others the nodes.

The laptop reaches the login node by ssh alone, nobody reaches the laptop, and its files are on a disk of its own.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.testbed.host import LOCAL, Hosts, Process, python
from tests.testbed.slurm import Slurm

pytestmark = pytest.mark.live

Wait = Callable[..., None]

SCRIPT = """
import json, os, socket, sys, time
sys.path.append(os.getcwd())
import heald
from heald.wire import relay

relay.PATIENCE = 4.0
relay._PAUSES = (0.2,)
asked = json.loads(sys.argv[1])


def work(number, seconds, folder):
    time.sleep(seconds)
    with open(f"{folder}/done", "a") as file:
        file.write(f"{number} {socket.gethostname()}\\n")
    return number


def fail(number):
    print("these are its last words", file=sys.stderr)
    raise ValueError("it failed")


if __name__ == "__main__":
    executor = heald.ClusterExecutor(asked["site"], workers=1, walltime="5m", **asked["executor"])
    with heald.Session([executor], memo=None, journal=asked["journal"]) as session:
        print("open", flush=True)
        for future in [session.submit(work, n, asked["seconds"], asked["folder"]) for n in range(asked["tasks"])]:
            print("value", future.result(), flush=True)
        if asked["large"]:
            print("large", len(session.submit(bytes, asked["large"]).result()), flush=True)
        if asked["own"]:
            import own_module, own_other

            print("own", session.submit(lambda: own_other.add(3, 4)).result() == 7, end=" ")
            print(session.submit(own_module.Loom(3).weave, 4).result() == own_module.Loom(7), flush=True)
        if asked["fails"]:
            session.submit(fail, 0).result()
"""

OWN = """
from dataclasses import dataclass
import own_other

@dataclass
class Loom:
    threads: int
    def weave(self, more):
        return Loom(own_other.add(self.threads, more))
"""


class Laptop:
    """The script, what it is told, and what its tasks wrote."""

    def __init__(self, slurm: Slurm, folder: Path, wait_until: Wait) -> None:
        self.slurm, self.hosts, self.folder, self.wait_until = slurm, slurm.hosts, folder, wait_until
        self.site, self.far, self.journal = folder / "far.toml", folder / "far", LOCAL / f"{folder.name}.heald"
        self.tasks = 0
        self.describe()

    def describe(self, **keys: object) -> None:
        """Write the file of the site."""
        usual = {"name": "cluster", "scheduler": "slurm", "login": "n0", "python": sys.executable}
        table = {**usual, "folder": str(self.far), "directives": ["--exclude=n4"], **keys}
        self.site.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items()))

    def start(
        self,
        tasks: int = 12,
        seconds: float = 0.3,
        *,
        large: int = 0,
        fails: bool = False,
        own: bool = False,
        **more: Any,
    ) -> Process:
        """Begin it, with one block of two nodes unless told otherwise."""
        self.tasks = tasks
        asked = {
            "site": str(self.site), "tasks": tasks, "seconds": seconds, "large": large, "fails": fails, "own": own,
            "folder": str(self.folder), "journal": str(self.journal), "executor": {"nodes": 2, **more},
        }  # fmt: skip
        command = python(self.folder, SCRIPT, json.dumps(asked))
        return self.hosts.start("n4", command, folder=LOCAL)

    def done(self) -> list[list[str]]:
        file = self.folder / "done"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def under_way(self, process: Process, count: int) -> None:
        """Wait until so many tasks are done."""
        self.wait_until(lambda: len(self.done()) >= count or process.poll() is not None, timeout=60)
        assert process.poll() is None, process.communicate()

    def end(self, process: Process, status: int = 0) -> str:
        """Wait for its end; what it said. With status 0, every value came, and each task was done once."""
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == status, stdout + stderr
        if not status:
            values = [int(line.split()[1]) for line in stdout.splitlines() if line.startswith("value")]
            assert values == list(range(self.tasks))
            assert set(Counter(number for number, _ in self.done()).values()) == {1}
        return stdout + stderr

    def log(self, *words: str, status: int = 0) -> Any:
        """`heald task log` on the laptop."""
        program = Path(sys.executable).with_name("heald")
        command = [program, "task", "log", "--run", self.journal, *words]
        return self.hosts.run("n4", command, folder=LOCAL, status=status)

    def left(self) -> list[Path]:
        """Files in the folder behind the login node."""
        return [file for file in self.far.rglob("*") if file.is_file()]

    def fence(self) -> None:
        """The laptop is where it belongs. All ports but the first are for slurmd, which n4 has too."""
        self.hosts.network.fence("n4", to="n0", out=(22, 6817), into=(6818,))

    def connections(self) -> list[Any]:
        """The ssh processes of the laptop."""
        return [one for one in self.hosts.strangers("n4") if one.info["name"] == "ssh"]

    def forwarders(self) -> list[Any]:
        """What the relay runs on the login node."""
        return [one for one in self.hosts.strangers("n0") if "python" in one.info["name"]]


@pytest.fixture
def laptop(slurm: Slurm, tmp_path: Path, wait_until: Wait) -> Laptop:
    laptop = Laptop(slurm, tmp_path, wait_until)
    laptop.fence()
    return laptop


def unreachable(hosts: Hosts, host: str, port: int) -> bool:
    probe = f"import socket; socket.create_connection(({host!r}, {port}), timeout=1)"
    return hosts.run("n4", ["/usr/bin/python3", "-c", probe], status=None).returncode != 0


def test_a_script_runs_on_the_nodes_behind_the_login_node(laptop: Laptop, slurm: Slurm) -> None:
    assert unreachable(slurm.hosts, "n1", 22)
    script = laptop.start(large=3_000_000)
    laptop.under_way(script, 2)
    assert "AllocNode:Sid=localhost:" in slurm.command("scontrol", "show", "job")  # where the controller is: n0
    keys = [file for file in laptop.left() if "secret" in file.read_text()]
    assert keys
    assert all(file.stat().st_mode & 0o077 == 0 for file in (*keys, *(key.parent for key in keys)))
    assert "large 3000000" in laptop.end(script)
    assert {host for _, host in laptop.done()} <= {"n1", "n2", "n3"}
    assert not laptop.left()


def test_the_connection_is_killed(laptop: Laptop) -> None:
    script = laptop.start(tasks=24, seconds=0.5)
    for count in (2, 8):
        laptop.under_way(script, count)
        for one in laptop.connections():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    assert "it is made again" in laptop.end(script)
    assert not laptop.left()


def test_the_line_is_cut_for_a_while(laptop: Laptop, slurm: Slurm) -> None:
    script = laptop.start(tasks=40, seconds=0.5)
    laptop.under_way(script, 4)
    slurm.hosts.network.cut("n4")
    laptop.wait_until(lambda: not laptop.forwarders(), timeout=30)
    slurm.hosts.network.heal("n4")
    laptop.fence()
    laptop.end(script)
    assert not laptop.left()


def test_the_script_is_killed_and_started_again(laptop: Laptop, slurm: Slurm) -> None:
    script = laptop.start(tasks=24, seconds=0.5, silence=2)
    laptop.under_way(script, 4)
    script.kill()
    script.communicate()
    assert slurm.command("squeue", "--noheader")
    laptop.end(laptop.start(tasks=24, seconds=0.5, silence=2))
    assert len(slurm.command("sacct", "-n", "-X", status=None).splitlines()) <= 1
    assert not laptop.left()


def test_ctrl_c_leaves_nothing(laptop: Laptop) -> None:
    script = laptop.start(tasks=100, seconds=0.5)
    laptop.under_way(script, 2)
    script.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in laptop.end(script, status=-signal.SIGINT)
    assert not laptop.left()


def test_modules_beside_the_script_travel(laptop: Laptop, slurm: Slurm) -> None:
    for name, text in (("own_module", OWN), ("own_other", "def add(a, b):\n    return a + b\n")):
        slurm.hosts.run("n4", ["tee", LOCAL / f"{name}.py"], text=text)  # where no other host sees it
    said = laptop.end(laptop.start(own=True))
    assert "own True True" in said


def test_the_error_of_a_task_shows_the_end_of_its_output(laptop: Laptop) -> None:
    said = laptop.end(laptop.start(fails=True), status=1)
    assert "these are its last words" in said
    (log,) = laptop.left()  # what tasks printed stays
    assert f"stderr: n0:{log}" in said
    assert laptop.log("--stderr", "state=failed").stdout == "these are its last words\n"
    assert "printed nothing to standard output" in laptop.log("state=failed").stderr
    assert "where it cannot be followed" in laptop.log("-f", "state=failed", status=2).stderr
    log.unlink()
    log.parent.rmdir()
    assert laptop.log("state=failed").stdout == ""


def test_the_error_of_a_block_shows_the_end_of_its_output(laptop: Laptop) -> None:
    laptop.describe(setup=['[ -z "$SLURM_JOB_ID" ] || { echo the disk is gone; exit 3; }'])
    said = laptop.end(laptop.start(), status=1)
    assert "ended (failed) before an agent of it came" in said
    assert "the disk is gone" in said
    assert not laptop.left()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"login": "nowhere"}, "no relay on nowhere: ssh: Could not resolve hostname nowhere"),
        ({"python": "/usr/bin/python3"}, "/usr/bin/python3 on n0 has no heald (No module named 'heald')"),
        ({"python": "python9"}, "name one that n0 has"),
        ({"queue": "none"}, "sbatch refused the job"),
        ({"folder": "/proc/none"}, "No such file or directory"),
    ],
)
def test_what_cannot_be_is_said(laptop: Laptop, keys: dict[str, object], words: str) -> None:
    laptop.describe(**keys)
    assert words in laptop.end(laptop.start(), status=1)
    assert not laptop.left()
