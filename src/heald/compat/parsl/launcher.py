"""Launchers: how Parsl starts workers on the nodes of a block, and what in heald starts its agents in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from heald.compat.parsl.representation import RepresentationMixin


@dataclass(repr=False, eq=False)
class Launcher(RepresentationMixin):
    """How a block's command is started on its nodes; how many there are on one, and what they get of it, is heald's."""

    debug: bool = True

    starts: ClassVar[str | None] = None  # what does it in heald; empty for the scheduler's own, None for nothing
    instead: ClassVar[str] = "use one of parsl.launchers, such as SrunLauncher or MpiExecLauncher"

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int) -> str:
        """The command to run."""
        return command


class SimpleLauncher(Launcher):
    """Runs the command as it is, on the first node of a block."""

    starts = "fork"


@dataclass(repr=False, eq=False)
class SingleNodeLauncher(Launcher):
    """Runs the command on every node by the scheduler's own means; Parsl leaves all but the first unused."""

    fail_on_any: bool = False

    starts = ""


class GnuParallelLauncher(Launcher):
    """Runs the command on every node over ssh."""

    starts = "ssh"


@dataclass(repr=False, eq=False)
class SrunLauncher(Launcher):
    """Runs the command on every node with srun."""

    overrides: str = ""

    starts: ClassVar[str | None] = "srun"


class SrunMPILauncher(SrunLauncher):
    """Runs the command on every node with srun, as an MPI program."""


class AprunLauncher(SrunLauncher):
    """Runs the command on every node with aprun."""

    starts = None
    instead = "no machine has aprun any more: use SrunLauncher or MpiExecLauncher"


class JsrunLauncher(SrunLauncher):
    """Runs the command on every node with jsrun."""

    starts = None
    instead = "use MpiRunLauncher, or SingleNodeLauncher, which is LSF's own blaunch here"


@dataclass(repr=False, eq=False)
class MpiExecLauncher(Launcher):
    """Runs the command on every node with mpiexec, whosever that is there."""

    bind_cmd: str = "--bind-to"
    overrides: str = ""

    starts = "mpiexec"


@dataclass(repr=False, eq=False)
class MpiRunLauncher(Launcher):
    """Runs the command on every node with the mpiexec of the same MPI."""

    bash_location: str = "/bin/bash"
    overrides: str = ""

    starts = "mpiexec"


class WrappedLauncher(Launcher):
    """Runs the command with another before it."""

    instead = "prepare the node in worker_init; for a container, start the script itself in it"

    def __init__(self, prepend: str, debug: bool = True) -> None:
        super().__init__(debug)
        self.prepend = prepend
