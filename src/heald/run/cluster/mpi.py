"""How an MPI program is started over the nodes of a lease, for whoever runs on the first of them."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

from heald.core.placement import Lease
from heald.site.launcher import MpiLauncher, bound

T = TypeVar("T")


def prefix(launcher: MpiLauncher, lease: Lease, hosts: Sequence[str], folder: Path, *, bind: bool = False) -> str:
    """The words that start a program with the ranks of a lease on its `hosts`.

    Ranks see only their own devices and, with `bind`, run on their own cores: a script in `folder` that all nodes see
    does that, so that the words are plain and a shell may take them from a variable.
    """
    words = launcher.mpi_prefix(hosts, [share.ranks for share in lease.shares])
    cores = list(chain.from_iterable(_parts(share.cpus, share.ranks) for share in lease.shares)) if bind else ()
    named = ([device for device, _ in share.gpus] for share in lease.shares)
    devices = [part for share, names in zip(lease.shares, named, strict=True) for part in _parts(names, share.ranks)]
    between = bound(launcher, cores, devices if any(devices) else ())
    return shlex.join([*words, *([_script(between, folder)] if between else [])])


def _parts(items: Sequence[T], ranks: int) -> list[Sequence[T]]:
    """The items of each rank."""
    each = len(items) // ranks
    return [items[rank * each : (rank + 1) * each] for rank in range(ranks)]


def _script(between: Sequence[str], folder: Path) -> str:
    """A file that does what these words do to those that follow them."""
    shell, _, text, _ = between
    name = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    file = folder / f"bind-{name}.sh"
    if not file.exists():
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(f"#!{shell}\n{text}\n")
        draft.chmod(0o700)
        draft.rename(file)
    return str(file)
