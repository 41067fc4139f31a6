from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from heald.core.errors import ConfigurationError, SiteError
from heald.site import launcher
from heald.site.command import Answer
from heald.site.launcher import (
    Blaunch,
    FluxRun,
    Fork,
    Hydra,
    Launcher,
    MpiLauncher,
    OpenMpi,
    Pals,
    Pbsdsh,
    Qrsh,
    Srun,
    Ssh,
    bound,
    flavour,
    forget_rank,
    mpi_launcher,
    order,
)
from heald.site.profile import Site

HYDRA = "HYDRA build details:\n    Version:                                 5.0.2\n"
OPEN_MPI = "mpiexec (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/\n"
INTEL = "Intel(R) MPI Library for Linux* OS, Version 2021.13 Build 20240515\n"
PALS = "PALS version 1.7.1\n"
TYPES = "MPI plugin types are...\n\tpmix\n\tnone\n\tpmi2\nspecific pmix plugin versions available: pmix_v4\n"
TWO = ("n1", "n2")


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are in no batch job, and ssh is that of the machine."""
    for name in (
        "SLURM_JOB_ID",
        "SLURM_JOB_NODELIST",
        "SLURM_MPI_TYPE",
        "SLURM_CPUS_PER_TASK",
        "SLURM_NTASKS_PER_NODE",
        "HEALD_SSH",
    ):
        monkeypatch.delenv(name, raising=False)


def line(argv: list[str]) -> str:
    return " ".join(argv)


@pytest.mark.parametrize(
    ("launcher", "lines"),
    [
        (Srun(), ["srun --overlap --nodes=2 --ntasks=2 --cpu-bind=none --input=none --export=ALL --quiet "
                  "--distribution=block --ntasks-per-node=1 --nodelist=n1,n2 --kill-on-bad-exit=0 --wait=0 --no-kill "
                  "--mpi=none agent -x"]),
        (Hydra(interface="hsn0"), ["mpiexec -disable-auto-cleanup -iface hsn0 -bind-to none -hosts n1:1,n2:1 -n 2 "
                                   "agent -x"]),
        (Pals(), ["mpiexec --hosts n1,n2 --ppn 1 -n 2 --cpu-bind none --no-abort-on-failure agent -x"]),
        (FluxRun(), ["flux exec --rank=all agent -x"]),
        (Fork(), ["agent -x", "agent -x"]),
        (Pbsdsh(), ["pbsdsh -- agent -x"]),
        (Blaunch(), ["blaunch -z n1 n2 agent -x"]),
        (Qrsh(), ["qrsh -inherit -nostdin n1 agent -x", "qrsh -inherit -nostdin n2 agent -x"]),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_one_agent_on_each_host(launcher: Launcher, lines: list[str]) -> None:
    assert [line(argv) for argv in launcher.agents(TWO, ["agent", "-x"])] == lines


def test_ssh_quotes_for_the_shell_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALD_SSH", "ssh -F 'my config'")
    first, second = Ssh().agents(TWO, ["agent", "a b"])
    assert first[:3] == ["ssh", "-F", "my config"]
    assert "-oBatchMode=yes" in first
    assert (first[-2:], second[-2]) == (["n1", "exec agent 'a b'"], "n2")


@pytest.mark.parametrize(
    ("launcher", "ranks", "expected"),
    [
        (Srun("pmix"), (2, 1), "srun --overlap --nodes=2 --ntasks=3 --cpu-bind=none --input=none --export=ALL --quiet "
                               "--distribution=arbitrary --nodelist=n1,n1,n2 --kill-on-bad-exit=1 --mpi=pmix"),
        (Srun(), (9000, 9000), "srun --overlap --nodes=2 --ntasks=18000 --cpu-bind=none --input=none --export=ALL "
                               "--quiet --distribution=block --ntasks-per-node=9000 --nodelist=n1,n2 "
                               "--kill-on-bad-exit=1"),
        (Hydra(), (3, 1), "mpiexec -bind-to none -hosts n1:3,n2:1 -n 4"),
        (Pals(), (4, 1), "mpiexec --hosts n1,n2 --ppn 4 -n 5 --cpu-bind none"),
        (FluxRun(), (2, 2), "flux run --nodes=2 --ntasks=4 --requires=hosts:n1,n2 -o cpu-affinity=off "
                            "-o gpu-affinity=off"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_ranks_of_a_program(launcher: MpiLauncher, ranks: tuple[int, ...], expected: str) -> None:
    assert line(launcher.mpi_prefix(TWO, ranks)) == expected


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        (Srun(), "srun --overlap --nodes=1 --ntasks=3 --cpu-bind=none --input=none --export=ALL --quiet "
                 "--distribution=block --ntasks-per-node=3 --nodelist=n2 --kill-on-bad-exit=1"),
        (Hydra(), "mpiexec -bind-to none -hosts n2:3 -n 3"),
        (OpenMpi(), "mpiexec --host n2 --map-by node:OVERSUBSCRIBE --rank-by slot --bind-to none -n 3"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_ranks_of_a_program_on_one_host(launcher: MpiLauncher, expected: str) -> None:
    assert line(launcher.mpi_prefix(["n2"], [3])) == expected


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        (Hydra(), "mpiexec -bind-to none -launcher fork -rmk user -n 3"),
        (OpenMpi(), "mpiexec --host localhost --map-by node:OVERSUBSCRIBE --rank-by slot --bind-to none -n 3"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ranks_of_a_program_on_this_machine(launcher: MpiLauncher, expected: str) -> None:
    assert line(launcher.mpi_prefix((), [3])) == expected


def test_open_mpi_is_told_to_pass_all_variables_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = tmp_path / "mpiexec"
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("MINE", "two\nNOT_A_NAME=lines")
    monkeypatch.setenv("PMIX_RANK", "3")
    argv = [*OpenMpi().mpi_prefix(TWO, (2, 1)), "program"]
    *names, last = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("--host")
    assert {"PATH", "MINE"} <= set(names[0].split())
    assert not {"NOT_A_NAME", "PMIX_RANK", "PWD", "AWKPATH"} & set(names[0].split())
    assert last == " n1,n2 --map-by node:OVERSUBSCRIBE --rank-by slot --bind-to none -n 3 program\n"


def test_hydra_numbers_ranks_in_the_order_of_a_slurm_job(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = ("n10", "n3", "n2")
    assert order(Hydra(), hosts) == [0, 1, 2]
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-3,10]")
    assert order(Hydra(), hosts) == [2, 1, 0]
    assert order(OpenMpi(), hosts) == [0, 1, 2]


def test_an_agent_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    of_ranks = [
        "PMI_RANK",
        "PMIX_NAMESPACE",
        "OMPI_COMM_WORLD_SIZE",
        "HYDI_CONTROL_FD",
        "PALS_RANKID",
        "MPI_LOCALNRANKS",
    ]
    of_users = ["OMPI_MCA_btl", "PMIX_MCA_psec", "OMPI_ALLOW_RUN_AS_ROOT", "HYDRA_IFACE", "PALS_TIMEOUT", "MPI_HOME"]
    for name in (*of_ranks, *of_users):
        monkeypatch.setenv(name, "1")
    forget_rank()
    assert not set(of_ranks) & set(os.environ)
    assert set(of_users) <= set(os.environ)


def test_what_slurm_says_of_the_job_is_not_said_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    assert Srun().mpi_prefix(TWO, (1, 1))[:4] == ["env", "-u", "SLURM_CPUS_PER_TASK", "srun"]


@pytest.mark.parametrize("launcher", [OpenMpi(), FluxRun()], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("ranks", [(1, 2), (3, 1)])
def test_most_spread_ranks_evenly_only(launcher: MpiLauncher, ranks: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match="evenly"):
        launcher.mpi_prefix(TWO, ranks)


def test_pals_fills_hosts_only() -> None:
    assert "--ppn 2" in line(Pals().mpi_prefix(("a", "b", "c"), (2, 2, 1)))
    with pytest.raises(ConfigurationError, match="fills"):
        Pals().mpi_prefix(("a", "b", "c"), (2, 1, 1))


@pytest.mark.parametrize("launcher", [Hydra(), OpenMpi()], ids=lambda value: type(value).__name__)
def test_in_a_slurm_job_steps_must_overlap(launcher: MpiLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert launcher.mpi_prefix(["n1"], [2])[:3] == ["env", "SLURM_OVERLAP=1", "mpiexec"]


class TestBound:
    def run(self, rank: int, *words: list[list[Any]]) -> str:
        argv = [
            *bound(Pals(), *words),
            "/bin/sh",
            "-c",
            'taskset -cp $$ | sed "s/.*: //"; echo "$CUDA_VISIBLE_DEVICES"',
        ]
        environment = {**os.environ, "PALS_RANKID": str(rank)}
        environment.pop("CUDA_VISIBLE_DEVICES", None)
        ran = subprocess.run(argv, env=environment, capture_output=True, text=True)
        return (ran.stdout or ran.stderr).replace("\n", " ").strip()

    def test_each_rank_has_its_cores_and_devices(self) -> None:
        first, *_, last = sorted(os.sched_getaffinity(0))
        cores = [[first], [last], [first, last]]
        devices = [["0"], ["GPU-1", "GPU-2"], []]
        assert self.run(0, cores, devices) == f"{first} 0"
        assert self.run(1, cores, devices) == f"{last} GPU-1,GPU-2"
        assert self.run(1, cores) == str(last)
        assert self.run(2, cores) in (f"{first},{last}", f"{first}-{last}")
        assert self.run(1, [], devices).endswith("GPU-1,GPU-2")

    def test_a_rank_is_told_as_the_vendor_wants_it(self) -> None:
        show = ["sh", "-c", 'echo "$ROCR_VISIBLE_DEVICES $HIP_VISIBLE_DEVICES $HEALD_GPUS $ZE_AFFINITY_MASK"']
        argv = [*bound(Pals(), [], [["2"], ["3", "5"]], "amd"), *show]
        ran = subprocess.run(argv, env={**os.environ, "PALS_RANKID": "1"}, capture_output=True, text=True)
        assert ran.stdout == "3,5 0,1 3,5 \n"

    def test_a_rank_too_many_is_an_error(self) -> None:
        assert self.run(2, [[0], [0]]) == "heald: no cores were given to rank 2"

    @pytest.mark.parametrize("launcher", [Srun(), OpenMpi(), Pals(), FluxRun()])
    def test_nothing_to_do(self, launcher: MpiLauncher) -> None:
        assert bound(launcher) == []


class TestHydraIsTold:
    """Of a rank that ends badly, which it would not notice before MPI_Init."""

    def run(self, *argv: str) -> tuple[int, str, str]:
        """A rank's status, what it told Hydra, and what it told people."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                ran = subprocess.run(
                    [*bound(Hydra()), *argv],
                    env={**os.environ, "PMI_RANK": "2", "PMI_FD": str(theirs.fileno())},
                    pass_fds=[theirs.fileno()],
                    capture_output=True,
                    text=True,
                )
            return ran.returncode, ours.recv(1000).decode(), ran.stderr + ran.stdout

    def test_a_rank_that_ends_well(self) -> None:
        assert self.run("echo", "hello") == (0, "", "hello\n")

    def test_a_rank_that_fails(self) -> None:
        status, told, said = self.run("sh", "-c", "exit 3")
        assert (status, told) == (3, "cmd=abort exitcode=3\n")
        assert said == f"heald: rank 2 on {os.uname().nodename} ended with status 3\n"

    def test_a_rank_that_is_killed(self) -> None:
        status, told, said = self.run("sh", "-c", "kill -9 $$")
        assert (status, told) == (137, "cmd=abort exitcode=137\n")
        assert "rank 2" in said

    @pytest.mark.parametrize("name", ["TERM", "USR1"])
    def test_a_signal_reaches_the_rank(self, name: str) -> None:
        line = f'trap "echo saved; exit 0" {name}; kill -{name} $PPID; while :; do :; done'
        status, _, said = self.run("sh", "-c", line)
        assert (status, said) == (0, "saved\n")


