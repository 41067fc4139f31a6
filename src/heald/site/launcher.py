"""Command lines that start processes on the nodes of an allocation: one agent on each, or the ranks of an MPI program.

Nothing is run here but `mpiexec --version`, to know whose it is. Whichever it is, it is told not to bind: `bound`
puts each rank on its cores and devices, the same way under all of them.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from heald.core.errors import ConfigurationError, SiteError
from heald.site.command import Ask, ask
from heald.site.profile import Site

_NEVER = ("BatchMode=yes", "ConnectTimeout=20", "ServerAliveInterval=15", "ServerAliveCountMax=4", "LogLevel=ERROR")
# taskset is part of util-linux, and so on every Linux.
_BIND = """\
case ${variable} in
{cases}
*) echo "heald: no cores were given to rank ${variable}" >&2; exit 1;;
esac
[ -z "$devices" ] || export CUDA_VISIBLE_DEVICES=$devices ROCR_VISIBLE_DEVICES=$devices ZE_AFFINITY_MASK=$devices
[ -n "$cores" ] || exec "$@"
exec taskset -c "$cores" "$@\""""


class Launcher(Protocol):
    """Starts processes on hosts of the allocation that it is itself in."""

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """The commands that together start exactly one process on each host."""


class MpiLauncher(Launcher, Protocol):
    """One that starts MPI programs, too. `rank` is the variable by which it tells a process its number."""

    @property
    def rank(self) -> str:
        """See the class."""

    def mpi_prefix(self, hosts: Sequence[str], ranks: Sequence[int], variables: Sequence[str] = ()) -> list[str]:
        """What to put before an MPI program to run `ranks[i]` ranks on `hosts[i]`, numbered host by host.

        Variables of these names are passed on to all ranks.
        """


def ssh() -> list[str]:
    """The words that ssh begins with: those of $HEALD_SSH, or `ssh`; it never asks, and never waits for ever."""
    return [*shlex.split(os.environ.get("HEALD_SSH") or "ssh"), *(f"-o{option}" for option in _NEVER)]


def bound(
    launcher: MpiLauncher, cores: Sequence[Sequence[int]] = (), devices: Sequence[Sequence[str]] = ()
) -> list[str]:
    """What to put between `mpi_prefix` and the program, so that rank r gets `cores[r]`, and sees `devices[r]` alone.

    >>> bound(Hydra())
    []
    """
    count = max(len(cores), len(devices))
    if not count:
        return []
    cases = [f"{rank}) cores={_listed(cores, rank)} devices={_listed(devices, rank)};;" for rank in range(count)]
    return ["/bin/sh", "-c", _BIND.format(variable=launcher.rank, cases="\n".join(cases)), "bind"]


def _listed(groups: Sequence[Sequence[object]], rank: int) -> str:
    return ",".join(map(str, groups[rank])) if groups else ""


# For agents and for MPI


class Srun(msgspec.Struct, frozen=True):
    """Slurm's. `mpi`: what ranks find each other by (`srun --mpi=list`); empty for the site's default."""

    mpi: str = ""
    rank = "SLURM_PROCID"

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        # One agent's end is not all agents' end, nor is the loss of a node (--no-kill).
        alone = ("--kill-on-bad-exit=0", "--wait=0", "--no-kill", "--mpi=none")
        return [[*self._step(hosts, (1,) * len(hosts)), *alone, *argv]]

    def mpi_prefix(self, hosts: Sequence[str], ranks: Sequence[int], variables: Sequence[str] = ()) -> list[str]:
        """See `MpiLauncher`. All variables are passed on."""
        return [*self._step(hosts, ranks), *([f"--mpi={self.mpi}"] if self.mpi else [])]

    def _step(self, hosts: Sequence[str], ranks: Sequence[int]) -> list[str]:
        # A step that does not overlap would wait for the agents' step to end. Options, for the environment of the
        # agents' own step has values for the same things.
        counts = [f"--nodes={len(hosts)}", f"--ntasks={_even(ranks)}"]
        counts += [f"--ntasks-per-node={max(ranks)}"] if len(set(ranks)) == 1 else []
        places = [f"--nodelist={','.join(hosts)}", "--distribution=block"]
        return ["srun", "--overlap", *counts, *places, "--cpu-bind=none", "--input=none", "--quiet"]


