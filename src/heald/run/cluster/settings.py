"""What an agent is told before it can be reached: where its head is, the keys, and how to work.

It stands in a file that only the user can read, since there are keys in it; its name is all that a command line has.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from heald.core.environment import PLAIN, Environment
from heald.core.errors import ConfigurationError
from heald.site.profile import Site
from heald.wire import key
from heald.wire.key import Pair


class AgentSettings(msgspec.Struct, frozen=True):
    """Settings of the agents of one allocation. Times are in seconds.

    `endpoints`: where the head may be reached, the likeliest first; `head`: its public key. `silence`: how long nothing
    may be heard before an agent is given up; `lease`: how long it goes on without its head. `run`: the run's folder;
    `folder`: where its agents keep what is their own; `directory`, `path` and `argv`: where tasks run, where Python
    finds modules, and what it was called with. `fan_out`: nodes of an allocation above which its agents share one
    connection to the head; `switch`: where that begins, the likeliest first. `workers`: cores to use of each node, 0
    for all; `gpus`: names of devices, None for those that are found; `memory`: bytes, 0 for all. `grace`, `bind`,
    `initializer`, `environment`, `notice`: as for every crew.
    """

    allocation: str
    endpoints: tuple[str, ...]
    head: str
    pair: Pair
    run: str
    directory: str
    path: tuple[str, ...]
    site: Site
    argv: tuple[bytes, ...] = ()
    folder: str = ""
    fan_out: int = 64
    switch: tuple[str, ...] = ()
    silence: float = 10.0
    lease: float = 300.0
    workers: int = 0
    gpus: tuple[str, ...] | None = None
    memory: int = 0
    grace: float = 5.0
    bind: bool = False
    initializer: bytes = b""
    environment: Environment = PLAIN
    notice: float = 0.0


def write(file: Path, settings: AgentSettings) -> None:
    """Write the file, readable by its owner alone."""
    key.write(file, msgspec.json.encode(settings))


def read(file: Path) -> AgentSettings:
    """Read it. Raises ConfigurationError when it cannot be, is no such file, or others could have written it."""
    try:
        return msgspec.json.decode(key.read(file), type=AgentSettings)
    except (OSError, msgspec.MsgspecError) as raised:
        raise ConfigurationError(
            f"{file} does not tell an agent what to do: {raised}",
            hint="an agent is started by heald, with a file that the head of a run has written",
        ) from raised
