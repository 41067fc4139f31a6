"""What surrounds an attempt: environment variables, the directory, where its output goes.

A record only; `run/` makes it so.
"""

from __future__ import annotations

import msgspec


class Environment(msgspec.Struct, frozen=True, array_like=True):
    """What an attempt finds around it.

    `variables`: set for the attempt, and gone after it. `directory`: where it runs; empty for the session's own,
    "auto" for a new one of its own under the run folder, else a path, made when missing. `stdout`, `stderr`: files
    to append to, relative to that directory; empty for files in the run folder.
    """

    variables: dict[str, str] = {}
    directory: str = ""
    stdout: str = ""
    stderr: str = ""


PLAIN = Environment()
