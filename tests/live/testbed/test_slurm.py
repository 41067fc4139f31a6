"""Slurm over the hosts runs jobs, loses nodes and its controller, and comes back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.testbed.host import HEAD
from tests.testbed.keeper import wait_for
from tests.testbed.slurm import Slurm

pytestmark = pytest.mark.live


def test_slurm_runs_a_step_on_every_node(slurm: Slurm) -> None:
    assert set(slurm.command("srun", "--nodes=4", "hostname").split()) == set(slurm.hosts.nodes)


def test_slurm_runs_a_batch_job_in_its_folder(slurm: Slurm, tmp_path: Path) -> None:
    job = slurm.submit("hostname; pwd; srun hostname", "--nodes=2", "--nodelist=n3,n4", folder=tmp_path)
    assert slurm.await_state(job, "COMPLETED", "FAILED") == "COMPLETED"
    lines = (tmp_path / f"slurm-{job}.out").read_text().splitlines()
    assert lines[:2] == ["n3", str(tmp_path)]
    assert set(lines[2:]) == {"n3", "n4"}


def test_slurm_gives_gpus(slurm: Slurm) -> None:
    show = "echo $CUDA_VISIBLE_DEVICES"
    assert slurm.command("srun", "--gres=gpu:2", "sh", "-c", show) == "0,1\n"
    assert sorted(slurm.command("srun", "-n4", "--gpus-per-task=1", "sh", "-c", show).split()) == ["0", "1", "2", "3"]


def test_a_job_survives_an_outage_of_the_controller(slurm: Slurm, tmp_path: Path) -> None:
    job = slurm.submit("sleep 60", folder=tmp_path)
    slurm.await_state(job, "RUNNING")
    slurm.await_saved(job)
    slurm.stop_controller()
    failed = slurm.hosts.run(HEAD, ["squeue"], status=1)
    assert "Unable to contact slurm controller (connect failure)" in failed.stderr
    slurm.start_controller()
    assert slurm.state(job) == "RUNNING"
    slurm.command("scancel", job)


def test_a_job_that_lost_its_node_is_queued_again(slurm: Slurm, tmp_path: Path) -> None:
    job = slurm.submit("echo start $SLURM_RESTART_COUNT; sleep 60", "--nodelist=n2", folder=tmp_path)
    slurm.await_state(job, "RUNNING")
    output = tmp_path / f"slurm-{job}.out"
    wait_for(output.exists, "the job's output")
    slurm.hosts.crash("n2")
    slurm.await_state(job, "PENDING")
    slurm.hosts.boot("n2")
    wait_for(lambda: "start 1" in output.read_text(), "the second start", patience=30)
    slurm.command("scancel", job)


def test_an_urgent_job_takes_the_nodes_of_another(slurm: Slurm, tmp_path: Path) -> None:
    victim = slurm.submit("sleep 60", "--nodes=4", "--exclusive", folder=tmp_path)
    slurm.await_state(victim, "RUNNING")
    slurm.submit("hostname", "--partition=urgent", folder=tmp_path)
    slurm.await_state(victim, "PENDING")
    slurm.command("scancel", victim)


def test_a_closed_partition_lets_jobs_wait(slurm: Slurm, tmp_path: Path) -> None:
    slurm.close()
    job = slurm.submit("true", folder=tmp_path)
    assert "PartitionDown" in slurm.command("squeue", "--noheader", "--format=%r", f"--jobs={job}")
    slurm.open()
    slurm.await_state(job, "COMPLETED")


def test_a_job_over_its_memory_is_killed(slurm: Slurm, tmp_path: Path) -> None:
    job = slurm.submit(f"{sys.executable} -c 'bytearray(300 << 20)'", "--mem=50", folder=tmp_path)
    assert slurm.await_state(job, "OUT_OF_MEMORY", "FAILED", "COMPLETED") == "OUT_OF_MEMORY"