class Hydra(msgspec.Struct, frozen=True):
    """MPICH's, Intel's and MVAPICH's. `interface`: the network between its processes; empty for its own choice."""

    interface: str = ""
    rank = "PMI_RANK"

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [[*self._words(hosts, (1,) * len(hosts), "-disable-auto-cleanup"), *argv]]

    def mpi_prefix(self, hosts: Sequence[str], ranks: Sequence[int], variables: Sequence[str] = ()) -> list[str]:
        """See `MpiLauncher`. All variables are passed on."""
        return self._words(hosts, ranks)

    def _words(self, hosts: Sequence[str], ranks: Sequence[int], *options: str) -> list[str]:
        network = ["-iface", self.interface] if self.interface else []
        places = ["-hosts", _places(hosts, ranks), "-n", str(sum(ranks))]
        return [*_overlapping(), "mpiexec", *options, *network, "-bind-to", "none", *places]


class OpenMpi(msgspec.Struct, frozen=True):
    """Open MPI's."""

    rank = "OMPI_COMM_WORLD_RANK"

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [[*self.mpi_prefix(hosts, (1,) * len(hosts)), *argv]]

    def mpi_prefix(self, hosts: Sequence[str], ranks: Sequence[int], variables: Sequence[str] = ()) -> list[str]:
        """See `MpiLauncher`. The variables named are passed on, and no others."""
        # Not "n1:2,n2:2": of a scheduler's nodes it would take no more slots than those of the agents' step.
        spread = ["--host", ",".join(hosts), "-n", str(_even(ranks)), "--map-by", "node:OVERSUBSCRIBE"]
        passed = [word for name in variables for word in ("-x", name)]
        return [*_overlapping(), "mpiexec", *spread, "--rank-by", "slot", "--bind-to", "none", *passed]


def _even(ranks: Sequence[int]) -> int:
    """The number of ranks, which must be spread as launchers do that: evenly, the larger shares first.

    Raises ConfigurationError when they are not.
    """
    if list(ranks) != sorted(ranks, reverse=True) or max(ranks) - min(ranks) > 1:
        raise ConfigurationError(f"ranks are spread evenly over nodes, not as {list(ranks)}")
    return sum(ranks)


def _places(hosts: Sequence[str], ranks: Sequence[int]) -> str:
    return ",".join(f"{host}:{count}" for host, count in zip(hosts, ranks, strict=True))


def _overlapping() -> list[str]:
    """In a Slurm job, mpiexec reaches the nodes by srun, which must not wait for the end of the agents' step."""
    return ["env", "SLURM_OVERLAP=1"] if "SLURM_JOB_ID" in os.environ else []


class Pals(msgspec.Struct, frozen=True):
    """HPE Cray's under PBS (Polaris, Aurora)."""

    rank = "PALS_RANKID"

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [[*self.mpi_prefix(hosts, (1,) * len(hosts)), "--no-abort-on-failure", *argv]]

    def mpi_prefix(self, hosts: Sequence[str], ranks: Sequence[int], variables: Sequence[str] = ()) -> list[str]:
        """See `MpiLauncher`. All variables are passed on."""
        if len(set(ranks[:-1]) | {max(ranks)}) > 1:
            raise ConfigurationError(f"PALS fills one host after another, not as {list(ranks)}")
        words = ["mpiexec", "--hosts", ",".join(hosts), "--ppn", str(max(ranks)), "-n", str(sum(ranks))]
        return [*words, "--cpu-bind", "none"]


