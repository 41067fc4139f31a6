"""Starts the script of a detached run, and starts it again when something kills it: a crash, a system out of memory.

`python -IS supervisor.py STATUS COMMAND...` in a session of its own, with files for what it prints; it begins at the
first byte of its standard input. It lasts as long as the run and must outlive whatever kills that, so it is small: the
standard library, and nothing of heald. It knows neither journal nor tasks; that the script goes on where it was is the
journal's doing.

A script that exits is over, however it exits. So is one that somebody asked to end by SIGTERM, SIGINT or SIGHUP; sent
to the supervisor they are passed on.
"""

from __future__ import annotations

import os
import signal
import sys
import time

_WISHES = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_DEATHS = 4  # within a minute: there is no use in another start
_MINUTE = 60.0


def main(argv: list[str]) -> int:
    """Run a command until it has ended for good, write its status, and give that."""
    file, *command = argv
    if not os.read(0, 1):
        return 1  # whoever started it was killed before others could know of it
    _let_go()
    status = supervise(command)
    with open(f"{file}.new", "w") as draft:
        draft.write(f"{status}\n")
    os.replace(draft.name, file)
    return status


def supervise(command: list[str]) -> int:
    """Run a command until it has ended for good: its exit status, negative for the signal that killed it."""
    wishes: list[int] = []
    child = 0
    ended: list[float] = []

    def pass_on(number: int, frame: object) -> None:
        wishes.append(number)
        if child:
            os.kill(child, number)

    for number in _WISHES:
        signal.signal(number, pass_on)
    while not wishes:
        child = os.posix_spawn(command[0], command, os.environ)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child = 0
        if status >= 0 or wishes or -status in _WISHES:
            return status
        now = time.monotonic()
        ended = [*(one for one in ended if now - one < _MINUTE), now]
        if len(ended) == _DEATHS:
            _say(f"{signal.strsignal(-status)} (signal {-status}), {_DEATHS} times within a minute: not started again")
            return status
        _say(f"{signal.strsignal(-status)} (signal {-status}): started again, it goes on where it was")
    return -wishes[0]


def _say(text: str) -> None:
    print(f"heald: the script was ended by a signal: {text}", file=sys.stderr, flush=True)


def _let_go() -> None:
    """Close what whoever started this process had open: somebody may wait for its end."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:  # the listing itself
                pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
