"""What a run amounts to: figures folded from its history, from which text and pages are drawn.

Pure: no clock, no file. Only the last attempt of a task has a place in time: a history keeps no others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

import msgspec

from heald.core.event import Failure
from heald.core.history import History, Record
from heald.core.retry import DEPENDENCY
from heald.core.state import State
from heald.core.task import JOIN

_EXAMPLES = 5  # failures of one sort that are kept
_SLOWEST = 10


class Span(msgspec.Struct, frozen=True, gc=False):
    """A task that occupied a worker, its `lane`, from `start` to `end` (seconds since the epoch), on `cores` cores."""

    task: int
    name: str
    lane: str
    start: float
    end: float
    cores: int
    state: State

    @property
    def seconds(self) -> float:
        """How long."""
        return self.end - self.start


class Sort(msgspec.Struct, frozen=True):
    """The tasks of one name; `seconds` of all of them together."""

    name: str
    tasks: int
    done: int
    failed: int
    seconds: float
    longest: float

    @property
    def mean(self) -> float:
        """Seconds of one that ran."""
        return self.seconds / max(1, self.done + self.failed)


class Fault(msgspec.Struct, frozen=True):
    """Tasks of one name that failed for one class of reasons: how many, and the first of them."""

    name: str
    kind: str
    count: int
    examples: tuple[tuple[int, int, Failure], ...]  # task, attempt, why


class Figures(msgspec.Struct, frozen=True):
    """A run. Times are seconds since the epoch. `gaps`: when no process worked on it.

    `spans` stand in the order of their starts, `sorts` with the most time first, `faults` with those first that failed
    by their own doing. `busy`: core seconds. `recalled`: tasks whose results were known before.
    """

    command: tuple[str, ...]
    host: str
    start: float
    end: float
    gaps: tuple[tuple[float, float], ...]
    counts: dict[State, int]
    recalled: int
    spans: tuple[Span, ...]
    sorts: tuple[Sort, ...]
    faults: tuple[Fault, ...]

    @property
    def tasks(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    @property
    def seconds(self) -> float:
        """How long the run has had a process."""
        return self.end - self.start - sum(end - start for start, end in self.gaps)

    @property
    def busy(self) -> float:
        """Core seconds of the tasks."""
        return sum(span.seconds * span.cores for span in self.spans)

    @property
    def lanes(self) -> dict[str, list[Span]]:
        """The spans by worker, in the order of their names; numbers in a name count as numbers."""
        found: dict[str, list[Span]] = {}
        for span in self.spans:
            found.setdefault(span.lane, []).append(span)
        return {lane: found[lane] for lane in sorted(found, key=_natural)}

    @property
    def slowest(self) -> list[Span]:
        """The tasks that took longest."""
        return sorted(self.spans, key=lambda span: -span.seconds)[:_SLOWEST]

    def busy_cores(self, bins: int) -> list[float]:
        """How many cores were busy, on average, in each of `bins` equal parts of the time (gaps left out)."""
        return self.running(self.spans, bins, lambda span: span.cores)

    def running(self, spans: Iterable[Span], bins: int, weight: Callable[[Span], int] = lambda span: 1) -> list[float]:
        """How many of some spans there were at once, on average, in each of `bins` equal parts of the time."""
        found = [0.0] * bins
        width = self.seconds / bins
        if width <= 0:
            return found
        elapsed, final = self.elapsed, bins - 1
        for span in spans:
            first, last = elapsed(span.start) / width, elapsed(span.end) / width
            begin = min(int(first), final)
            if last <= begin + 1:  # so short are nearly all, when there are a million
                found[begin] += (last - first) * weight(span)
                continue
            for place in range(begin, min(int(last), final) + 1):
                found[place] += max(0.0, min(last, place + 1) - max(first, place)) * weight(span)
        return found

    def elapsed(self, time: float) -> float:
        """Seconds of the run until `time`, gaps left out."""
        before = sum([min(time, end) - start for start, end in self.gaps if start < time]) if self.gaps else 0.0
        return time - self.start - before


def figures(history: History, now: float | None = None) -> Figures:
    """The figures of a run; `now` is when those end that still run: by default when anything last happened."""
    records = list(history.records.values())
    opened, last = history.opened, _last(history, records, now)
    spans = sorted(_spans(history, records, last), key=attrgetter("start"))
    counts = Counter(map(attrgetter("state"), records))
    return Figures(
        opened[-1].command if opened else (),
        opened[-1].host if opened else "",
        min([*(one.time for one in opened[:1]), *(span.start for span in spans[:1])], default=last),
        max([last, *(span.end for span in spans)]),
        tuple(_gaps([one.time for one in opened], spans)),
        {state: counts[state] for state in State if counts[state]},
        sum(record.recalled for record in records),
        tuple(spans),
        tuple(_sorts(history, spans)),
        tuple(_faults(history, records)),
    )


def _last(history: History, records: Iterable[Record], now: float | None) -> float:
    """When the run ended, or when anything last happened in it."""
    if history.closed is not None:
        return history.closed.time
    times = (max(record.submitted, record.placed, record.started, record.settled) for record in records)
    last = max([*(one.time for one in history.opened), max(times, default=0.0)])
    return max(last, now or last) if any(record.state is State.running for record in records) else last


def _spans(history: History, records: Iterable[Record], end: float) -> Iterable[Span]:
    works = history.works
    for record in records:
        work = works[record.task.work]
        if not record.started or work.kind == JOIN:  # a join occupies no worker
            continue
        running = record.state is State.running
        if not running and record.usage is None and not record.settled:
            continue  # its end is not known: the process that ran it was killed
        measured = record.usage.seconds if record.usage is not None else 0.0
        until = end if running else record.started + measured if measured else record.settled
        yield Span(
            record.task.id,
            work.name,
            record.worker or record.executor,
            record.started,
            max(record.started, until),
            work.resources.cpus * work.resources.ranks,
            record.state,
        )


def _gaps(opened: Sequence[float], spans: Sequence[Span]) -> Iterable[tuple[float, float]]:
    """From what an earlier process did last, to the beginning of the next one."""
    for place, time in enumerate(opened):
        before = max((min(span.end, time) for span in spans if span.start < time), default=0.0)
        before = max([before, *opened[max(0, place - 1) : place]])
        if 0.0 < before < time:
            yield before, time


def _sorts(history: History, spans: Iterable[Span]) -> list[Sort]:
    lasted: dict[str, list[float]] = {}
    for span in spans:
        lasted.setdefault(span.name, []).append(span.end - span.start)
    found = []
    for name, count in history.tally().items():
        seconds = lasted.get(name, [])
        sums = sum(seconds), max(seconds, default=0.0)
        found.append(Sort(name, count.total(), count[State.done], count[State.failed], *sums))
    return sorted(found, key=lambda sort: (-sort.seconds, -sort.tasks))


def _faults(history: History, records: Iterable[Record]) -> list[Fault]:
    found: dict[tuple[str, str], list[tuple[int, int, Failure]]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for record in records:
        failure = record.failure
        if failure is None or record.state is not State.failed:
            continue
        key = history.work(record).name, failure.kind
        counts[key] += 1
        examples = found.setdefault(key, [])
        if len(examples) < _EXAMPLES:
            examples.append((record.task.id, record.attempt, failure))
    faults = [Fault(name, kind, counts[name, kind], tuple(found[name, kind])) for name, kind in found]
    return sorted(faults, key=lambda fault: (fault.kind == DEPENDENCY, -fault.count))


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts worker-2 before worker-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
