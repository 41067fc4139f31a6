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
from heald.site.device import visible
from heald.site.hostlist import expand
from heald.site.profile import Site

_NEVER = ("BatchMode=yes", "ConnectTimeout=20", "ServerAliveInterval=15", "ServerAliveCountMax=4", "LogLevel=ERROR")
SHELL = "/bin/bash"
_MOST_NAMES = 8192  # names of hosts on one command line
# What srun takes for its own options, though it is said of the job, or of the step that started the agents.
_OF_THE_JOB = ("SLURM_CPUS_PER_TASK", "SLURM_NTASKS_PER_NODE")
# taskset is part of util-linux, and so on every Linux.
_BIND = """\
case ${variable} in
{cases}
*) echo "heald: no cores were given to rank ${variable}" >&2; exit 1;;
esac
[ -z "$cores" ] || set -- taskset -c "$cores" "$@"
"""
_RUN = 'exec "$@"'
# Hydra does not notice a rank that ends before MPI_Init, and the others wait for it in theirs, for ever. So whoever
# started it tells Hydra, in the words of PMI (v1, "abort"), and people which rank it was.
_RUN_AND_TELL = """\
trap 'kill -TERM $! 2>/dev/null' TERM
trap 'kill -USR1 $! 2>/dev/null' USR1
"$@" <&0 &
rank=$!
{ wait $rank; } 2>/dev/null; status=$?
while kill -0 $rank 2>/dev/null; do { wait $rank; } 2>/dev/null; status=$?; done
[ $status = 0 ] && exit
echo "heald: rank $PMI_RANK on $(uname -n) ended with status $status" >&2
[ -z "$PMI_FD" ] || echo "cmd=abort exitcode=$status" >&$PMI_FD
exit $status"""
# Open MPI passes no variables on to other hosts but those that are named; awk knows all that can be (GNU's, two more).
_MPIEXEC_WITH_ALL = """\
names=$(awk 'BEGIN { for (name in ENVIRON)
    if (name ~ /^[A-Za-z_][A-Za-z0-9_]*$/ &&
        name !~ /^(OMPI|PMIX|PRTE|SLURMD?)_|^(_|AWKPATH|AWKLIBPATH|HOSTNAME|PWD|SHLVL)$/)
        print "-x", name }')
exec mpiexec $names "$@\""""


# By these a process knows that it is a rank, and of what; those with MCA or ALLOW in them are settings of users.
_OF_A_RANK = re.compile(r"(PMI|PMI2|PMIX|PRTE|OMPI|HYDI|MPI_LOCAL|PALS_(LOCAL_)?RANK)(?!.*(MCA|ALLOW)).*")


class Launcher(Protocol):
    """Starts processes on hosts of the allocation that it is itself in.

    `exports`: they have the variables of the process that starts them.
    """

    @property
    def exports(self) -> bool:
        """See the class."""

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """The commands that together start exactly one process on each host."""


class MpiLauncher(Launcher, Protocol):
    """One that starts MPI programs, too.

    `rank` is the variable by which it tells a process its number, `run` the line of shell in which that begins.
    """

    @property
    def rank(self) -> str:
        """See the class."""

    @property
    def run(self) -> str:
        """See the class."""

    def mpi_prefix(self, hosts: Sequence[str], ranks: Sequence[int]) -> list[str]:
        """What to put before an MPI program to run `ranks[i]` ranks on `hosts[i]`, numbered host by host.

        All variables are passed on to all of them. Raises ConfigurationError for ranks that it cannot spread so.
        """


def forget_rank() -> None:
    """Whatever started this process, it is no rank: nor will be what it starts without a launcher."""
    for name in filter(_OF_A_RANK.fullmatch, list(os.environ)):
        del os.environ[name]


def ssh() -> list[str]:
    """The words that ssh begins with: those of $HEALD_SSH, or `ssh`; it never asks, and never waits for ever."""
    return [*shlex.split(os.environ.get("HEALD_SSH") or "ssh"), *(f"-o{option}" for option in _NEVER)]


def bound(
    launcher: MpiLauncher,
    cores: Sequence[Sequence[int]] = (),
    devices: Sequence[Sequence[str]] = (),
    vendor: str = "",
) -> list[str]:
    """What to put between `mpi_prefix` and the program, so that rank r gets `cores[r]`, and sees `devices[r]` alone.

    >>> bound(Srun())
    []
    """
    count = max(len(cores), len(devices))
    if not count and launcher.run == _RUN:
        return []
    cases = [f"{rank}) cores={_listed(cores, rank)}{_exported(devices, rank, vendor)};;" for rank in range(count)]
    binding = _BIND.format(variable=launcher.rank, cases="\n".join(cases)) if cases else ""
    return [SHELL, "-c", binding + launcher.run, "rank"]


def _listed(groups: Sequence[Sequence[object]], rank: int) -> str:
    return ",".join(map(str, groups[rank])) if groups else ""


