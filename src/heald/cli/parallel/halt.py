"""When to stop before the inputs are at their end (--halt), and with which status the run then ends."""

from __future__ import annotations

import re

import msgspec

from heald.core.errors import UsageError

_OLD = {"0": "never", "1": "soon,fail=1", "2": "now,fail=1", "-1": "soon,success=1", "-2": "now,success=1"}
_MOST = 101


class Halt(msgspec.Struct, frozen=True):
    """`when`: never, soon (let running jobs end) or now. `why`: what is counted: fail, success or done. `count` of
    them, or `percent` of all jobs.
    """

    when: str = "never"
    why: str = ""
    count: int = 0
    percent: float = 0.0


class Count(msgspec.Struct):
    """How jobs have ended; `last` is the exit status of the last that failed."""

    total: int = 0
    failed: int = 0
    succeeded: int = 0
    last: int = 0

    def add(self, status: int) -> None:
        """A job ended with this status."""
        if status:
            self.failed += 1
            self.last = status
        else:
            self.succeeded += 1


def parse(text: str) -> Halt:
    """What `--halt` was told.

    >>> parse("soon,fail=20%").percent, parse("2").when
    (20.0, 'now')

    Raises UsageError for anything else.
    """
    text = _OLD.get(text, text)
    if re.fullmatch(r"\d+(\.\d+)?%", text):
        text = f"soon,fail={text}"
    if text == "never":
        return Halt()
    found = re.fullmatch(r"(now|soon),(fail|success|done)=(?:(\d+)|(\d+(?:\.\d+)?)%)", text)
    if found is None:
        raise UsageError(f"--halt {text!r} is not understood", hint="write now,fail=1 or soon,done=50% or never")
    return Halt(found[1], found[2], int(found[3] or 0), float(found[4] or 0))


def reached(halt: Halt, count: Count) -> bool:
    """Whether it is time to stop."""
    if halt.when == "never":
        return False
    counted = {"fail": count.failed, "success": count.succeeded, "done": count.failed + count.succeeded}[halt.why]
    if halt.percent:
        return bool(count.total) and 100 * counted >= halt.percent * count.total
    return counted >= halt.count


def status(halt: Halt, count: Count) -> int:
    """The exit status of the run.

    >>> status(Halt(), Count(failed=3)), status(Halt("now", "fail", 1), Count(failed=1, last=7))
    (3, 7)
    """
    if reached(halt, count):
        if halt.why == "success":
            return 0
        if halt.percent:
            return min(_MOST, 100 * count.failed // count.total)
        if halt.why == "fail" and halt.count == 1:
            return count.last
    return min(_MOST, count.failed)
