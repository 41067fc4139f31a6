"""The log of jobs that have ended: GNU Parallel's own columns, one line a job, so that either can go on with it."""

from __future__ import annotations

import os

import msgspec

from heald.core.errors import UsageError

COLUMNS = ("Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command")
_HEAD = ("\t".join(COLUMNS) + "\n").encode()


class Entry(msgspec.Struct, frozen=True):
    """One job that has ended. `started` in seconds since the epoch; `sent` and `received` in bytes; `status` is -1 for
    one that was stopped.
    """

    sequence: int
    started: float
    seconds: float
    sent: int
    received: int
    status: int
    signal: int
    command: str

    @property
    def failed(self) -> bool:
        """Whether it has to be run again."""
        return bool(self.status or self.signal)

    def line(self) -> bytes:
        """The line of the log.

        >>> Entry(1, 12.5, 0.25, 0, 2, 0, 0, "echo a").line()
        b'1\\t:\\t12.500\\t     0.250\\t0\\t2\\t0\\t0\\techo a\\n'
        """
        numbers = f"{self.sequence}\t:\t{self.started:.3f}\t{self.seconds:10.3f}\t{self.sent}\t{self.received}"
        command = self.command.replace("\n", "\0")  # a log has one line for each job
        return os.fsencode(f"{numbers}\t{self.status}\t{self.signal}\t{command}\n")


class JobLog:
    """The file, open for appending. `path` with a plus before it, or `resumed`, keeps what is in it."""

    def __init__(self, path: str, *, resumed: bool = False) -> None:
        keep = resumed or path.startswith("+")
        self.path = path.removeprefix("+")
        try:
            self._file = open(self.path, "ab" if keep else "wb", buffering=0)  # noqa: SIM115 (open as long as this)
        except OSError as raised:
            raise self._refused(raised) from raised
        try:
            if self._file.seekable() and self._file.tell():
                self._end_line()
            else:
                self._file.write(_HEAD)
        except OSError as raised:
            self._file.close()
            raise self._refused(raised) from raised

    def _refused(self, raised: OSError) -> UsageError:
        return UsageError(
            f"the log {self.path} cannot be written: {raised.strerror}", hint="name another with --joblog"
        )

    def _end_line(self) -> None:
        """A line that was torn by a kill is ended, so that the next one is whole."""
        with open(self.path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        if torn:
            self._file.write(b"\n")

    def write(self, entry: Entry) -> None:
        """Add a job. Raises OSError when the disk refuses."""
        self._file.write(entry.line())

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def read(path: str) -> dict[int, Entry]:
    """The last entry of each job in a log, whoever wrote it; nothing when there is no file.

    Lines that are not whole are left out: their jobs are run again. Raises UsageError for a file that is no such log.
    """
    found: dict[int, Entry] = {}
    try:
        with open(path, "rb") as file:
            head = file.readline()
            if head and not head.startswith(b"Seq\tHost\t"):
                raise UsageError(f"{path} is no log of jobs", hint="its first line must be " + " ".join(COLUMNS))
            for line in file:
                entry = _entry(line)
                if entry is not None:
                    found[entry.sequence] = entry
    except FileNotFoundError:
        pass
    except OSError as raised:
        raise UsageError(f"the log {path} cannot be read: {raised.strerror}") from raised
    return found


def _entry(line: bytes) -> Entry | None:
    columns = os.fsdecode(line.rstrip(b"\n")).split("\t", len(COLUMNS) - 1)
    if not line.endswith(b"\n") or len(columns) < len(COLUMNS):
        return None
    try:
        sequence, sent, received, status, signal = (int(columns[place]) for place in (0, 4, 5, 6, 7))
        return Entry(
            sequence,
            float(columns[2]),
            float(columns[3]),
            sent,
            received,
            status,
            signal,
            columns[8].replace("\0", "\n"),
        )
    except ValueError:
        return None