class FluxRun(msgspec.Struct, frozen=True):
    """Flux's, inside an instance of its own (`flux batch`)."""

    rank = "FLUX_TASK_RANK"

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`. Not as jobs, which would take the resources from the MPI programs to come."""
        return [["flux", "exec", "--rank=all", *argv]]

    def mpi_prefix(self, hosts: Sequence[str], ranks: Sequence[int], variables: Sequence[str] = ()) -> list[str]:
        """See `MpiLauncher`. All variables are passed on."""
        counts = [f"--nodes={len(hosts)}", f"--ntasks={_even(ranks)}"]
        free = ("-o", "cpu-affinity=off", "-o", "gpu-affinity=off")  # which would hide all devices from ranks
        return ["flux", "run", *counts, f"--requires=hosts:{','.join(hosts)}", *free]


# For agents only


class Fork(msgspec.Struct, frozen=True):
    """Processes of this node, as many as there are hosts: they stand in for nodes."""

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [list(argv) for _ in hosts]


class Ssh(msgspec.Struct, frozen=True):
    """ssh to each host."""

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [[*ssh(), host, f"exec {shlex.join(argv)}"] for host in hosts]


class Pbsdsh(msgspec.Struct, frozen=True):
    """PBS's own, for clusters without PALS: a process for each chunk of the job, which is a node."""

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [["pbsdsh", "--", *argv]]


class Blaunch(msgspec.Struct, frozen=True):
    """LSF's."""

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [["blaunch", "-z", " ".join(hosts), *argv]]


class Qrsh(msgspec.Struct, frozen=True):
    """Grid Engine's, in a parallel environment with control_slaves."""

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [["qrsh", "-inherit", "-nostdin", host, *argv] for host in hosts]


_FOR_MPI: Mapping[str, type[MpiLauncher]] = {
    "srun": Srun,
    "hydra": Hydra,
    "openmpi": OpenMpi,
    "pals": Pals,
    "flux": FluxRun,
}
_FOR_AGENTS: Mapping[str, type[Launcher]] = {
    **_FOR_MPI,
    "fork": Fork,
    "ssh": Ssh,
    "pbsdsh": Pbsdsh,
    "blaunch": Blaunch,
    "qrsh": Qrsh,
}
_FOUND_OUT = "mpiexec"  # whose it is
_OF_SCHEDULER = {
    "slurm": "srun",
    "pbs": "pbsdsh",
    "flux": "flux",
    "lsf": "blaunch",
    "gridengine": "qrsh",
    "ssh": "ssh",
    "local": "fork",
}


def launcher(site: Site, ask: Ask = ask) -> Launcher:
    """What starts the agents of a site: its `launcher`, or else its scheduler's own.

    >>> launcher(Site("mine", scheduler="slurm"))
    Srun(mpi='')

    Raises ConfigurationError when there is none of that name, and SiteError when there is no mpiexec that heald knows.
    """
    if site.launcher == _FOUND_OUT:
        return flavour(ask, site.interface)
    return _made(_FOR_AGENTS, site.launcher or _OF_SCHEDULER.get(site.scheduler, "ssh"), site)


def mpi_launcher(site: Site, ask: Ask = ask) -> MpiLauncher:
    """What starts MPI programs at a site: its `mpi`, or its `launcher` where that can, or else the mpiexec on PATH.

    Raises ConfigurationError when there is none of that name, and SiteError when there is no mpiexec that heald knows.
    """
    name = site.mpi or site.launcher or _OF_SCHEDULER.get(site.scheduler, "")
    if name == _FOUND_OUT or (not site.mpi and name not in _FOR_MPI):
        return flavour(ask, site.interface)
    return Srun(_management(ask)) if name == "srun" else _made(_FOR_MPI, name, site)


T = TypeVar("T", bound=Launcher)


def _made(known: Mapping[str, type[T]], name: str, site: Site) -> T:
    if name not in known:
        raise ConfigurationError(f"{site.name}: there is no launcher {name!r}", hint=f"there are {', '.join(known)}")
    made = known[name]()
    return msgspec.structs.replace(made, interface=site.interface) if isinstance(made, Hydra) else made


def flavour(ask: Ask = ask, interface: str = "") -> MpiLauncher:
    """Whose the mpiexec on PATH is. Raises SiteError when there is none, or one that heald does not know."""
    answer = ask(["mpiexec", "--version"])
    said = answer.out + answer.err
    if re.search(r"hydra|intel\(r\) mpi", said, re.IGNORECASE):
        return Hydra(interface=interface)
    if re.search(r"open ?mpi|openrte|prrte", said, re.IGNORECASE):
        return OpenMpi()
    if re.search(r"\bpals\b", said, re.IGNORECASE):
        return Pals()
    hint = f"set `mpi` of the site to one of {', '.join(_FOR_MPI)}"
    raise SiteError(f"mpiexec --version does not tell whose it is: {answer.words}", hint=hint)


def _management(ask: Ask) -> str:
    """By what the ranks of the MPI on PATH find each other under srun; empty to leave it to the site.

    With the wrong one, each rank of Open MPI believes that it is alone.
    """
    try:
        found = flavour(ask)
    except SiteError:
        return ""
    wanted = "pmi2" if isinstance(found, Hydra) else "pmix" if isinstance(found, OpenMpi) else None
    answer = ask(["srun", "--mpi=list"])
    return wanted if wanted and wanted in (answer.out + answer.err).split() else ""
