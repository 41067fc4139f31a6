"""How an MPI program is started with the ranks of a lease, by a worker on the first of its nodes."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

from heald.core.placement import Lease
from heald.site.launcher import SHELL, MpiLauncher, bound, order

T = TypeVar("T")


def prefix(
    launcher: MpiLauncher, lease: Lease, hosts: Sequence[str], folder: Path, *, bind: bool = False, vendor: str = ""
) -> str:
    """The words that start a program with the ranks of a lease on its `hosts`, none of which means on this machine.

    Ranks see only their own devices, which are of a `vendor`, and with `bind` run on their own cores. What needs a
    script for that finds it in `folder`, which all nodes see: so the words are plain, and a shell may take them from
    a variable.
    """
    shares = lease.shares
    if hosts:
        places = order(launcher, hosts)
        hosts, shares = [hosts[at] for at in places], tuple(shares[at] for at in places)
    words = launcher.mpi_prefix(hosts, [share.ranks for share in shares])
    cores = list(chain.from_iterable(_parts(share.cpus, share.ranks) for share in shares)) if bind else ()
    named = ([device for device, _ in share.gpus] for share in shares)
    devices = [part for share, names in zip(shares, named, strict=True) for part in _parts(names, share.ranks)]
    words += bound(launcher, cores, devices if any(devices) else (), vendor)
    while SHELL in words:
        at = words.index(SHELL)
        _, _, text, name = words[at : at + 4]
        words[at : at + 4] = [_script(name, text, folder)]
    return shlex.join(words)


def _parts(items: Sequence[T], ranks: int) -> list[Sequence[T]]:
    """The items of each rank."""
    each = len(items) // ranks
    return [items[rank * each : (rank + 1) * each] for rank in range(ranks)]


def _script(name: str, text: str, folder: Path) -> str:
    """A file with a shell's text in it."""
    file = folder / f"{name}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
    if not file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.uname().nodename}.{os.getpid()}")
        draft.write_text(f"#!{SHELL}\n{text}\n")
        draft.chmod(0o700)
        draft.rename(file)
    return str(file)
