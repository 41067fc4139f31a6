"""How many more blocks of nodes to ask for, from facts."""

from __future__ import annotations

import math

import msgspec


class Facts(msgspec.Struct, frozen=True):
    """What is. `wanted`: cores that waiting tasks ask for. `coming`: cores of blocks asked for and not here yet.
    `blocks` are live, and were `asked` for so far.
    """

    wanted: int
    coming: int
    blocks: int
    asked: int


class Limits(msgspec.Struct, frozen=True):
    """What may be: `init` blocks at the start, from `fewest` to `most` later, each of `cores`; `parallelism`, the part
    of what is wanted that is asked for, 1 for a core for every task.
    """

    init: int
    fewest: int
    most: int
    parallelism: float
    cores: int


def more(facts: Facts, limits: Limits) -> int:
    """How many blocks to ask for now.

    >>> limits = Limits(init=1, fewest=0, most=4, parallelism=1.0, cores=8)
    >>> more(Facts(wanted=0, coming=0, blocks=0, asked=0), limits)
    1
    >>> more(Facts(wanted=20, coming=8, blocks=1, asked=1), limits)
    2
    """
    room = limits.most - facts.blocks
    needed = limits.fewest - facts.blocks if facts.asked else max(limits.init, limits.fewest)
    if facts.wanted and not facts.blocks:
        needed = max(needed, 1)
    missing = facts.wanted * limits.parallelism - facts.coming
    if missing > 0:
        needed = max(needed, math.ceil(missing / limits.cores))
    return max(0, min(room, needed))
