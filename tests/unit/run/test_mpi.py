from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from heald.core.placement import Lease, Share
from heald.core.resources import Resources
from heald.run.mpi import prefix
from heald.site.launcher import Hydra, MpiLauncher, OpenMpi, Pals, Srun


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)


def lease(*shares: Share) -> Lease:
    return Lease(1, shares, Resources(ranks=sum(share.ranks for share in shares), nodes=len(shares)))


TWO = lease(Share("a1.n1", (0, 1), ranks=2), Share("a1.n2", (4,)))


def seen(words: str, launcher: MpiLauncher, rank: int) -> str:
    """What a rank sees of its cores and devices when it is started by these words."""
    script = next(word for word in shlex.split(words) if "/rank-" in word)
    # The cores of a machine that is larger than this one: nobody is bound here.
    show = 'echo $CUDA_VISIBLE_DEVICES "${@:-none}"'
    environment = {
        **os.environ,
        launcher.rank: str(rank),
        "CUDA_VISIBLE_DEVICES": "all",
        "PATH": f"{Path(script).parent}:/bin",
    }
    stand_in = Path(script).with_name("taskset")
    stand_in.write_text('#!/bin/sh\necho "$2" $CUDA_VISIBLE_DEVICES\n')
    stand_in.chmod(0o700)
    ran = subprocess.run([script, "sh", "-c", show], env=environment, capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def test_nothing_is_put_before_ranks_that_need_nothing(tmp_path: Path) -> None:
    words = prefix(Srun("pmi2"), TWO, ["n1", "n2"], tmp_path / "ranks")
    assert words.startswith("srun ")
    assert words.endswith("--nodelist=n1,n1,n2 --kill-on-bad-exit=1 --mpi=pmi2")
    assert not list(tmp_path.iterdir())


def test_each_rank_has_the_cores_of_its_part_of_the_share(tmp_path: Path) -> None:
    held = lease(Share("a1.n1", (0, 1, 6, 7), ranks=2), Share("a1.n2", (4, 5)))
    words = prefix(Pals(), held, ["n1", "n2"], tmp_path, bind=True)
    assert [seen(words, Pals(), rank) for rank in range(3)] == ["0,1 all", "6,7 all", "4,5 all"]


def test_each_rank_sees_its_own_devices_alone(tmp_path: Path) -> None:
    whole = tuple((name, 1.0) for name in "0123")
    words = prefix(Pals(), lease(Share("n1", (0, 1), whole, ranks=2)), ["n1"], tmp_path)
    assert [seen(words, Pals(), rank) for rank in range(2)] == ["0,1 none", "2,3 none"]
    half = (("0", 0.5), ("0", 0.5), ("1", 0.5))
    words = prefix(Pals(), lease(Share("n1", (0, 1, 2), half, ranks=3)), ["n1"], tmp_path, bind=True)
    assert [seen(words, Pals(), rank) for rank in range(3)] == ["0 0", "1 0", "2 1"]


@pytest.mark.parametrize("launcher", [Srun(), Hydra(), OpenMpi(), Pals()], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("hosts", [["n1", "n2"], ["n1"]], ids=len)
def test_a_shell_may_take_the_words_from_a_variable(
    launcher: MpiLauncher, hosts: Sequence[str], tmp_path: Path
) -> None:
    hosts = [] if len(hosts) == 1 and not isinstance(launcher, Srun) else hosts  # for this machine
    held = lease(*(Share(host, (0, 1), (("x", 1.0), ("y", 1.0)), ranks=2) for host in hosts or ["n1"]))
    words = prefix(launcher, held, hosts, tmp_path, bind=True)
    assert shlex.split(words) == words.split()
    scripts = [Path(word) for word in words.split() if word.startswith(str(tmp_path))]
    assert scripts
    assert all(os.access(script, os.X_OK) for script in scripts)


def test_equal_scripts_are_one_file(tmp_path: Path) -> None:
    for _ in range(3):
        prefix(Hydra(), TWO, ["n1", "n2"], tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_hosts_are_told_in_the_order_in_which_ranks_are_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-3]")
    held = lease(Share("a1.n3", (0, 1), ranks=2), Share("a1.n1", (4,)))
    words = prefix(Hydra(), held, ["n3", "n1"], tmp_path, bind=True)
    assert "-hosts n1:1,n3:2 -n 3" in words
    assert [seen(words, Hydra(), rank)[0] for rank in range(3)] == ["4", "0", "1"]
