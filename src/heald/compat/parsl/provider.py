"""LocalProvider and launchers: on one machine they say how many blocks there are, and what prepares a worker."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from typing import Any, ClassVar

from heald.compat.parsl.error import BadLauncher, ScriptPathError
from heald.compat.parsl.representation import RepresentationMixin, retired


@dataclass(repr=False, eq=False)
class Launcher(RepresentationMixin):
    """How a block's command is started on its nodes: on one machine as it is."""

    debug: bool = True

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int) -> str:
        """The command to run."""
        return command


class SimpleLauncher(Launcher):
    """Runs the command as it is."""


@dataclass(repr=False, eq=False)
class SingleNodeLauncher(Launcher):
    """Runs the command on one node."""

    fail_on_any: bool = False


class GnuParallelLauncher(Launcher):
    """Runs the command on every node with GNU Parallel."""


@dataclass(repr=False, eq=False)
class _WithOverrides(Launcher):
    overrides: str = ""


class SrunLauncher(_WithOverrides):
    """Runs the command on every node with srun."""


class SrunMPILauncher(_WithOverrides):
    """Runs the command on every node with srun, as an MPI program."""


class AprunLauncher(_WithOverrides):
    """Runs the command on every node with aprun."""


class JsrunLauncher(_WithOverrides):
    """Runs the command on every node with jsrun."""


@dataclass(repr=False, eq=False)
class MpiExecLauncher(Launcher):
    """Runs the command on every node with mpiexec."""

    bind_cmd: str = "--bind-to"
    overrides: str = ""


@dataclass(repr=False, eq=False)
class MpiRunLauncher(Launcher):
    """Runs the command on every node with mpirun."""

    bash_location: str = "/bin/bash"
    overrides: str = ""


class WrappedLauncher(Launcher):
    """Runs the command with another before it."""

    def __init__(self, prepend: str, debug: bool = True) -> None:
        super().__init__(debug)
        self.prepend = prepend

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int) -> str:
        """The command to run."""
        return f"{self.prepend} {command}"


class LocalChannel:
    """The machine itself, as Parsl named it until 2024."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...


class ExecutionProvider:
    """Where the nodes of an executor come from."""


@retired("channel walltime move_files")
@dataclass(repr=False, eq=False)
class LocalProvider(ExecutionProvider, RepresentationMixin):
    """This machine. `worker_init`: shell commands whose variables the workers have."""

    nodes_per_block: int = 1
    launcher: Launcher = field(default_factory=SingleNodeLauncher)
    init_blocks: int = 1
    min_blocks: int = 0
    max_blocks: int = 1
    worker_init: str = ""
    cmd_timeout: int = 30
    parallelism: float = 1

    label = "local"
    script_dir: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if not callable(self.launcher):
            raise BadLauncher(self.launcher)

    @property
    def blocks(self) -> int:
        """Blocks at the height of the work: workers that are not needed are not started."""
        return max(self.init_blocks, self.max_blocks, 1)

    def variables(self) -> dict[str, str]:
        """What `worker_init` changes in the environment. Raises ScriptPathError when it fails."""
        if not self.worker_init.strip():
            return {}
        ran = subprocess.run(
            ["/bin/bash", "-c", f"{{ {self.worker_init}\n}} >&2; env -0"], capture_output=True, timeout=self.cmd_timeout
        )
        if ran.returncode or not ran.stdout:
            how = f"failed with status {ran.returncode}" if ran.returncode else "ended the shell"
            raise ScriptPathError(f"worker_init {how}: {os.fsdecode(ran.stderr)[-2000:]}")
        found = dict(os.fsdecode(one).partition("=")[::2] for one in ran.stdout.split(b"\0") if b"=" in one)
        return {name: value for name, value in found.items() if os.environ.get(name) != value}
