"""Jobs as the fake Flux keeps them, their ids, and where their slots find room."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.testbed.fake.flux.submission import Submission
from tests.testbed.fake.session import Session

_DIGITS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_STARTED = time.time()


@dataclass(frozen=True)
class Share:
    """What a job has of one host."""

    host: str
    slots: int
    cores: frozenset[int]
    gpus: frozenset[int]


@dataclass
class Job:
    """A job of one instance."""

    number: int
    asked: Submission
    state: str = "SCHED"
    result: str = ""
    status: int | None = None
    exception: tuple[str, str] | None = None  # type, note
    shares: list[Share] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    submitted: float = field(default_factory=time.time)
    started: float = 0.0
    cleaned: float = 0.0
    ended: float = 0.0

    @property
    def id(self) -> str:
        """As Flux prints it."""
        return f"ƒ{f58(self.number)}"

    @property
    def hosts(self) -> list[str]:
        """Where it runs."""
        return [share.host for share in self.shares]


def new_number(count: int) -> int:
    """An id for the job submitted after `count` others: of the time, as Flux makes it."""
    return int((time.time() - _STARTED) * 1000) << 24 | count


def f58(number: int) -> str:
    """A number in the digits that cannot be mistaken for each other."""
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _DIGITS[digit] + digits
    return digits or "1"


def from_f58(text: str) -> int:
    """The number of an id in any form: "ƒ2Kz", "f2Kz" or decimal. Raises ValueError."""
    if text.isdecimal():
        return int(text)
    number = 0
    for digit in text[1:]:
        number = number * 58 + _DIGITS.index(digit)
    return number


Free = Mapping[str, tuple[frozenset[int], frozenset[int]]]  # of each host: cores, GPUs


def find_room(asked: Submission, whole: Free, free: Free) -> list[Share] | None:
    """What a job gets of each host; None if there is no room now."""
    allowed = [host for host in free if not asked.hosts or host in asked.hosts]
    if asked.exclusive:
        idle = [host for host in allowed if free[host] == whole[host] and whole[host][0]]
        most = max([_fits(asked, whole[host]) for host in idle], default=1)
        count = asked.nodes or -(-asked.slots // max(1, most))
        counts = [asked.slots // count + (index < asked.slots % count) for index in range(count)]
        pairs = list(zip(idle, counts, strict=False))
        if len(pairs) < count or any(slots > _fits(asked, whole[host]) for host, slots in pairs):
            return None
        return [Share(host, slots, *whole[host]) for host, slots in pairs]
    if asked.nodes:
        counts = [asked.slots // asked.nodes + (index < asked.slots % asked.nodes) for index in range(asked.nodes)]
        return _spread(asked, free, allowed, counts)
    return _fill(asked, free, allowed)


def _spread(asked: Submission, free: Free, hosts: Sequence[str], counts: Sequence[int]) -> list[Share] | None:
    """The same number on each of some hosts, or one more on the first."""
    left = list(hosts)
    found = []
    for slots in counts:
        host = next((host for host in left if _fits(asked, free[host]) >= max(1, slots)), None)
        if host is None:
            return None
        left.remove(host)
        found.append(_share(asked, host, slots, free[host]))
    return found


def _fill(asked: Submission, free: Free, hosts: Sequence[str]) -> list[Share] | None:
    """As many on each host as fit."""
    left, found = asked.slots, []
    for host in hosts:
        if left and (slots := min(left, _fits(asked, free[host]))):
            found.append(_share(asked, host, slots, free[host]))
            left -= slots
    return None if left else found


def _fits(asked: Submission, has: tuple[frozenset[int], frozenset[int]]) -> int:
    cores, gpus = has
    return min(len(cores) // asked.cores, len(gpus) // asked.gpus if asked.gpus else len(cores))


def _share(asked: Submission, host: str, slots: int, has: tuple[frozenset[int], frozenset[int]]) -> Share:
    count = max(1, slots)
    cores, gpus = sorted(has[0])[: count * asked.cores], sorted(has[1])[: count * asked.gpus]
    return Share(host, slots, frozenset(cores), frozenset(gpus))
