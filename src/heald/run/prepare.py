"""Prepares the software of an environment, once on each node: whoever comes first does it, the others wait.

What is made stands in a folder of the run, named by what it is made of: the shell script that was run, what that
printed, and what came of it. A failure fails every attempt that waited for it; one that comes later tries again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from heald.core.environment import Environment
from heald.core.errors import StagingError
from heald.run import container
from heald.run.command import execute
from heald.run.kernel import exit_text
from heald.run.log import tail

_SHELLS = ("/bin/bash", "/bin/sh")
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # of some network file systems
_OF_THE_SHELL = {"_", "OLDPWD", "PWD", "SHLVL"}
# `module` is a function of the shell, and not in shells that no login has made.
_MODULES = """\
if ! command -v module > /dev/null; then
    for file in "$MODULESHOME/init/sh" "$LMOD_PKG/init/sh" /etc/profile.d/*modules.sh /etc/profile.d/*lmod.sh \\
        /usr/share/[Mm]odules/init/sh /usr/share/lmod/lmod/init/sh; do
        if [ -r "$file" ]; then . "$file"; break; fi
    done
fi"""
# What a package does at its activation may fail without harm.
_CONDA = """\
activation=$("${CONDA_EXE:-conda}" shell.posix activate %s)
set +e; eval "$activation"; set -e"""
_UV = """\
uv=$(command -v uv || echo %s)
rm -rf %s
"$uv" venv --quiet --python %s %s
"$uv" pip install --quiet --python %s %s
export VIRTUAL_ENV=%s PATH=%s:$PATH"""


class Prepared(msgspec.Struct, frozen=True):
    """`variables` are set by it; `python`: the interpreter for functions; `container`: as it is run, or empty."""

    variables: dict[str, str] = {}
    python: str = ""
    container: str = ""


def prepare(software: Environment, folder: Path, directory: str) -> Prepared:
    """Have the software ready in a folder of its own below `folder`, which is this node's; setup runs in `directory`.

    Raises StagingError with what the tool said that failed, and OSError.
    """
    place = folder / _name(software)
    ready, failed = place / "prepared.json", place / "failed"
    if not ready.exists():
        begun = time.time()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(place / "lock"):
            if failed.exists() and failed.stat().st_mtime >= begun:
                raise _failure(failed.read_text(), place)
            if not ready.exists():
                try:
                    made = _make(software, place, directory)
                except _Failed as raised:
                    failed.write_text(str(raised))
                    raise _failure(str(raised), place) from None
                draft = ready.with_suffix(".new")
                draft.write_bytes(msgspec.json.encode(made))
                draft.rename(ready)
    return msgspec.json.decode(ready.read_bytes(), type=Prepared)


def script(software: Environment, folder: Path) -> str:
    """What a shell has to do, and where it then writes its variables.

    >>> print(script(Environment(setup=("ulimit -s unlimited",)), Path("/e")))
    set -e
    ulimit -s unlimited
    env -0 > /e/variables
    <BLANKLINE>
    """
    lines = ["set -e"]
    if software.modules:
        lines += [_MODULES, f"module load {shlex.join(software.modules)}"]
    lines += software.setup
    if software.conda:
        lines.append(_CONDA % shlex.quote(software.conda))
    if software.uv:
        ours, venv = f"{sys.prefix}/bin/uv", f"{folder}/venv"
        base, made = software.python or sys.executable, f"{venv}/bin/python"
        around = map(shlex.quote, (ours, venv, base, venv, made))
        lines.append(_UV % (*around, shlex.join(software.uv), shlex.quote(venv), shlex.quote(f"{venv}/bin")))
    return "\n".join([*lines, f"env -0 > {shlex.quote(str(folder / 'variables'))}", ""])


def _make(software: Environment, place: Path, directory: str) -> Prepared:
    text, log = place / "prepare.sh", place / "prepare.log"
    log.unlink(missing_ok=True)
    text.write_text(script(software, place))
    shell = next(filter(os.path.exists, _SHELLS))
    _run([shell, str(text)], place, directory, {})
    found = dict(one.partition("=")[::2] for one in os.fsdecode((place / "variables").read_bytes()).split("\0") if one)
    variables = {
        name: value for name, value in found.items() if os.environ.get(name) != value and name not in _OF_THE_SHELL
    }
    path = found.get("PATH", "")
    image, pull = container.pulled(software.container, place, path) if software.container else ("", [])
    if pull:
        _run(pull, place, directory, variables)
    if image:
        inside = container.words(image, [str(place)], directory, path=path)
        _run([*inside, "/bin/sh", "-c", ":"], place, directory, variables)
    return Prepared(variables, _python(software, place, found), image)


def _python(software: Environment, place: Path, variables: dict[str, str]) -> str:
    if software.uv:
        return f"{place}/venv/bin/python"
    if software.container:
        return software.python or "python3"
    if software.conda and not software.python:
        return f"{variables.get('CONDA_PREFIX', software.conda)}/bin/python"
    if not software.python:
        return sys.executable
    found = shutil.which(os.path.expanduser(software.python), path=variables.get("PATH", ""))
    if found is None:
        raise _Failed(f"there is no Python {software.python!r}")
    return found


def _run(argv: list[str], place: Path, directory: str, variables: dict[str, str]) -> None:
    """Run a step; what it prints goes to the log."""
    log = os.open(place / "prepare.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    encoded = {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}
    before = os.getcwd()
    os.chdir(directory)
    try:
        status, *_ = execute(argv, encoded, [(1, log), (2, os.dup(log))])
    except FileNotFoundError:
        raise _Failed(f"there is no {argv[0]} here") from None
    finally:
        os.chdir(before)
    if status:
        words = "; ".join(line.strip() for line in tail(place / "prepare.log", 3).splitlines() if line.strip())
        raise _Failed(f"{words or shlex.join(argv)} ({exit_text(status)})")


class _Failed(Exception):
    """What a tool said that failed."""


def _failure(text: str, place: Path) -> StagingError:
    hint = f"all that was printed is in {place}/prepare.log; to try it by hand: bash {place}/prepare.sh"
    return StagingError(f"the environment of the task cannot be prepared: {text}", hint=hint)


def _name(software: Environment) -> str:
    """A name for what it is made of, files that it names included."""
    made = hashlib.blake2b(msgspec.msgpack.encode(software), digest_size=8)
    for word in software.uv:
        if os.path.isfile(word):
            made.update(Path(word).read_bytes())
    return made.hexdigest()


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One process of this node at a time."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as raised:
            if raised.errno not in _NO_LOCKS:
                raise
        yield