class TestChoice:
    @pytest.mark.parametrize(
        ("scheduler", "kind"),
        [("slurm", Srun), ("pbs", Pbsdsh), ("flux", FluxRun), ("lsf", Blaunch), ("gridengine", Qrsh), ("ssh", Ssh),
         ("local", Fork), ("somebody's", Ssh)],
    )  # fmt: skip
    def test_a_scheduler_has_its_own(self, scheduler: str, kind: type) -> None:
        assert isinstance(launcher.launcher(Site("a", scheduler=scheduler)), kind)

    def test_a_site_may_say_another(self) -> None:
        assert launcher.launcher(Site("a", scheduler="pbs", launcher="pals")) == Pals()
        assert launcher.launcher(Site("a", launcher="hydra", interface="hsn0")) == Hydra(interface="hsn0")
        with pytest.raises(ConfigurationError, match="a: there is no launcher 'palz'") as caught:
            launcher.launcher(Site("a", launcher="palz"))
        assert "pals" in caught.value.hint

    @pytest.mark.parametrize(
        ("said", "found"),
        [(HYDRA, Hydra(interface="eth0")), (INTEL, Hydra(interface="eth0")), (OPEN_MPI, OpenMpi()),
         ("mpirun (Open MPI) 4.1.4", OpenMpi()), ("prterun (PRRTE) 3.0.0", OpenMpi()), (PALS, Pals())],
    )  # fmt: skip
    def test_whose_mpiexec(self, program: Any, said: str, found: MpiLauncher) -> None:
        program.answers["mpiexec --version"] = Answer(0, said)
        assert flavour(program, "eth0") == found
        assert mpi_launcher(Site("a", scheduler="gridengine", interface="eth0"), program) == found
        assert launcher.launcher(Site("a", launcher="mpiexec", interface="eth0"), program) == found

    def test_an_mpiexec_that_nobody_knows(self, program: Any) -> None:
        program.answers["mpiexec"] = Answer(1, "", "usage: mpiexec\n")
        with pytest.raises(SiteError, match="does not tell whose it is: usage") as caught:
            flavour(program)
        assert "pals" in caught.value.hint

    @pytest.mark.parametrize(("said", "kind"), [(HYDRA, "pmi2"), (OPEN_MPI, "pmix"), (PALS, "")])
    def test_srun_speaks_as_the_mpi_does(self, program: Any, said: str, kind: str) -> None:
        program.answers.update({"mpiexec": Answer(0, said), "srun": Answer(0, TYPES)})
        assert mpi_launcher(Site("a", scheduler="slurm"), program) == Srun(kind)

    def test_srun_without_mpiexec_is_left_to_the_site(self, program: Any) -> None:
        def absent() -> Answer:
            raise SiteError("cannot run mpiexec")

        program.answers["mpiexec"] = absent
        assert mpi_launcher(Site("a", scheduler="slurm"), program) == Srun()

    def test_srun_that_does_not_speak_so_is_not_taken(self, program: Any) -> None:
        program.answers.update({"mpiexec": Answer(0, OPEN_MPI), "srun": Answer(0, "\tnone\n\tcray_shasta\n")})
        assert mpi_launcher(Site("a", scheduler="slurm"), program) == OpenMpi()
        assert mpi_launcher(Site("a", scheduler="slurm", mpi="srun"), program) == Srun()

    def test_the_user_may_say_how_srun_speaks(self, program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SLURM_MPI_TYPE", "cray_shasta")
        assert mpi_launcher(Site("a", scheduler="slurm"), program) == Srun()

    def test_a_site_may_say_how_mpi_is_started(self, program: Any) -> None:
        program.answers["mpiexec"] = Answer(0, HYDRA)
        assert mpi_launcher(Site("a", scheduler="slurm", mpi="mpiexec"), program) == Hydra()
        assert mpi_launcher(Site("a", scheduler="pbs", launcher="pals"), program) == Pals()
        assert mpi_launcher(Site("a", scheduler="pbs", mpi="openmpi"), program) == OpenMpi()
        with pytest.raises(ConfigurationError, match="there is no launcher 'pbsdsh'"):
            mpi_launcher(Site("a", mpi="pbsdsh"), program)
