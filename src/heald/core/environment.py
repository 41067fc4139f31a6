"""What surrounds an attempt: variables, the directory, where its output goes, and which software it finds.

A record only; `run/` makes it so.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Environment(msgspec.Struct, frozen=True, array_like=True, repr_omit_defaults=True):
    """What an attempt finds around it.

    `variables`: set for the attempt, and gone after it. `directory`: where it runs; empty for the session's own,
    "auto" for a new one of its own under the run folder, else a path, made when missing. `stdout`, `stderr`: files
    to append to, relative to that directory; empty for files in the run folder.

    The rest is its software, which is prepared once on each node. `modules` are loaded and `setup` lines are run by a
    shell, in this order. Then comes what has a Python of its own: `conda`: an environment, by name or path; `uv`: words
    for `uv pip install`, of which one is made; `container`: an image, see `run.container`. `python`: the interpreter
    for functions: a path, or a name to be found there.
    """

    variables: dict[str, str] = {}
    directory: str = ""
    stdout: str = ""
    stderr: str = ""
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    python: str = ""
    conda: str = ""
    uv: tuple[str, ...] = ()
    container: str = ""

    @property
    def said(self) -> dict[str, Any]:
        """What it says, by name.

        >>> Environment(conda="md").said
        {'conda': 'md'}
        """
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name))}

    @property
    def software(self) -> Environment:
        """Its software alone.

        >>> Environment({"X": "1"}, modules=("gcc/12",)).software == Environment(modules=("gcc/12",))
        True
        """
        return msgspec.structs.replace(self, variables={}, directory="", stdout="", stderr="")

    @property
    def foreign(self) -> bool:
        """Whether functions run in another Python than heald's own."""
        return bool(self.python or self.conda or self.uv or self.container)

    def over(self, usual: Environment) -> Environment:
        """This one where it says anything, `usual` where it does not; a Python comes whole from one of them.

        >>> Environment(conda="md").over(Environment({"X": "1"}, container="md.sif"))
        Environment(variables={'X': '1'}, conda='md')
        """
        if usual == PLAIN:
            return self
        if self.foreign:
            usual = msgspec.structs.replace(usual, python="", conda="", uv=(), container="")
        return msgspec.structs.replace(usual, **{**self.said, "variables": {**usual.variables, **self.variables}})


PLAIN = Environment()
