"""Tasks on the nodes of a real Slurm cluster, and everything that goes wrong there.

Each test runs a user's script on the head host. Whatever fails meanwhile, the script must end well, with every value
right; afterwards no process is left on any host and no batch job in the queue (see `tests.testbed.fixture`).
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.testbed.host import Process, python
from tests.testbed.slurm import Slurm

Wait = Callable[..., None]

SCRIPT = """
import json, os, socket, sys, time
import heald

asked = json.loads(sys.argv[1])


def work(number, seconds, folder):
    with open(f"{folder}/began", "a") as file:
        file.write(f"{number} {socket.gethostname()} {os.getpid()}\\n")
    time.sleep(seconds)
    with open(f"{folder}/done", "a") as file:
        file.write(f"{number} {socket.gethostname()} {os.getpid()}\\n")
    return number


if __name__ == "__main__":
    executor = heald.ClusterExecutor(asked["site"], **asked["executor"])
    with heald.Session([executor], memo=None, journal="run.heald") as session:
        futures = [session.submit(work, n, asked["seconds"], os.getcwd()) for n in range(asked["tasks"])]
        for future in heald.as_completed(futures):
            print("value", future.result(), flush=True)
"""


class Study:
    """The script on the head host, and what its tasks wrote."""

    def __init__(self, slurm: Slurm, folder: Path, wait_until: Wait) -> None:
        self.slurm = slurm
        self.hosts = slurm.hosts
        self.folder = folder
        self.wait_until = wait_until
        self.site = folder / "testbed.toml"
        self.process: Process | None = None
        self.tasks = 0
        self.describe()

    def describe(self, **keys: object) -> None:
        """Write the file of the site."""
        table = {"name": "testbed", "scheduler": "slurm", **keys}
        self.site.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items()))

    def start(self, tasks: int = 24, seconds: float = 0.5, **executor: Any) -> None:
        """Begin it, with a block of all four nodes and one core of each unless told otherwise."""
        self.tasks = tasks
        options = {"nodes": 4, "workers": 1, "walltime": "10m", "silence": 2, **executor}
        asked = json.dumps({"site": str(self.site), "tasks": tasks, "seconds": seconds, "executor": options})
        self.process = self.hosts.start("n0", python(self.folder, SCRIPT, asked), folder=self.folder)

    def lines(self, name: str) -> list[list[str]]:
        """What tasks wrote into a file: number, host, process."""
        file = self.folder / name
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def under_way(self, done: int = 1) -> None:
        """Wait until so many tasks are done."""
        assert self.process is not None
        process = self.process
        self.wait_until(lambda: len(self.lines("done")) >= done or process.poll() is not None, timeout=60)
        assert process.poll() is None, process.communicate()

    def end(self, timeout: float = 120) -> str:
        """Wait for its end, which must be good, with every value once; what it said besides."""
        assert self.process is not None
        stdout, stderr = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, stdout + stderr
        values = [int(line.split()[1]) for line in stdout.splitlines()]
        assert sorted(values) == list(range(self.tasks))
        return stderr

    def fail(self, timeout: float = 60) -> str:
        """Wait for its end, which must be bad; what it said."""
        assert self.process is not None
        stdout, stderr = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 1, stdout + stderr
        return stderr

    def agents(self, host: str) -> list[psutil.Process]:
        """The warden, the agent and the rest of heald on a host, in the order of their start."""
        found = []
        for one in self.hosts.strangers(host):
            with contextlib.suppress(psutil.Error):  # it has just ended
                if "heald.run" in " ".join(one.cmdline()):
                    found.append(one)
        return sorted(found, key=lambda one: one.pid)

    def repeated(self) -> list[str]:
        """Numbers of tasks that were done more than once."""
        return [number for number, count in Counter(line[0] for line in self.lines("done")).items() if count > 1]


@pytest.fixture
def study(slurm: Slurm, tmp_path: Path, wait_until: Wait) -> Study:
    return Study(slurm, tmp_path, wait_until)


class TestWhatGoesWell:
    def test_all_nodes_are_used(self, study: Study) -> None:
        study.start()
        study.end()
        assert {line[1] for line in study.lines("done")} == {"n1", "n2", "n3", "n4"}
        assert not study.repeated()

    def test_blocks_come_and_go_with_the_work(self, study: Study, slurm: Slurm) -> None:
        study.start(nodes=1, blocks=(1, 0, 4))
        study.under_way(12)
        assert len(slurm.command("squeue", "--noheader").splitlines()) == 4
        study.end()

    def test_files_of_keys_are_private(self, study: Study) -> None:
        study.start()
        study.under_way()
        keys = [file for file in study.folder.rglob("*.json") if "secret" in file.read_text()]
        assert keys
        assert all(file.stat().st_mode & 0o077 == 0 for file in keys)
        secrets = {secret for file in keys for secret in re.findall(r'"secret":"([^"]+)"', file.read_text())}
        lines = "".join(" ".join(one.cmdline()) for host in study.hosts.nodes for one in study.agents(host))
        assert not any(secret in lines for secret in secrets)
        study.end()


class TestFaults:
    def test_a_worker_is_killed(self, study: Study) -> None:
        study.start(tasks=8, seconds=1.0)
        study.under_way(2)
        number, host, pid = study.lines("began")[-1]
        study.hosts.run(host, ["kill", "-KILL", pid])
        study.end()
        assert [line[0] for line in study.lines("began")].count(number) == 2
        assert not study.repeated()

    def test_an_agent_is_killed(self, study: Study) -> None:
        study.start()
        study.under_way(4)
        _warden, agent, *_ = study.agents("n2")
        agent.kill()
        study.end()
        after = len(study.lines("done"))
        assert after >= study.tasks
        assert [line for line in study.lines("done")[8:] if line[1] == "n2"]  # another agent took its place

    def test_an_agent_and_its_warden_are_killed(self, study: Study) -> None:
        study.start()
        study.under_way(4)
        for one in study.agents("n2"):
            one.kill()
        study.end()

    def test_a_host_loses_power(self, study: Study) -> None:
        study.start()
        study.under_way(4)
        study.hosts.crash("n3")
        study.end()
        assert not study.repeated()

    def test_a_link_is_cut_and_healed(self, study: Study) -> None:
        study.start(tasks=32, seconds=1.0)
        study.under_way(4)
        study.hosts.network.cut("n4")
        study.under_way(16)
        study.hosts.heal()
        study.end()
        # What the node did behind the cut is told too late and refused: each value came from one attempt.
        assert set(study.repeated()) <= {line[0] for line in study.lines("done") if line[1] == "n4"}

    def test_a_link_is_cut_for_a_moment(self, study: Study) -> None:
        study.start(silence=6)
        study.under_way(4)
        study.hosts.network.cut("n4")
        study.under_way(8)
        study.hosts.heal()
        study.end()
        assert not study.repeated()

    @pytest.mark.parametrize("fault", ["oneway", "loss", "slow", "delay"])
    def test_a_link_is_bad(self, study: Study, fault: str) -> None:
        study.start(silence=4)
        study.under_way(4)
        getattr(study.hosts.network, fault)("n4", *{"loss": (20,), "slow": ("1mbit",), "delay": (50,)}.get(fault, ()))
        study.under_way(12)
        study.hosts.heal()
        study.end()

    @pytest.mark.parametrize("done", [1, 6, 14])
    def test_the_head_is_killed_and_started_again(self, study: Study, done: int) -> None:
        study.start()
        study.under_way(done)
        assert study.process is not None
        study.process.kill()
        study.process.communicate()
        study.start()
        study.end()
        assert not study.repeated()
        assert len(study.slurm.command("squeue", "--noheader").splitlines()) <= 1

    def test_the_head_is_killed_for_good(self, study: Study, wait_until: Wait) -> None:
        study.start(lease=3)
        study.under_way(4)
        assert study.process is not None
        study.process.kill()
        study.process.communicate()
        wait_until(lambda: not any(map(study.agents, study.hosts.nodes)), timeout=30)
        wait_until(lambda: not study.slurm.command("squeue", "--noheader"), timeout=30)

    def test_the_controller_is_out(self, study: Study) -> None:
        study.start(tasks=48)
        study.under_way(4)
        (job,) = study.slurm.command("squeue", "--noheader", "--format=%i").split()
        study.slurm.await_saved(job)  # else it comes back with the jobs of the test before
        study.slurm.stop_controller()
        study.under_way(36)
        study.slurm.start_controller()
        study.end()

    def test_a_node_daemon_is_killed(self, study: Study) -> None:
        study.start()
        study.under_way(4)
        study.slurm.stop_node("n1")
        study.end()

    def test_the_job_is_cancelled_by_hand(self, study: Study) -> None:
        study.start(blocks=2)
        study.under_way(4)
        first = study.slurm.command("squeue", "--noheader", "--format=%i", "--states=RUNNING").split()[0]
        study.slurm.command("scancel", first)
        study.end()

    def test_the_job_is_preempted_and_requeued(self, study: Study, tmp_path: Path) -> None:
        study.start(tasks=32)
        study.under_way(4)
        study.slurm.submit("sleep 2", "--partition=urgent", "--nodes=4", "--exclusive", folder=tmp_path)
        study.end()


class TestRefusals:
    @pytest.mark.parametrize(
        ("keys", "said"),
        [
            ({"queue": "nowhere"}, "invalid partition"),
            ({"constraint": "nothing"}, "Invalid feature"),
            ({"directives": ["--no-such-option"]}, "unrecognized option"),
        ],
    )
    def test_the_scheduler_says_why(self, study: Study, keys: dict[str, Any], said: str) -> None:
        study.describe(**keys)
        study.start()
        assert said in study.fail()

    def test_a_job_that_ends_before_an_agent_comes_shows_its_output(self, study: Study) -> None:
        study.describe(setup=["echo this set-up fails; exit 3"])
        study.start(nodes=1)
        stderr = study.fail()
        assert "this set-up fails" in stderr
        assert "before an agent of it came" in stderr

    def test_another_python_is_refused_at_once(self, study: Study) -> None:
        other = study.folder / "python"
        other.write_text(f'#!/bin/sh\nexec {sys.executable} -c "$(cat {study.folder}/other.py)" "$@"\n')
        other.chmod(0o755)
        (study.folder / "other.py").write_text(
            "import sys; real = sys.version_info; sys.version_info = (3, 8, 1, 'final', 0); "
            "code = sys.argv[2]; sys.argv[:] = ['-c', *sys.argv[3:]]; exec(code)"
        )
        study.describe(python=str(other))
        study.start(nodes=1)
        stderr = study.fail()
        assert "Python 3.8" in stderr
        assert "set `python` of the site" in stderr

    def test_what_no_block_could_run_is_refused(self, study: Study) -> None:
        source = SCRIPT.replace("session.submit(work, n", "heald.task(work, nodes=9).submit(n")
        asked = json.dumps({"site": str(study.site), "tasks": 1, "seconds": 0, "executor": {"nodes": 4}})
        done = study.hosts.run("n0", python(study.folder, source, asked), folder=study.folder, status=1)
        assert "needs 9 nodes; a block has 4" in done.stderr


def test_nobody_else_can_listen(study: Study) -> None:
    """A stranger who reaches the port of the head gets nothing, and disturbs nothing."""
    study.start()
    study.under_way(2)
    endpoint = json.loads((study.folder / "run.heald/agents/cluster/head.json").read_text())[0]
    address, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    address = address.strip("[]")
    source = (
        "import socket, sys, zmq\n"
        "plain = socket.create_connection((sys.argv[1], int(sys.argv[2]))); plain.sendall(b'x' * 100_000)\n"
        "context = zmq.Context(); dealer = context.socket(zmq.DEALER); dealer.linger = 0\n"
        "dealer.connect(f'tcp://{sys.argv[1]}:{sys.argv[2]}'); dealer.send(b'hello')\n"
        "print(dealer.poll(1000))\n"
    )
    done = study.hosts.run("n1", python(study.folder, source, address, port, name="stranger.py"), timeout=30)
    assert done.stdout == "0\n"
    study.end()
