"""Which cores and devices belong to which slot of a node, in the words that Parsl's users know."""

from __future__ import annotations

from collections.abc import Sequence

from heald.core.errors import ConfigurationError
from heald.site.node import numbers

_PREFIXES = ("cuda:", "hip:", "xpu:")


def cores(affinity: str, cpus: Sequence[int], slots: int) -> tuple[tuple[int, ...], ...]:
    """The cores of each of `slots` slots, out of `cpus`.

    "none": all for each. "block": as many as possible for each, side by side; "block-reverse": the same from the last
    on; "alternating": in turns. "list:0,1:2-3": these, a colon between slots.

    >>> cores("block", range(6), 2), cores("alternating", range(4), 2)
    (((0, 1, 2), (3, 4, 5)), ((0, 2), (1, 3)))
    >>> cores("block-reverse", range(6), 2), cores("list:0,1:4-5", range(6), 2)
    (((3, 4, 5), (0, 1, 2)), ((0, 1), (4, 5)))

    Raises ConfigurationError for other words, for fewer cores than slots, and for cores that are not there.
    """
    kind, _, listed = affinity.partition(":")
    if kind == "none":
        return (tuple(cpus),) * slots
    if kind == "list":
        return _listed(listed, cpus, slots)
    share = len(cpus) // slots
    if kind not in ("block", "block-reverse", "alternating"):
        hint = 'there are "none", "block", "block-reverse", "alternating" and "list:0,1:2,3"'
        raise ConfigurationError(f"cpu_affinity={affinity!r} means nothing", hint=hint)
    if not share:
        raise ConfigurationError(f"cpu_affinity={affinity!r}: {slots} slots cannot share {len(cpus)} cores")
    if kind == "alternating":
        return tuple(tuple(cpus[slot::slots][:share]) for slot in range(slots))
    if kind == "block":
        return tuple(tuple(cpus[slot * share : (slot + 1) * share]) for slot in range(slots))
    last = len(cpus)
    return tuple(tuple(cpus[last - (slot + 1) * share : last - slot * share]) for slot in range(slots))


def _listed(listed: str, cpus: Sequence[int], slots: int) -> tuple[tuple[int, ...], ...]:
    try:
        found = tuple(numbers(part) for part in listed.split(":"))
    except ValueError as error:
        raise ConfigurationError(f"cpu_affinity=list:{listed}: {error}", hint='write "list:0,1:2-3"') from error
    if not all(found):
        raise ConfigurationError(f"cpu_affinity=list:{listed} gives a slot no cores")
    if len(found) != slots:
        raise ConfigurationError(f"cpu_affinity=list:{listed} is for {len(found)} slots, there are {slots}")
    if absent := {cpu for slot in found for cpu in slot} - set(cpus):
        raise ConfigurationError(f"cpu_affinity=list:{listed}: there are no cores {sorted(absent)} here")
    return found


def devices(accelerators: int | str | Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The devices of each slot: a number of them, or their names, each of which may be several with commas between.

    >>> devices(2), devices(["0,1", "cuda:2"]), devices("0.0")
    ((('0',), ('1',)), (('0', '1'), ('2',)), (('0.0',),))

    Raises ConfigurationError for a negative number.
    """
    if isinstance(accelerators, int):
        if accelerators < 0:
            raise ConfigurationError(f"available_accelerators={accelerators}: cannot be negative")
        return tuple((str(number),) for number in range(accelerators))
    names = [accelerators] if isinstance(accelerators, str) else accelerators
    return tuple(tuple(_device(part.strip()) for part in name.split(",")) for name in names)


def _device(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)
