"""Names of hosts as Slurm and Flux fold them: folded and unfolded."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

_ITEM = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
_RANGES = re.compile(r"\[([^\]]*)\]")
_NAME = re.compile(r"(.*?)(\d*)")


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


def fold(hosts: Iterable[str]) -> str:
    """Hosts in short, each once, those alike but for a number at their end together.

    >>> fold(["n1", "n2", "n3", "n7", "login"])
    'n[1-3,7],login'
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for host in dict.fromkeys(hosts):
        name, digits = _NAME.fullmatch(host).groups()  # type: ignore[union-attr]
        width = len(digits) if digits.startswith("0") else 0
        groups.setdefault((name, width if digits else -1), []).append(int(digits or 0))
    return ",".join(_folded(name, width, sorted(numbers)) for (name, width), numbers in groups.items())


def _folded(name: str, width: int, numbers: list[int]) -> str:
    if width < 0:
        return name
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    parts = [f"{first:0{width}}" + (f"-{last:0{width}}" if last > first else "") for first, last in spans]
    return f"{name}{parts[0]}" if len(numbers) == 1 else f"{name}[{','.join(parts)}]"
