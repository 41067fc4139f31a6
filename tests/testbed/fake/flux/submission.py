"""What a user asks of flux submit, run and batch: the words, and the "# flux:" lines of a batch script."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import dataclass
from typing import NoReturn

from tests.testbed.fake.service import Refused

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Submission:
    """A job as its user wants it."""

    kind: str  # submit, run or batch
    command: list[str]  # of a batch job its script's name, if it has one
    script: str
    name: str
    nodes: int  # 0: as many as the slots need
    slots: int  # each is a task, but in a batch job
    cores: int  # of a slot
    gpus: int
    exclusive: bool
    limit: float  # seconds; 0: none
    hosts: tuple[str, ...]  # the only ones allowed, if any are given
    queue: str
    output: str
    error: str
    folder: str
    environment: dict[str, str]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refused(f"{self.prog}: error: {message}", 2)


def read(kind: str, words: list[str], script: str, folder: str, environment: dict[str, str]) -> Submission:
    """Understand the words behind `flux KIND`, and of a batch job those in its script; the words count more."""
    parser = _arguments(kind)
    given = parser.parse_args([*_directives(script), *words])
    tasks = given.slots or given.nodes or (0 if kind == "batch" else 1)
    if not tasks:
        raise Refused("flux-batch: ERROR: Number of slots to allocate must be specified")
    if not given.command and kind != "batch":
        raise Refused(f"flux-{kind}: ERROR: job command and arguments are missing")
    whole = given.exclusive or (kind == "batch" and not given.slots)
    default = given.command[0] if given.command else "batch"
    return Submission(
        kind,
        given.command,
        script,
        given.job_name or default.rpartition("/")[2],
        given.nodes,
        tasks,
        given.cores,
        given.gpus,
        whole,
        duration(given.time_limit),
        tuple(given.requires.removeprefix("hosts:").split(",")) if given.requires.startswith("hosts:") else (),
        given.queue,
        given.output,
        given.error or given.output,
        given.cwd or folder,
        environment,
    )


def duration(text: str) -> float:
    """Of "90s", "1.5h" or, without a unit, minutes."""
    match = re.fullmatch(r"([\d.]+)(ms|[smhd]?)", text)
    if match is None:
        raise Refused(f"flux: ERROR: invalid Flux standard duration '{text}'")
    return float(match[1]) * _UNITS[match[2] or "m"]


def _arguments(kind: str) -> _Parser:
    parser = _Parser(prog=f"flux-{kind}", allow_abbrev=False)
    slot = "slot" if kind == "batch" else "task"
    parser.add_argument("-N", "--nodes", type=int, default=0)
    parser.add_argument("-n", "--nslots" if kind == "batch" else "--ntasks", dest="slots", type=int, default=0)
    parser.add_argument("-c", f"--cores-per-{slot}", dest="cores", type=int, default=1)
    parser.add_argument("-g", f"--gpus-per-{slot}", dest="gpus", type=int, default=0)
    parser.add_argument("-t", "--time-limit", default="0")
    parser.add_argument("-x", "--exclusive", action="store_true")
    parser.add_argument("-q", "--queue", default="")
    parser.add_argument("--job-name")
    parser.add_argument("--output", default="")
    parser.add_argument("--error", default="")
    parser.add_argument("--requires", default="")
    parser.add_argument("--cwd")
    for ignored in ("-B --bank", "-o --setopt", "--signal", "--urgency", "--env"):
        parser.add_argument(*ignored.split(), dest="ignored", action="append")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser


def _directives(script: str) -> list[str]:
    """Behind "#flux:" or "# flux:", at the start of the script."""
    words: list[str] = []
    for line in script.splitlines():
        if match := re.match(r"#\s*flux:(.*)", line, re.IGNORECASE):
            words += shlex.split(match[1])
        elif line.strip() and not line.startswith("#"):
            break
    return words
