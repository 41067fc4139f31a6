"""What a user asks qsub for: its words, the #PBS lines of the script, and what PBS says to wrong ones."""

from __future__ import annotations

import getopt
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.testbed.fake.service import Refused

QUEUE = "workq"
USAGE = """\
usage: qsub [-a date_time] [-A account_string] [-c interval]
	[-C directive_prefix] [-e path] [-f ] [-h ] [-I [-X]] [-j oe|eo] [-J X-Y[:Z]]
	[-k keep] [-l resource_list] [-m mail_options] [-M user_list]
	[-N jobname] [-o path] [-p priority] [-P project] [-q queue] [-r y|n]
	[-R o|e|oe] [-S path] [-u user_list] [-W otherattributes=value...]
	[-v variable_list] [-V ] [-z] [script | -- command [arg1 ...]]
       qsub --version"""
_OPTIONS = "a:A:c:C:e:fhj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:v:VW:z"
_COUNTS = {"ncpus", "ngpus", "mpiprocs", "ompthreads", "nodect"}
_SIZES = {"mem", "pmem", "vmem", "pvmem", "file"}
_TIMES = {"walltime", "cput", "pcput"}
OF_THE_SITE = {"filesystems"}  # resources that no PBS has by itself; this one is that of Polaris and Aurora
_KNOWN = OF_THE_SITE | _COUNTS | _SIZES | _TIMES | {"select", "place", "nodes", "host", "vnode", "arch", "software"}
_UNITS = {"b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40}


@dataclass
class Submission:
    """A job as its user wants it."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    name: str = "STDIN"
    script: str = ""
    command: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)  # by letter
    resources: dict[str, str] = field(default_factory=dict)  # of -l
    attributes: dict[str, str] = field(default_factory=dict)  # of -W

    @property
    def chunks(self) -> list[dict[str, str]]:
        """The resources of each chunk, in order."""
        found = []
        for part in self.select.split("+"):
            words = part.split(":")
            count, words = (int(words[0]), words[1:]) if words[0].isdigit() else (1, words)
            found += [dict(word.split("=", 1) for word in words)] * count
        return found

    @property
    def select(self) -> str:
        """The chunks as PBS writes them, every one with its ncpus."""
        if "select" in self.resources:
            parts = self.resources["select"].split("+")
        elif "nodes" in self.resources:  # the old way
            count, _, rest = self.resources["nodes"].partition(":")
            cpus = rest.partition("ppn=")[2] or "1"
            parts = [f"{count}:ncpus={cpus}:mpiprocs={cpus}"]
        else:
            asked = {"ncpus": "1", **self.resources}
            parts = ["1:" + ":".join(f"{name}={asked[name]}" for name in ("ncpus", "mem", "ngpus") if name in asked)]
        return "+".join(part if "ncpus=" in part else f"{part}:ncpus=1" for part in parts)

    @property
    def place(self) -> str:
        """How the chunks lie on the nodes."""
        return self.resources.get("place", "free" if {"select", "nodes"} & self.resources.keys() else "pack")

    @property
    def walltime(self) -> float | None:
        """In seconds; None: no limit."""
        return seconds(self.resources["walltime"]) if "walltime" in self.resources else None

    @property
    def indices(self) -> range | None:
        """Of -J: the indices of an array."""
        if "J" not in self.options:
            return None
        match = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?(?:%\d+)?", self.options["J"])
        if match is None:
            raise Refused(f"qsub: illegal -J value\n{USAGE}", 2)
        return range(int(match[1]), int(match[2]) + 1, int(match[3] or 1))


async def read(
    arguments: list[str], folder: str, environment: dict[str, str], text: Callable[[], Awaitable[str]]
) -> Submission:
    """Understand qsub's words; `text` gives the standard input, and is called if the script is there."""
    asked = Submission(arguments, folder, environment)
    given, rest = _options(arguments)
    if rest and arguments[len(arguments) - len(rest) - 1] == "--":
        asked.command = rest
    elif len(rest) > 1:
        raise Refused(USAGE, 2)
    elif rest:
        file = Path(folder, rest[0])
        if not file.exists():
            raise Refused("qsub: script file:: No such file or directory")
        asked.script, asked.name = file.read_text(errors="replace"), file.name
    else:
        asked.script = await text()
    for option, value in [*_directives(asked.script), *given]:  # later ones win
        _take(asked, option.lstrip("-"), value)
    asked.name = asked.options.get("N", asked.name)
    _check(asked)
    return asked


def _options(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    try:
        return getopt.getopt(words, _OPTIONS)
    except getopt.GetoptError as error:
        raise Refused(f"qsub: {error}\n{USAGE}", 2) from None


def _directives(script: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in script.splitlines():
        if line.startswith("#PBS"):
            options, _ = _options(
                [word.strip("'\"") for word in re.findall(r"(?:[^\s'\"]|'[^']*'|\"[^\"]*\")+", line[4:])]
            )
            found += options
        elif line.strip() and not line.startswith("#"):
            break
    return found


def _take(asked: Submission, option: str, value: str) -> None:
    if option == "l":
        for name, _, amount in (part.partition("=") for part in value.split(",")):
            asked.resources[name] = amount
    elif option == "W":
        for name, _, text in (part.partition("=") for part in value.split(" ")):
            asked.attributes[name] = text
    else:
        asked.options[option] = value


def _check(asked: Submission) -> None:
    if not re.fullmatch(r"[\w+.-][^\s]{0,229}", asked.name):
        raise Refused(f"qsub: illegal -N value\n{USAGE}", 2)
    if "nodes" in asked.resources and {"select", "place"} & asked.resources.keys():
        raise Refused("qsub: Cannot be used with select or place: nodes", 6)
    if asked.options.get("q", QUEUE).partition("@")[0] != QUEUE:
        raise Refused("qsub: Unknown queue", 170)
    for name, value in asked.resources.items():
        if name not in _KNOWN:
            raise Refused(f"qsub: Unknown resource Resource_List.{name}", 187)
        if not _is_legal(name, value):
            raise Refused(f"qsub: Illegal attribute or resource value Resource_List.{name}", 166)
    try:
        chunks = asked.chunks
    except ValueError:
        raise Refused("qsub: Illegal attribute or resource value Resource_List.select", 166) from None
    for name, value in (pair for chunk in chunks for pair in chunk.items()):
        if name not in _KNOWN:
            raise Refused(f"qsub: Unknown resource Resource_List.{name}", 187)
        if not _is_legal(name, value):
            raise Refused("qsub: Illegal attribute or resource value Resource_List.select", 166)
    assert asked.indices is None or asked.indices  # reading it refuses what is none


def _is_legal(name: str, value: str) -> bool:
    if name in _COUNTS:
        return value.isdigit()
    if name in _SIZES:
        return re.fullmatch(r"\d+([kmgt]?[bw])?", value.lower()) is not None
    if name in _TIMES:
        return re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", value) is not None
    return bool(value)


def seconds(text: str) -> float:
    """Of "1:30:00", "90:00" or "5400"."""
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total


def size(text: str) -> int:
    """In bytes, of "50mb"."""
    match = re.fullmatch(r"(\d+)(\w*)", text.lower())
    assert match is not None
    return int(match[1]) * _UNITS[match[2] or "b"]
