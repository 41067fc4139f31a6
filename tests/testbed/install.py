"""Debian's packages that the testbeds run on; which are missing, and how they get onto the machine.

Runs by itself on a bare interpreter: `python3 -m tests.testbed.install`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable

# Of each testbed: its packages, and the programs that tell whether they are there.
PACKAGES = {
    "hosts": ("iproute2", "iputils-ping", "nftables", "openssh-client", "openssh-server", "procps", "util-linux"),
    "slurm": ("libpmix2", "munge", "slurm-client", "slurmctld", "slurmd"),
    "accounting": ("mariadb-server", "slurmdbd"),
    "gridengine": ("gridengine-client", "gridengine-exec", "gridengine-master"),
    "containers": ("bubblewrap", "charliecloud"),
}
PROGRAMS = {
    "hosts": ("ip", "tc", "nft", "nsenter", "setpriv", "setsid", "unshare", "pgrep", "ping", "ssh-keygen", "sshd"),
    "slurm": ("munged", "mungekey", "slurmctld", "slurmd", "sbatch"),
    "accounting": ("mariadb-install-db", "mariadbd", "slurmdbd"),
    "gridengine": ("sge_qmaster", "sge_execd", "qconf"),
    "containers": ("bwrap", "ch-run"),
}


def missing(*parts: str) -> str | None:
    """Why a testbed cannot be had on this machine; None if it can. The fakes need but what the hosts need."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a testbed needs Linux and root"
    if absent := [program for part in ("hosts", *parts) for program in _absent(part)]:
        return f"not installed: {', '.join(dict.fromkeys(absent))} (python3 -m tests.testbed.install)"
    return None


def install(testbeds: Iterable[str] = tuple(PACKAGES)) -> None:
    """Install what is missing. Raises CalledProcessError, and apt-get has said why."""
    packages = [package for testbed in testbeds if _absent(testbed) for package in PACKAGES[testbed]]
    if not packages:
        return
    root = [] if os.geteuid() == 0 else ["sudo", "--preserve-env=DEBIAN_FRONTEND,RUNLEVEL"]
    # In runlevel 1 (single user) the packages start no daemons, unless systemd runs: a testbed starts its own.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        subprocess.run([*root, "apt-get", "-qq", *words], env=environment, check=True)


def _absent(testbed: str) -> list[str]:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    return [program for program in PROGRAMS.get(testbed, ()) if shutil.which(program, path=path) is None]


if __name__ == "__main__":
    install()
