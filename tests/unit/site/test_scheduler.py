from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from heald.core.errors import ConfigurationError
from heald.site.profile import Limits, NodeShape, Site
from heald.site.scheduler import Job, JobState, clock, job, script, without

LIMITED = Site(
    "mine",
    queue="batch",
    account="acc",
    modules=("python",),
    directives=("-x",),
    node=NodeShape(cores=8, gpus=2),
    queues={"batch": Limits(nodes=16, fewest=2, walltime=timedelta(hours=1))},
)


def test_which_states_are_an_end() -> None:
    assert {state.name for state in JobState if not state.final} == {
        "queued", "held", "running", "ending", "missing", "unknown",
    }  # fmt: skip


class TestJob:
    def test_takes_what_the_site_has(self) -> None:
        made = job(LIMITED, "a", ["x", "y"], nodes=2, walltime="10m", notice=30)
        assert made == Job(
            name="a",
            command=("x", "y"),
            nodes=2,
            walltime=timedelta(minutes=10),
            queue="batch",
            account="acc",
            exclusive=True,
            cpus=8,
            gpus=2,
            notice=30,
            modules=("python",),
            directory=str(Path.cwd()),
            directives=("-x",),
        )

    @pytest.mark.parametrize(
        ("nodes", "walltime", "message"),
        [
            (0, "1m", "nodes=0: must be at least 1"),
            (1, "1m", "nodes=1: queue batch of mine takes jobs of 2 nodes and more"),
            (17, "1m", "nodes=17: queue batch of mine gives a job at most 16"),
            (2, "2h", "a walltime of 2h 00m: queue batch of mine gives at most 1h 00m"),
        ],
    )
    def test_what_the_queue_would_never_run_is_refused(self, nodes: int, walltime: str, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            job(LIMITED, "a", ["x"], nodes=nodes, walltime=walltime)

    def test_a_queue_that_is_not_known_has_no_limits(self) -> None:
        assert job(Site("mine", queue="new"), "a", ["x"], nodes=10**4, walltime="30d").nodes == 10**4


class TestScript:
    def test_runs_as_the_job_says(self, tmp_path: Path) -> None:
        made = Job(
            name="a",
            command=("/bin/sh", "-c", 'echo "$0" "$A" "$B"; pwd; echo $((HEALD_ENDS - $(date +%s)))', "it's"),
            setup=("A=1; export A",),
            variables={"B": "two words"},
            directory=str(tmp_path),
            walltime=timedelta(minutes=1),
        )
        ran = subprocess.run(["/bin/bash", "-c", script(made)], capture_output=True, text=True, check=True)
        first, where, left = ran.stdout.splitlines()
        assert (first, where) == ("it's 1 two words", str(tmp_path))
        assert 58 <= int(left) <= 60

    def test_writes_its_own_output(self, tmp_path: Path) -> None:
        out, err = tmp_path / "o u t", tmp_path / "err"
        made = Job(name="a", command=("sh", "-c", "echo 1; echo 2 >&2"), stdout=str(out), stderr=str(err))
        for _ in range(2):
            subprocess.run(["/bin/bash", "-c", script(made, redirect=True)], check=True)
        assert (out.read_text(), err.read_text()) == ("1\n1\n", "2\n2\n")

    def test_a_folder_that_is_not_there_is_a_failure(self) -> None:
        made = Job(name="a", command=("echo", "no"), directory="/no/such/folder")
        ran = subprocess.run(["/bin/bash", "-c", script(made)], capture_output=True, text=True)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert "/no/such/folder" in ran.stderr

    def test_modules_need_a_login_shell(self) -> None:
        lines = script(Job(name="a", command=("x",), modules=("cray-python",)), ["-N 1"], "#PBS").splitlines()
        assert lines == ["#!/bin/bash -l", "#PBS -N 1", "module load cray-python", "exec x"]


def test_clock() -> None:
    assert [clock(timedelta(seconds=seconds)) for seconds in (1, 61, 3600, 90061.4)] == [
        "0:00:01", "0:01:01", "1:00:00", "25:01:01",
    ]  # fmt: skip


def test_without() -> None:
    without(Job(name="a", command=("x",)), "PBS", "qos", "memory", "filesystems")
    with pytest.raises(ConfigurationError, match="PBS knows no `memory`"):
        without(Job(name="a", command=("x",), memory=1), "PBS", "qos", "memory")
