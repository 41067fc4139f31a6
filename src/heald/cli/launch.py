"""What `heald run` is asked to run: a look at runs, a script, a recorded trace, or a command over inputs.

Light on purpose: a command over inputs (`cli.parallel`) starts without anything of the other commands.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

_COMMANDS = {"ls", "show", "report", "stop", "prune", "script", "trace", "--help", "-h"}
# Options of scripts that take a word, and those that do not.
_VALUES = {
    "--journal", "--workers", "--executor", "--retries", "--site", "--nodes", "--walltime", "--blocks", "--account",
    "--queue",
}  # fmt: skip
_FLAGS = {"--progress", "--quiet", "--compat", "--detach"}
_SHARED = {"--retries", "--progress", "--quiet"}  # commands over inputs have these too


def routed(words: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether the words after `heald` are a command over inputs, and the words for whoever understands them.

    `heald run study.py` becomes `heald run script study.py`, and `heald run --trace FILE` `heald run trace FILE`.

    >>> routed(["run", "echo {}", ":::", "a"])
    (True, ['echo {}', ':::', 'a'])
    >>> routed(["run", "--trace", "montage.json"])
    (False, ['run', 'trace', 'montage.json'])
    """
    if len(words) < 2 or words[0] != "run":
        return False, list(words)
    asked = list(words[1:])
    over_inputs = any(word.startswith(":::") for word in asked)
    if asked[0] in _COMMANDS and not over_inputs:
        return False, list(words)
    if "--trace" in asked and not over_inputs:
        asked.remove("--trace")
        return False, ["run", "trace", *asked]
    if not over_inputs and ("--compat" in asked or _names_script(asked)):
        return False, ["run", "script", *asked]
    return True, asked


def _names_script(asked: Sequence[str]) -> bool:
    """The first word that is no option of scripts is a Python file, or would be one if it were there.

    An option that nobody knows, after one that only scripts have, is a slip for one of theirs.
    """
    place, scripts = 0, False
    while place < len(asked):
        word = asked[place]
        name = word.split("=", 1)[0]
        if name in _VALUES | _FLAGS:
            place += 2 if word in _VALUES else 1
            scripts = scripts or name not in _SHARED
        else:
            if scripts and word.startswith("-"):
                return True
            return word.endswith(".py") and (os.path.exists(word) or not _is_program(word))
    return False


def _is_program(word: str) -> bool:
    import shutil

    return shutil.which(word) is not None
