"""Containers: from the name of an image to the words that run a command in it.

    md.sif, /images/md/, docker://ubuntu:24.04      apptainer, or singularity where there is none
    podman:docker.io/library/ubuntu:24.04           podman
    ch:/images/md, ch:ubuntu:24.04                  charliecloud
    bwrap:/images/md                                bubblewrap, with a folder as the root

Folders are at the same place inside and outside; variables are those of the attempt. Starts nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

_PROGRAMS = {"podman": ("podman",), "ch": ("ch-run",), "bwrap": ("bwrap",), "": ("apptainer", "singularity")}
_DEVICES = {"--nv": "/dev/nvidiactl", "--rocm": "/dev/kfd"}  # of GPUs, with the options for them


def pulled(container: str, folder: Path, path: str | None = None) -> tuple[str, list[str]]:
    """The container as it is run, and the command that first gets its image into `folder`; no words when none does.

    >>> pulled("docker://ubuntu:24.04", Path("/tmp/e"))
    ('/tmp/e/image.sif', ['apptainer', 'pull', '--force', '/tmp/e/image.sif', 'docker://ubuntu:24.04'])
    """
    scheme, image = _scheme(container)
    if scheme == "podman":
        return container, [_program(scheme, path), "pull", "--quiet", image]
    if not scheme and "://" in image:
        file = str(folder / "image.sif")
        return file, [_program(scheme, path), "pull", "--force", file, image]
    return container, []


def words(
    container: str, folders: Iterable[str], directory: str, variables: Iterable[str] = (), path: str | None = None
) -> list[str]:
    """The words before a command that is to run in a container, in that directory.

    `folders` are there too; `variables`: names of those that a container would not have by itself; `path`: where
    programs are looked for, by default PATH.

    >>> words("ch:/images/md", ["/run", "/run/logs"], "/run/work/1")
    ['ch-run', '--bind=/run:/run', '--cd=/run/work/1', '/images/md', '--']
    """
    scheme, image = _scheme(container)
    program, binds = _program(scheme, path), _outermost([*folders, directory])
    if scheme == "podman":
        named = [f"--env={name}" for name in variables]
        return [program, "run", "--rm", "-i", *(f"-v={one}:{one}" for one in binds), f"-w={directory}", *named, image]
    if scheme == "ch":
        return [program, *(f"--bind={one}:{one}" for one in binds), f"--cd={directory}", image, "--"]
    if scheme == "bwrap":
        bound = [word for one in binds for word in ("--bind", one, one)]
        return [program, "--bind", image, "/", "--dev", "/dev", "--proc", "/proc", *bound, "--chdir", directory]
    devices = [option for option, device in _DEVICES.items() if os.path.exists(device)]
    return [program, "exec", *devices, *(f"--bind={one}" for one in binds), f"--pwd={directory}", image]


def _scheme(container: str) -> tuple[str, str]:
    scheme, colon, image = container.partition(":")
    return (scheme, image) if colon and scheme in _PROGRAMS else ("", container)


def _program(scheme: str, path: str | None) -> str:
    """The first that is there; else the usual one, and starting it says that it is missing."""
    names = _PROGRAMS[scheme]
    return next((name for name in names if shutil.which(name, path=path)), names[0])


def _outermost(folders: Sequence[str]) -> list[str]:
    """Each folder once, without those inside of another.

    >>> _outermost(["/run/logs", "/run", "/home/ada", "/run"])
    ['/home/ada', '/run']
    """
    found: list[str] = []
    for folder in sorted(set(map(os.path.abspath, folders))):
        if not any(folder.startswith(f"{one.rstrip('/')}/") for one in found):
            found.append(folder)
    return found
