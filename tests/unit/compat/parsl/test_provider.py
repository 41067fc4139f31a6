from __future__ import annotations

from typing import Any

import pytest

from heald.compat import NotServed
from heald.compat.parsl.error import BadLauncher, ScriptPathError
from heald.compat.parsl.launcher import (
    AprunLauncher,
    GnuParallelLauncher,
    JsrunLauncher,
    Launcher,
    MpiExecLauncher,
    SimpleLauncher,
    SrunLauncher,
    WrappedLauncher,
)
from heald.compat.parsl.provider import (
    GridEngineProvider,
    LocalChannel,
    LocalProvider,
    LSFProvider,
    PBSProProvider,
    SlurmProvider,
)
from heald.site import gridengine, lsf, pbs, slurm
from heald.site.scheduler import job


class TestLocal:
    def test_variables_of_worker_init(self) -> None:
        assert LocalProvider().variables() == {}
        found = LocalProvider(worker_init="export A_B='x\ny'").variables()
        assert found["A_B"] == "x\ny"

    @pytest.mark.parametrize("line", ["false\nexit 3", "exit 0"])
    def test_worker_init_fails(self, line: str) -> None:
        with pytest.raises(ScriptPathError, match="worker_init"):
            LocalProvider(worker_init=line).variables()

    def test_older_spellings(self) -> None:
        provider = LocalProvider(channel=LocalChannel(), cmd_timeout=3, max_blocks=3)
        assert (provider.blocks, provider.cmd_timeout) == (3, 3)
        with pytest.raises(BadLauncher):
            LocalProvider(launcher="srun")  # type: ignore[arg-type]

    def test_in_a_batch_job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        provider = LocalProvider(nodes_per_block=2, launcher=SrunLauncher(), worker_init="module load a")
        assert not provider.spreads
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
        assert provider.spreads
        assert (provider.site().launcher, provider.site().setup) == ("srun", ("module load a",))
        assert not LocalProvider(nodes_per_block=2).spreads


def lines(provider: Any, module: Any) -> list[str]:
    """The job script of a block, without those lines of heald's own that are always there."""
    script = module.script(job(provider.site(), "a", ["agent"], nodes=provider.nodes_per_block, directory=""))
    return [line for line in script.splitlines()[1:-1] if "--job-name" not in line and " -N " not in line]


class TestScripts:
    def test_slurm(self) -> None:
        provider = SlurmProvider(
            "batch", "me", nodes_per_block=2, qos="high", constraint="gpu", gpus_per_node=4, mem_per_node=64,
            gres="tmp:1", scheduler_options="#SBATCH --mail-type=END\n  #SBATCH --reservation=r\nmodule purge",
            worker_init="module load conda\nconda activate x", launcher=SrunLauncher(overrides="-K0"), cmd_timeout=60,
        )  # fmt: skip
        assert lines(provider, slurm) == [
            "#SBATCH --nodes=2",
            "#SBATCH --ntasks-per-node=1",
            "#SBATCH --partition=batch",
            "#SBATCH --account=me",
            "#SBATCH --qos=high",
            "#SBATCH --constraint=gpu",
            "#SBATCH --gpus-per-node=4",
            "#SBATCH --mem=0",
            "#SBATCH --exclusive",
            "#SBATCH --mem=64G",
            "#SBATCH --gres=tmp:1",
            "#SBATCH --mail-type=END",
            "#SBATCH --reservation=r",
            "module purge",
            "module load conda",
            "conda activate x",
        ]

    def test_pbs(self) -> None:
        provider = PBSProProvider(
            account="me", queue="prod", nodes_per_block=10, cpus_per_node=64, select_options=":ngpus=4",
            scheduler_options="#PBS -l filesystems=home:eagle", launcher=SimpleLauncher(),
        )  # fmt: skip
        assert lines(provider, pbs) == [
            "#PBS -l select=10:ncpus=64:ngpus=4",
            "#PBS -l place=scatter",
            "#PBS -q prod",
            "#PBS -A me",
            "#PBS -j oe",
            "#PBS -l filesystems=home:eagle",
            'export HEALD_HOSTS="$(hostname)"',
        ]
        assert PBSProProvider().cores_per_node is None

    def test_lsf(self) -> None:
        provider = LSFProvider(project="me", queue="q", cores_per_block=10, cores_per_node=4, request_by_nodes=False)
        assert lines(provider, lsf) == [
            "#BSUB -J a", "#BSUB -n 12", '#BSUB -R "span[ptile=4]"', "#BSUB -q q", "#BSUB -P me",
        ]  # fmt: skip
        with pytest.raises(ValueError, match="cores_per_block"):
            LSFProvider(request_by_nodes=False)

    def test_grid_engine(self) -> None:
        provider = GridEngineProvider(queue="all.q", nodes_per_block=2, scheduler_options="#$ -pe mpi 8\n#$ -P me")
        assert provider.cores_per_node == 4
        assert lines(provider, gridengine) == ["#$ -S /bin/bash", "#$ -pe mpi 8", "#$ -q all.q", "#$ -j y", "#$ -P me"]


@pytest.mark.parametrize(
    ("kind", "walltime", "seconds"),
    [
        (SlurmProvider, "00:10:00", 600),
        (SlurmProvider, "30", 1800),
        (SlurmProvider, "10:30", 630),
        (SlurmProvider, "1-12", 129600),
        (PBSProProvider, "90", 90),
        (LSFProvider, "2:30", 9000),
        (LSFProvider, "45", 2700),
    ],
)
def test_walltimes(kind: Any, walltime: str, seconds: float) -> None:
    assert kind(walltime=walltime).seconds == seconds


def test_no_walltime() -> None:
    with pytest.raises(ValueError, match="HH:MM:SS"):
        SlurmProvider(walltime="YOUR_WALLTIME").seconds


@pytest.mark.parametrize("launcher", [AprunLauncher(), JsrunLauncher(), WrappedLauncher("time"), Launcher()])
def test_launchers_that_heald_has_not(launcher: Launcher) -> None:
    with pytest.raises(NotServed, match=type(launcher).__name__) as raised:
        SlurmProvider(launcher=launcher)
    assert raised.value.hint == launcher.instead
    LocalProvider(launcher=launcher)


def test_launchers_that_heald_has() -> None:
    assert SlurmProvider(launcher=GnuParallelLauncher()).site().launcher == "ssh"
    assert SlurmProvider(launcher=MpiExecLauncher()).site().launcher == "mpiexec"
    with pytest.raises(NotServed, match="SLURM_CLUSTERS"):
        SlurmProvider(clusters="c1")


def test_blocks() -> None:
    assert SlurmProvider(init_blocks=0, max_blocks=4).blocks == 4
    assert SlurmProvider(max_blocks=4, parallelism=0).blocks == 1
    assert "partition='debug'" in repr(SlurmProvider("debug"))
