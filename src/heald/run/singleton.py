"""Ranks that each believe to be alone, because the MPI of the program is not the one that started them.

Such a program computes the same thing as many times as it has ranks, and ends well. A Python function is asked
(`rank`). Of a command it is known only by what it says: Open MPI 5 and mpi4py 4 see the signs of a foreign launcher,
and warn; what says nothing cannot be noticed.
"""

from __future__ import annotations

import os
import re

from heald.core.event import Failure
from heald.core.retry import REFUSED

_WARNINGS = re.compile(rb"no-pmix-but|singletons will be started|suspicious MPI execution environment", re.IGNORECASE)
_MOST = 1 << 16  # bytes of what a program prints that are looked at: it warns when it starts


class Ear:
    """Listens to what the ranks of a command write to a file, from now on."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._begin = os.stat(file).st_size if os.path.exists(file) else 0

    def heard(self) -> bool:
        """Whether they have warned."""
        try:
            with open(self._file, "rb") as stream:
                stream.seek(self._begin)
                return _WARNINGS.search(stream.read(_MOST)) is not None
        except OSError:
            return False


def failure(ranks: int, prefix: str, told: str = "") -> Failure:
    """The record of `ranks` that were started by the words `prefix`; `told` is what MPI says of itself."""
    text = f"each of its {ranks} ranks believes that it is the only one: the MPI of the program"
    text += f" ({told})" if told else ""
    hint = "put the mpiexec of the program's MPI first on PATH, or set `mpi` of the site"
    return Failure(REFUSED, f"{text} is not the one that started them: {prefix}", hint=hint, final=True)
