"""The fake Flux runs jobs, batch jobs and what is started in these as Flux does, and says so in its words."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.testbed.flux import FakeFlux
from tests.testbed.host import HEAD
from tests.testbed.keeper import wait_for

pytestmark = pytest.mark.live


def test_a_batch_job_is_an_instance_of_its_own(flux: FakeFlux, tmp_path: Path) -> None:
    script = """#!/bin/bash
    # flux: --nodes=3
    # flux: --output=out.txt
    pwd; hostname
    echo $FLUX_ENCLOSING_ID ${FLUX_JOB_ID:-none} $CUDA_VISIBLE_DEVICES
    flux getattr hostlist
    flux resource list -n -o "{nnodes} {ncores} {ngpus}"
    show='echo $(hostname) $FLUX_TASK_RANK $FLUX_TASK_LOCAL_ID $CUDA_VISIBLE_DEVICES'
    flux run -N3 -n6 --gpus-per-task=2 sh -c "$show" | sort
    flux exec hostname | sort | tr '\\n' ' '
    """.replace("\n    ", "\n")
    job = flux.submit(script, folder=tmp_path)
    assert job.startswith("ƒ")
    assert flux.await_state(job, "COMPLETED", "FAILED") == "COMPLETED"
    assert (tmp_path / "out.txt").read_text().splitlines() == [
        str(tmp_path),
        "n1",
        f"{job} none 0,1,2,3",
        "n[1-3]",
        "3 12 12",
        *(f"n{node} {2 * node + slot - 2} {slot} {2 * slot},{2 * slot + 1}" for node in (1, 2, 3) for slot in (0, 1)),
        "n1 n2 n3 ",
    ]
    assert flux.show(job, "{nnodes} {nodelist} {returncode} {success}") == "3 n[1-3] 0 True"


def test_jobs_wait_for_room(flux: FakeFlux, tmp_path: Path) -> None:
    first = flux.submit("sleep 60", "-N4", folder=tmp_path)
    flux.await_state(first, "RUN")
    second = flux.submit("true", "-n1", folder=tmp_path)
    assert flux.state(second) == "SCHED"
    assert flux.command("flux", "resource", "list", "-n", "-s", "free", "-o", "{nnodes} {ncores}") == "0 0\n"
    assert flux.command("flux", "resource", "list", "-n", "-s", "all", "-o", "{nnodes} {ncores}") == "4 16\n"
    flux.command("flux", "cancel", first)
    flux.await_state(second, "COMPLETED")
    assert flux.state(first) == "CANCELED"
    assert flux.show(first, "{exception.type}") == "cancel"


def test_what_can_never_run_fails_at_once(flux: FakeFlux, tmp_path: Path) -> None:
    job = flux.submit("true", "-N9", folder=tmp_path)
    flux.await_state(job, "FAILED")
    assert flux.show(job, "{exception.type}: {exception.note} {returncode}") == "alloc: unsatisfiable request -128"


def test_a_job_over_its_time(flux: FakeFlux, tmp_path: Path) -> None:
    job = flux.submit("sleep 60", "-N1", "-t", "0.3s", folder=tmp_path)
    flux.await_state(job, "TIMEOUT")
    assert flux.show(job, "{exception.note}") == "resource allocation expired"


def test_a_status_is_kept(flux: FakeFlux, tmp_path: Path) -> None:
    job = flux.submit("echo said; exit 7", "-n1", folder=tmp_path)
    flux.await_state(job, "FAILED")
    assert flux.show(job, "{returncode}") == "7"
    assert (tmp_path / f"flux-{job}.out").read_text() == "said\n"


def test_small_jobs_of_the_machine(flux: FakeFlux) -> None:
    job = flux.command("flux", "submit", "-n2", "-N2", "hostname").strip()
    assert sorted(flux.command("flux", "job", "attach", job).split()) == ["n1", "n2"]
    assert flux.command("flux", "run", "--requires=hosts:n3", "hostname") == "n3\n"
    failed = flux.hosts.run(HEAD, ["flux", "run", "sh", "-c", "echo no >&2; exit 3"], status=3)
    assert failed.stderr == "no\n"


def test_a_node_without_power_fails_the_job(flux: FakeFlux, tmp_path: Path) -> None:
    job = flux.submit("sleep 60", "-N2", folder=tmp_path)
    flux.await_state(job, "RUN")
    flux.hosts.crash("n2")
    flux.await_state(job, "FAILED")
    assert flux.show(job, "{exception.type}: {exception.note}") == "exec: node failure on n2 (rank 1)"
    assert flux.command("flux", "resource", "list", "-n", "-s", "down", "-o", "{nodelist}") == "n2\n"


def test_errors_are_said_as_flux_does(flux: FakeFlux, tmp_path: Path) -> None:
    job = flux.submit("true", "-n1", folder=tmp_path)
    flux.await_state(job, "COMPLETED")
    assert "job is inactive" in flux.hosts.run(HEAD, ["flux", "cancel", job], status=1).stderr
    assert "unknown job id" in flux.hosts.run(HEAD, ["flux", "cancel", "ƒabc"], status=1).stderr
    assert flux.hosts.run(HEAD, ["flux", "jobs", "-n", "ƒabc"]).stderr == "JobID ƒabc unknown\n"
    flux.turn(down=True)
    failed = flux.hosts.run(HEAD, ["flux", "jobs"], status=1)
    assert "Unable to connect to Flux" in failed.stderr


def test_a_killed_exec_takes_its_processes_along(flux: FakeFlux) -> None:
    with flux.hosts.start(HEAD, ["flux", "exec", "--rank=0-1", "sleep", "60"]) as process:
        wait_for(lambda: flux.hosts.strangers("n2"), "a process")
        process.kill()
    wait_for(lambda: not flux.hosts.strangers("n1") + flux.hosts.strangers("n2"), "the end of both")
