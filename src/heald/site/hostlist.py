"""Names of hosts as Slurm and Flux fold them, unfolded."""

from __future__ import annotations

import itertools
import re

_ITEM = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
_RANGES = re.compile(r"\[([^\]]*)\]")


def expand(folded: str) -> tuple[str, ...]:
    """The hosts of a folded list, in its order.

    >>> expand("n[1-2,07-09],login")
    ('n1', 'n2', 'n07', 'n08', 'n09', 'login')
    >>> expand("rack[1-2]n[0-1]")
    ('rack1n0', 'rack1n1', 'rack2n0', 'rack2n1')
    """
    return tuple(name for item in _ITEM.findall(folded) for name in _unfold(item))


def _unfold(item: str) -> list[str]:
    parts = _RANGES.split(item)  # text, ranges, text, ranges, text
    choices = [_numbers(part) if place % 2 else [part] for place, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def _numbers(ranges: str) -> list[str]:
    found: list[str] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        found += [f"{number:0{len(first)}}" for number in range(int(first), int(last or first) + 1)]
    return found
