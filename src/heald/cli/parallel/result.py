"""Keeps what jobs print: in a tree of folders, in files named by a template, or in one table (--results)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

from heald.cli.parallel.joblog import Entry
from heald.cli.parallel.template import Facts, Spelling, Template
from heald.core.errors import UsageError

_COLUMNS = ("Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command")


class Results(Protocol):
    """Where the output of jobs is kept."""

    def has(self, sequence: int, values: Sequence[str]) -> bool:
        """Whether the output of that job is there already."""

    def keep(self, entry: Entry, values: Sequence[str], stdout: Path | None, stderr: Path | None) -> None:
        """Keep the output of a job. Raises OSError when the disk refuses."""

    def close(self) -> None:
        """Finish."""


def results(where: str, spelling: Spelling) -> Results:
    """What `--results WHERE` asks for. Raises UsageError when it cannot be."""
    if where.endswith((".csv", ".tsv", ".json")):
        return Table(where)
    template = Template(where, spelling, append=False)
    return Files(template if template.placeholders else None, where, spelling.names)


class Files:
    """Three files a job: stdout, stderr and seq."""

    def __init__(self, template: Template | None, root: str, names: Sequence[str] = ()) -> None:
        self._template = template
        self._root = root.rstrip("/") or "/"
        self._names = names
        if template is None and os.path.exists(root) and not os.path.isdir(root):
            raise UsageError(f"--results {root}: it is a file, not a folder", hint="name a folder, or a FILE.csv")

    def paths(self, sequence: int, values: Sequence[str]) -> tuple[Path, Path, Path]:
        """The files of standard output, standard error and the number of a job.

        >>> Files(None, "out").paths(1, ["a/b", "c"])[0]
        PosixPath('out/1/a\\\\_b/2/c/stdout')
        """
        if self._template is None:
            # The folders of names come in the order of the alphabet: those of GNU Parallel do.
            named = sorted((self._name(place), value) for place, value in enumerate(values))
            folder = "/".join([self._root, *(part for name, value in named for part in (name, encoded(value)) if part)])
        else:
            path = self._template.plainly([encoded(value) for value in values], Facts(sequence))
            if not path.endswith("/"):
                return Path(path), Path(path + ".err"), Path(path + ".seq")
            folder = path
        return Path(folder, "stdout"), Path(folder, "stderr"), Path(folder, "seq")

    def _name(self, place: int) -> str:
        return encoded(self._names[place]) if place < len(self._names) else str(place + 1)

    def has(self, sequence: int, values: Sequence[str]) -> bool:
        """Whether the output of that job is there already: its number is written last."""
        return self.paths(sequence, values)[2].exists()

    def keep(self, entry: Entry, values: Sequence[str], stdout: Path | None, stderr: Path | None) -> None:
        """Keep the output of a job. Raises OSError when the disk refuses."""
        out, err, number = self.paths(entry.sequence, values)
        out.parent.mkdir(parents=True, exist_ok=True)
        for source, target in ((stdout, out), (stderr, err)):
            if source is None:
                target.write_bytes(b"")
            else:
                shutil.copyfile(source, target)
        number.write_text(str(entry.sequence))

    def close(self) -> None:
        """Nothing is open."""


class Table:
    """One file with a line for each job, its output in the last columns; a name of `-` is standard output."""

    def __init__(self, path: str) -> None:
        self._kind = path.rpartition(".")[2]
        self._headed = False
        self._file: IO[str]
        if os.path.basename(path).startswith("-."):
            self._file = sys.stdout
        else:
            try:
                self._file = open(path, "w", encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115
            except OSError as raised:
                raise UsageError(f"--results {path} cannot be written: {raised.strerror}") from raised

    def has(self, sequence: int, values: Sequence[str]) -> bool:
        """A table begins anew."""
        return False

    def keep(self, entry: Entry, values: Sequence[str], stdout: Path | None, stderr: Path | None) -> None:
        """Add a line."""
        printed = [_text(stdout), _text(stderr)]
        numbers = [entry.sequence, f"{entry.started:.3f}", f"{entry.seconds:.3f}", entry.sent, entry.received]
        if self._kind == "json":
            self._write_json(entry, values, printed)
            return
        sign = "," if self._kind == "csv" else "\t"
        if not self._headed:
            self._headed = True
            names = [*_COLUMNS, *(f"V{place + 1}" for place in range(len(values))), "Stdout", "Stderr"]
            self._file.write(sign.join(names) + "\n")
        cells = [numbers[0], ":", *numbers[1:], entry.status, entry.signal, entry.command, *values, *printed]
        self._file.write(sign.join(_cell(str(cell)) for cell in cells) + "\n")
        self._file.flush()

    def _write_json(self, entry: Entry, values: Sequence[str], printed: Sequence[str]) -> None:
        import json

        facts = (entry.sequence, ":", entry.started, entry.seconds, entry.sent, entry.received, entry.status)
        record: dict[str, object] = dict(zip(_COLUMNS, (*facts, entry.signal, entry.command), strict=True))
        record.update(V=list(values), Stdout=printed[0], Stderr=printed[1])
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._file is not sys.stdout:
            self._file.close()


def encoded(value: str) -> str:
    """The value as the name of one file, which never leads elsewhere.

    >>> encoded("a/b"), encoded("..")
    ('a\\\\_b', '\\\\.\\\\.')
    """
    if value in (".", ".."):
        return value.replace(".", "\\.")
    return value.replace("\\", "\\\\").replace("/", "\\_").replace("\t", "\\t").replace("\n", "\\n")


def _text(path: Path | None) -> str:
    return "" if path is None else os.fsdecode(path.read_bytes())


def _cell(text: str) -> str:
    if any(sign in text for sign in ' ,"\t\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text
