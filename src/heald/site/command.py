"""Runs the programs of a scheduler: with a deadline, and knowing "nobody answers" from "no".

The only place of this folder, beside `local`, `ssh` and `login`, that starts processes. Adapters get `ask` as a
parameter, so that they can be tested on what real schedulers said.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from heald.core.errors import SchedulerUnreachable, SiteError, SubmitFailed

DEADLINE = 60.0  # seconds; a busy controller takes ten
_ANYTHING = "^"


class Answer(msgspec.Struct, frozen=True):
    """What a program printed, and its exit status."""

    status: int
    out: str = ""
    err: str = ""

    @property
    def words(self) -> str:
        """What it had to say, in one line: its errors, or else its output."""
        return " ".join((self.err.strip() or self.out.strip()).split()) or f"exit status {self.status}"


class Ask(Protocol):
    """Runs a program with a text on its standard input, and some variables more than ours."""

    def __call__(self, argv: Sequence[str], text: str = "", variables: Mapping[str, str] = {}) -> Answer:
        """What it answered."""


def ask(argv: Sequence[str], text: str = "", variables: Mapping[str, str] = {}) -> Answer:
    """Run a program of the scheduler to its end.

    >>> ask(["sh", "-c", "cat; exit 3"], "hello")
    Answer(status=3, out='hello', err='')

    Raises SiteError when there is no such program, and SchedulerUnreachable when it has not ended after a minute.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **variables},
            start_new_session=True,  # a Ctrl-C is for us; and what it started can be killed with it
        )
    except OSError as error:
        hint = "the programs of a scheduler are on the login nodes of its machine; is the right module loaded?"
        raise SiteError(f"cannot run {argv[0]}: {error.strerror}", hint=hint) from error
    try:
        out, err = process.communicate(text, timeout=DEADLINE)
    except subprocess.TimeoutExpired as error:
        raise SchedulerUnreachable(f"{shlex.join(argv[:2])} did not end within {DEADLINE:g} s") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return Answer(process.returncode, out, err)


class Programs:
    """The programs of one scheduler. `unreachable` is in what they say when nobody answers; `hints` say what to do
    about some of their other words: the first pattern that is found in them counts.
    """

    def __init__(self, ask: Ask, unreachable: str, hints: Mapping[str, str]) -> None:
        self._ask = ask
        self._unreachable = re.compile(unreachable, re.IGNORECASE)
        self._hints = {re.compile(pattern, re.IGNORECASE): hint for pattern, hint in hints.items()}

    def run(self, *argv: str, text: str = "", variables: Mapping[str, str] = {}, unless: str = "") -> Answer:
        """Run one. A status other than 0 is no error when `unless` is in its words.

        Raises SchedulerUnreachable when nobody answers, and SiteError when it fails.
        """
        answer = self._ask(argv, text, variables)
        if answer.status:
            if self._unreachable.search(answer.err + answer.out):
                raise SchedulerUnreachable(f"{argv[0]}: {answer.words}")
            if not unless or not re.search(unless, answer.err + answer.out, re.IGNORECASE | re.DOTALL):
                raise SiteError(f"{argv[0]}: {answer.words}", hint=self.hint(answer.words))
        return answer

    def submit(self, name: str, *argv: str, text: str) -> str:
        """What the program printed that submits the job of this name. Raises SubmitFailed when it is refused."""
        answer = self.run(*argv, text=text, unless=_ANYTHING)
        if answer.status:
            hint = self.hint(answer.words)
            raise SubmitFailed(f"{argv[0]} refused the job {name}: {answer.words}", hint=hint)
        return answer.out

    def hint(self, words: str) -> str:
        """What to do about the scheduler's words; empty when heald does not know."""
        return next((hint for pattern, hint in self._hints.items() if pattern.search(words)), "")
