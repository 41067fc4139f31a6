"""Replays a trace: tasks that take as long and use files as large, in the same order of dependence.

What the tasks report themselves tells whether every dependency was kept, and how well the cores were used.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from heald.core.errors import UsageError
from heald.core.quantity import amount, duration

if TYPE_CHECKING:  # workers load this module, and need not load these
    from heald.flow.session import Session
    from heald.flow.trace import Trace, TracedTask

_BLOCK = bytes(1 << 20)


class Timing(msgspec.Struct, frozen=True):
    """When a task ran, in seconds since the replay began, and the cores that it had."""

    id: str
    name: str
    start: float
    end: float
    cores: int


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """How a replay went. Times are seconds.

    `broken`: pairs of parent and child of which the child began before the parent's end; none, if all is well.
    `makespan`: from the first submission to the end of the last task. `critical_path` and `work` (core seconds) are
    of the traced run times, scaled: no run can be shorter than the first, nor than the second divided by `cores`.
    `speed_up`: work / makespan. `efficiency`: work / (makespan x cores). `traced_makespan`: of the trace, not scaled.
    """

    trace: str
    version: str
    speed: float
    size: float
    cores: int
    tasks: int
    dependencies: int
    broken: tuple[tuple[str, str], ...]
    makespan: float
    critical_path: float
    work: float
    speed_up: float
    efficiency: float
    traced_makespan: float
    bytes_read: int
    bytes_written: int
    narrowed: int
    times: tuple[Timing, ...]

    def table(self) -> str:
        """The figures, for people."""
        kept = f"{len(self.broken)} BROKEN, the first: {' -> '.join(self.broken[0])}" if self.broken else "all kept"
        share = f", {self.critical_path / self.makespan:.0%} of the makespan" if self.speed else ""
        rows = [
            ("trace", self.trace + (f" (WfFormat {self.version})" if self.version else "")),
            ("tasks", f"{self.tasks} on {self.cores} core{'s' * (self.cores > 1)}"),
            ("dependencies", f"{self.dependencies}, {kept}"),
            ("makespan", f"{duration(self.makespan)}, {self.tasks / self.makespan:,.0f} tasks/s"),
        ]
        if self.traced_makespan:
            scaled = f", at this speed {duration(self.traced_makespan * self.speed)}" if self.speed else ""
            rows.append(("in the trace", duration(self.traced_makespan) + scaled))
        rows += [("critical path", duration(self.critical_path) + share), ("total work", duration(self.work))]
        if self.speed:
            rows += [("speed-up", f"{self.speed_up:.2f}"), ("efficiency", f"{self.efficiency:.0%}")]
        if self.size:
            rows.append(("files", f"{amount(self.bytes_read)} read, {amount(self.bytes_written)} written"))
        if self.narrowed:
            had = f"had {self.cores}, and asked for more"
            rows.append(("cores", f"{self.narrowed} task{'s' * (self.narrowed > 1)} {had}"))
        return "\n".join(f"{title:<14}{text}" for title, text in rows)


def replay(trace: Trace, session: Session | None, *, speed: float, size: float, cores: bool) -> Replay:
    """Run a trace in `session`, by default in one of its own on this machine's cores.

    `speed`: real seconds for each second of the trace; 0 for empty tasks. `size`: bytes really read and written for
    each byte of the trace's files, in a temporary folder; 0 for none. `cores`: tasks take as many cores as in the
    trace, or as many as there are.

    Raises UsageError for factors that cannot be, and for files that would not fit on the disk; what a task raises,
    when one fails.
    """
    for name, value in (("speed", speed), ("size", size)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise UsageError(
                f"{name}={value!r}: must be a number, at least 0", hint="1 is as in the trace, 0 is nothing"
            )
    if session is None:
        from heald.flow.session import Session

        with Session(memo=None) as own:
            return replay(trace, own, speed=speed, size=size, cores=cores)
    if not size:
        return _Run(trace, session, speed, cores).measure()
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory(prefix="heald-trace-", ignore_cleanup_errors=True) as folder:
        bytes_ = sum(int(one * size) for one in trace.sizes.values())
        free = shutil.disk_usage(folder).free
        if not bytes_:
            raise UsageError(f"{trace.name} tells no sizes of files", hint="leave the factor of sizes out")
        if bytes_ > free:
            raise UsageError(
                f"the files of {trace.name} are {amount(bytes_)} at size={size:g}; {folder} has {amount(free)} left",
                hint="choose a smaller size, or a larger disk with TMPDIR",
            )
        return _Run(trace, session, speed, cores, Path(folder), size).measure()


class _Run:
    """One replay: the trace with its scale."""

    def __init__(
        self, trace: Trace, session: Session, speed: float, cores: bool, folder: Path | None = None, size: float = 0.0
    ) -> None:
        self.trace = trace
        self.session = session
        self.speed = speed
        self.size = size
        self.available: int = getattr(session.executors[0], "workers", 1)
        self.cores = {task.id: min(task.cores, self.available) if cores else 1 for task in trace.tasks}
        self.narrowed = sum(cores and task.cores > self.available for task in trace.tasks)
        self.files: dict[str, tuple[str, int]] = {}
        if folder is not None:  # names in a trace may be paths and URLs, and longer than a file's may be
            for number, (file, bytes_) in enumerate(trace.sizes.items()):
                self.files[file] = (os.fspath(folder / str(number)), int(bytes_ * size))
            for file in _given(trace):
                _write(*self.files[file])

    def measure(self) -> Replay:
        """Submit all tasks, wait for them, and see what they say."""
        from heald.flow.task import task as decorate

        stand_in = decorate(perform)
        kinds: dict[tuple[str, int], Any] = {}
        futures: dict[str, Any] = {}
        began = time.time()
        try:
            for task in self.trace.tasks:
                kind = (task.kind, self.cores[task.id])
                if kind not in kinds:
                    kinds[kind] = stand_in.options(name=kind[0], cpus=kind[1])
                after = [futures[parent] for parent in task.parents]
                futures[task.id] = self.session.call(kinds[kind], (*self._arguments(task), after), {})
            reports = {name: future.result() for name, future in futures.items()}
        except BaseException:
            for future in futures.values():
                future.cancel()
            raise
        return self._replay(reports, min(began, *(report[0] for report in reports.values())))

    def _arguments(self, task: TracedTask) -> tuple[Any, ...]:
        reads, writes = (
            [self.files[one] for one in files] if self.files else [] for files in (task.reads, task.writes)
        )
        return task.seconds * self.speed, reads, writes

    def _replay(self, reports: dict[str, tuple[float, float, int, int]], began: float) -> Replay:
        tasks = self.trace.tasks
        makespan = max(end for _, end, _, _ in reports.values()) - began
        work = sum(task.seconds * self.cores[task.id] for task in tasks) * self.speed
        return Replay(
            trace=self.trace.name,
            version=self.trace.version,
            speed=self.speed,
            size=self.size,
            cores=self.available,
            tasks=len(tasks),
            dependencies=self.trace.dependencies,
            broken=tuple(
                (parent, task.id)
                for task in tasks
                for parent in task.parents
                if reports[task.id][0] < reports[parent][1]
            ),
            makespan=makespan,
            critical_path=self.trace.critical_path * self.speed,
            work=work,
            speed_up=work / makespan,
            efficiency=work / (makespan * self.available),
            traced_makespan=self.trace.makespan,
            bytes_read=sum(report[2] for report in reports.values()),
            bytes_written=sum(report[3] for report in reports.values()),
            narrowed=self.narrowed,
            times=tuple(
                Timing(
                    task.id, task.name, reports[task.id][0] - began, reports[task.id][1] - began, self.cores[task.id]
                )
                for task in tasks
            ),
        )


def perform(
    seconds: float, reads: Sequence[tuple[str, int]], writes: Sequence[tuple[str, int]], after: Sequence[Any]
) -> tuple[float, float, int, int]:
    """Stand in for a task of a trace: read, write, and be busy until `seconds` are over.

    Gives when it began and ended, in seconds since the epoch, and the bytes that it read and wrote. `after` are the
    same of the tasks that it needs.
    """
    start = time.time()
    read = sum(_read(path) for path, _ in reads)
    for path, size in writes:
        _write(path, size)
    left = seconds - (time.time() - start)
    if left > 0:
        time.sleep(left)
    return start, time.time(), read, sum(size for _, size in writes)


def _read(path: str) -> int:
    total = 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(len(_BLOCK)):
            total += len(block)
    return total


def _write(path: str, size: int) -> None:
    """Write a file so that whoever reads it meanwhile sees the former one, or none."""
    draft = f"{path}.{threading.get_native_id()}"
    with open(draft, "wb", buffering=0) as file:
        for _ in range(size // len(_BLOCK)):
            file.write(_BLOCK)
        file.write(_BLOCK[: size % len(_BLOCK)])
    os.replace(draft, path)


def _given(trace: Trace) -> list[str]:
    """The files that must be there before the replay: those that a task reads and none before it writes."""
    makers: dict[str, set[str]] = {}
    for task in trace.tasks:
        for file in task.writes:
            makers.setdefault(file, set()).add(task.id)
    parents = {task.id: task.parents for task in trace.tasks}
    return list(
        dict.fromkeys(
            file
            for task in trace.tasks
            for file in task.reads
            if not _follows(task.id, makers.get(file, set()), parents)
        )
    )


def _follows(task: str, makers: set[str], parents: dict[str, tuple[str, ...]]) -> bool:
    """Whether one of `makers` is before the task."""
    if not makers:
        return False
    seen: set[str] = set()
    ahead = list(parents[task])
    while ahead:
        one = ahead.pop()
        if one in makers:
            return True
        if one not in seen:
            seen.add(one)
            ahead.extend(parents[one])
    return False