def _exported(devices: Sequence[Sequence[str]], rank: int, vendor: str) -> str:
    found = visible(devices[rank], vendor) if devices and devices[rank] else {}
    return "; export " + " ".join(f"{name}={value}" for name, value in found.items()) if found else ""


# For agents and for MPI


class Srun(msgspec.Struct, frozen=True):
    """Slurm's. `mpi`: what ranks find each other by (`srun --mpi=list`); empty for the site's default."""

    mpi: str = ""
    exports = True
    rank = "SLURM_PROCID"
    run = _RUN

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        # One agent's end is not all agents' end, nor is the loss of a node (--no-kill).
        alone = ("--kill-on-bad-exit=0", "--wait=0", "--no-kill", "--mpi=none")
        return [[*self._step(hosts, len(hosts)), *self._in_its_order(hosts, 1), *alone, *argv]]

    def mpi_prefix(self, hosts: Sequence[str], ranks: Sequence[int]) -> list[str]:
        """See `MpiLauncher`. A rank that fails ends the others, who would wait for it."""
        count = sum(ranks)
        if len(hosts) == 1 or count > _MOST_NAMES:
            places = self._in_its_order(hosts, _even(ranks) // len(hosts))
        else:
            names = [host for host, many in zip(hosts, ranks, strict=True) for _ in range(many)]
            places = ["--distribution=arbitrary", f"--nodelist={','.join(names)}"]
        unset = [word for name in _OF_THE_JOB if name in os.environ for word in ("-u", name)]
        words = [*self._step(hosts, count), *places, "--kill-on-bad-exit=1"]
        return [*(["env", *unset] if unset else []), *words, *([f"--mpi={self.mpi}"] if self.mpi else [])]

    def _step(self, hosts: Sequence[str], count: int) -> list[str]:
        # A step that does not overlap would wait for the agents' step to end.
        counts = ["--overlap", f"--nodes={len(hosts)}", f"--ntasks={count}"]
        return ["srun", *counts, "--cpu-bind=none", "--input=none", "--export=ALL", "--quiet"]

    def _in_its_order(self, hosts: Sequence[str], each: int) -> list[str]:
        """So many on each host; the hosts are in Slurm's order, whatever is said here."""
        return ["--distribution=block", f"--ntasks-per-node={each}", f"--nodelist={','.join(hosts)}"]


class Hydra(msgspec.Struct, frozen=True):
    """MPICH's, Intel's and MVAPICH's. `interface`: the network between its processes; empty for its own choice."""

    interface: str = ""
    exports = True
    rank = "PMI_RANK"
    run = _RUN_AND_TELL

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [[*self._words(hosts, (1,) * len(hosts), "-disable-auto-cleanup"), *argv]]

    def mpi_prefix(self, hosts: Sequence[str], ranks: Sequence[int]) -> list[str]:
        """See `MpiLauncher`."""
        return self._words(hosts, ranks)

    def _words(self, hosts: Sequence[str], ranks: Sequence[int], *options: str) -> list[str]:
        network = ["-iface", self.interface] if self.interface else []
        places = ["-hosts", _places(hosts, ranks)] if hosts else ["-launcher", "fork", "-rmk", "user"]
        return [*_overlapping(), "mpiexec", *options, *network, "-bind-to", "none", *places, "-n", str(sum(ranks))]


class OpenMpi(msgspec.Struct, frozen=True):
    """Open MPI's."""

    exports = True
    rank = "OMPI_COMM_WORLD_RANK"
    run = _RUN

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [[*self.mpi_prefix(hosts, (1,) * len(hosts)), *argv]]

    def mpi_prefix(self, hosts: Sequence[str], ranks: Sequence[int]) -> list[str]:
        """See `MpiLauncher`."""
        # Not "n1:2,n2:2": of a scheduler's nodes it would take no more slots than those of the agents' step.
        mpiexec = ["mpiexec"] if len(hosts) < 2 else [SHELL, "-c", _MPIEXEC_WITH_ALL, "mpiexec"]
        spread = ["--host", ",".join(hosts) or "localhost", "--map-by", "node:OVERSUBSCRIBE"]
        return [*_overlapping(), *mpiexec, *spread, "--rank-by", "slot", "--bind-to", "none", "-n", str(_even(ranks))]


def order(launcher: MpiLauncher, hosts: Sequence[str]) -> list[int]:
    """The positions of `hosts` in the order in which ranks are numbered over them.

    >>> order(Hydra(), ("n2", "n1"))
    [0, 1]
    """
    given = list(range(len(hosts)))
    if not isinstance(launcher, Hydra) or "SLURM_JOB_NODELIST" not in os.environ:
        return given
    known = expand(os.environ["SLURM_JOB_NODELIST"])  # srun starts the proxies of Hydra so, and they take their turn
    return sorted(given, key=lambda at: known.index(hosts[at]) if hosts[at] in known else at)


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

    exports = True
    rank = "PALS_RANKID"
    run = _RUN

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [[*self.mpi_prefix(hosts, (1,) * len(hosts)), "--no-abort-on-failure", *argv]]

    def mpi_prefix(self, hosts: Sequence[str], ranks: Sequence[int]) -> list[str]:
        """See `MpiLauncher`."""
        if len(set(ranks[:-1]) | {max(ranks)}) > 1:
            hint = "ask for ranks_per_node in place of ranks"
            raise ConfigurationError(f"PALS fills one host after another, not as {list(ranks)}", hint=hint)
        places = ["--hosts", ",".join(hosts)] if hosts else []
        return ["mpiexec", *places, "--ppn", str(max(ranks)), "-n", str(sum(ranks)), "--cpu-bind", "none"]


class FluxRun(msgspec.Struct, frozen=True):
    """Flux's, inside an instance of its own (`flux batch`)."""

    exports = True
    rank = "FLUX_TASK_RANK"
    run = _RUN

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`. Not as jobs, which would take the resources from the MPI programs to come."""
        return [["flux", "exec", "--rank=all", *argv]]

    def mpi_prefix(self, hosts: Sequence[str], ranks: Sequence[int]) -> list[str]:
        """See `MpiLauncher`."""
        counts = [f"--nodes={len(hosts)}", f"--ntasks={_even(ranks)}"]
        free = ("-o", "cpu-affinity=off", "-o", "gpu-affinity=off")  # which would hide all devices from ranks
        return ["flux", "run", *counts, f"--requires=hosts:{','.join(hosts)}", *free]


# For agents only


class Fork(msgspec.Struct, frozen=True):
    """Processes of this node, as many as there are hosts: they stand in for nodes."""

    exports = True

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [list(argv) for _ in hosts]


class Ssh(msgspec.Struct, frozen=True):
    """ssh to each host."""

    exports = False

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [[*ssh(), host, f"exec {shlex.join(argv)}"] for host in hosts]


class Pbsdsh(msgspec.Struct, frozen=True):
    """PBS's own, for clusters without PALS: a process for each chunk of the job, which is a node."""

    exports = False

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [["pbsdsh", "--", *argv]]


class Blaunch(msgspec.Struct, frozen=True):
    """LSF's."""

    exports = True

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        return [["blaunch", "-z", " ".join(hosts), *argv]]


class Qrsh(msgspec.Struct, frozen=True):
    """Grid Engine's, in a parallel environment with control_slaves."""

    exports = False

    def agents(self, hosts: Sequence[str], argv: Sequence[str]) -> list[list[str]]:
        """See `Launcher`."""
        words = [shlex.quote(word) for word in argv]  # a shell there reads them
        return [["qrsh", "-inherit", "-nostdin", host, *words] for host in hosts]


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
    return _under_slurm(site, ask) if name == "srun" else _made(_FOR_MPI, name, site)


T = TypeVar("T", bound=Launcher)


def _made(known: Mapping[str, type[T]], name: str, site: Site) -> T:
    if name not in known:
        raise ConfigurationError(f"{site.name}: there is no launcher {name!r}", hint=f"there are {', '.join(known)}")
    made = known[name]()
    return msgspec.structs.replace(made, interface=site.interface) if isinstance(made, Hydra) else made


def flavour(ask: Ask = ask, interface: str = "") -> MpiLauncher:
    """Whose the mpiexec on PATH is. Raises SiteError when there is none, or one that heald does not know."""
    try:
        answer = ask(["mpiexec", "--version"])
    except SiteError as error:
        hint = "name the module of an MPI in `modules` of the site, or put its mpiexec on PATH in `setup`"
        raise SiteError(error.message, hint=hint) from error
    said = answer.out + answer.err
    if re.search(r"hydra|intel\(r\) mpi", said, re.IGNORECASE):
        return Hydra(interface=interface)
    if re.search(r"open ?mpi|openrte|prrte", said, re.IGNORECASE):
        return OpenMpi()
    if re.search(r"\bpals\b", said, re.IGNORECASE):
        return Pals()
    hint = f"set `mpi` of the site to one of {', '.join(_FOR_MPI)}"
    raise SiteError(f"mpiexec --version does not tell whose it is: {answer.words}", hint=hint)


def _under_slurm(site: Site, ask: Ask) -> MpiLauncher:
    """srun, if it speaks to ranks as the MPI on PATH wants it, else that MPI's own mpiexec.

    With the wrong srun, each rank of Open MPI believes that it is alone. SLURM_MPI_TYPE is the user's own choice.
    """
    if "SLURM_MPI_TYPE" in os.environ:
        return Srun()
    try:
        found = flavour(ask, site.interface)
    except SiteError:
        return Srun()
    wanted = "pmi2" if isinstance(found, Hydra) else "pmix" if isinstance(found, OpenMpi) else ""
    answer = ask(["srun", "--mpi=list"])
    if not wanted or wanted in (answer.out + answer.err).split():
        return Srun(wanted)
    return Srun() if site.mpi == "srun" else found
