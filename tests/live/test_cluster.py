"""Tasks on the nodes of a real Slurm cluster, and everything that goes wrong there.

Each test runs a user's script on the head host. Whatever fails meanwhile, the script must end well, with every value
right; afterwards no process is left on any host and no batch job in the queue (see `tests.testbed.fixture`).
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.live.study import WORK, Study
from tests.testbed.host import python
from tests.testbed.slurm import Slurm


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


class TestSwitch:
    """One connection for all agents of a block, through its first node."""

    def connections(self, study: Study) -> int:
        port = json.loads((study.folder / "run.heald/agents/cluster/head.json").read_text())[0][0].rpartition(":")[2]
        return study.hosts.run("n0", ["ss", "-Htn", "state", "established", f"( sport = :{port} )"]).stdout.count("\n")

    def test_there_is_one_connection(self, study: Study) -> None:
        study.start(fan_out=1)
        study.under_way(8)
        assert self.connections(study) == 1
        study.end()
        assert not study.repeated()

    def test_one_that_stands_still_is_gone_past(self, study: Study) -> None:
        study.start(tasks=40, seconds=1.0, fan_out=1)
        study.under_way(4)
        (pilot,) = (one for one in study.agents("n1") if "cluster.pilot" in " ".join(one.cmdline()))
        pilot.suspend()
        study.under_way(24)
        assert self.connections(study) >= 4
        pilot.resume()
        study.end()
        assert not study.repeated()

    def test_its_node_loses_power(self, study: Study) -> None:
        study.start(tasks=32, fan_out=1)
        study.under_way(4)
        study.hosts.crash("n1")
        study.end()


ARRAYS = """
import numpy

def work(number, seconds):
    note("began", number)
    time.sleep(seconds)
    note("done", number)
    return numpy.full(2_000_000, number)
"""


class TestLargeValues:
    def test_a_link_is_cut_for_a_moment(self, study: Study) -> None:
        study.start(tasks=32, seconds=0.1, work=ARRAYS, silence=6)
        study.under_way(4)
        study.hosts.network.cut("n4")
        study.under_way(12)
        study.hosts.heal()
        study.end()
        assert not study.repeated()

    @pytest.mark.parametrize("fault", ["loss", "slow"])
    def test_a_link_is_bad(self, study: Study, fault: str) -> None:
        study.start(tasks=12, seconds=0.1, work=ARRAYS, silence=4)
        study.under_way(2)
        getattr(study.hosts.network, fault)("n4", *{"loss": (5,), "slow": ("20mbit",)}[fault])
        study.end()
        assert not study.repeated()

    def test_the_head_is_killed_and_started_again(self, study: Study) -> None:
        study.start(tasks=16, seconds=0.2, work=ARRAYS)
        study.under_way(6)
        study.kill()
        study.start(tasks=16, seconds=0.2, work=ARRAYS)
        study.end()
        assert not study.repeated()


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
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended of the death of the one before
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
        study.kill()
        study.start()
        study.end()
        assert not study.repeated()
        assert len(study.slurm.command("squeue", "--noheader").splitlines()) <= 1

    def test_the_head_is_killed_for_good(self, study: Study, wait_until: Callable[..., None]) -> None:
        study.start(lease=3)
        study.under_way(4)
        study.kill()
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

    def test_the_job_is_requeued_by_hand(self, study: Study) -> None:
        study.start(tasks=32)
        study.under_way(4)
        (job,) = study.slurm.command("squeue", "--noheader", "--format=%i").split()
        study.slurm.command("scontrol", "requeue", job)
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
        study.start(tasks=1, work=f"{WORK}\n\nwork = heald.task(work, nodes=9)\n")
        assert "needs 9 nodes; a block has 4" in study.fail()


def test_nobody_else_can_listen(study: Study) -> None:
    """A stranger who reaches the port of the head gets nothing, and disturbs nothing."""
    study.start()
    study.under_way(2)
    endpoint = json.loads((study.folder / "run.heald/agents/cluster/head.json").read_text())[0][0]
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
