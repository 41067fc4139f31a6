"""A virtual environment for each system, kept between runs while its requirements stay the same."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import ROOT

FOLDER = ROOT / "bench" / ".environments"
EVERYWHERE = ("numpy>=2",)  # the array workloads
INSTALL_SECONDS = 1200


class EnvironmentFailed(Exception):
    """The environment could not be made; its text is the last line that the installer said."""


def make(name: str, requirements: Sequence[str]) -> Path:
    """Give the Python of the environment, made anew if its requirements have changed."""
    folder = FOLDER / name
    wanted = _stamp(requirements)
    stamp = folder / "stamp.txt"
    with _lock(name):
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            print(f"bench: making the environment of {name}", file=sys.stderr)
            _run(sys.executable, "-m", "venv", str(folder))
            _run(str(folder / "bin" / "pip"), "install", "--quiet", *EVERYWHERE, *requirements)
            stamp.write_text(wanted)
    return folder / "bin" / "python"


def variables(python: Path, folder: Path) -> dict[str, str]:
    """Give the environment variables of a measurement: nothing of the caller's but the language.

    Home and temporary files lie in the measurement's own folder, so that nothing is left behind.
    """
    return {
        "PATH": os.pathsep.join((str(python.parent), "/usr/local/bin", "/usr/bin", "/bin")),
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        # Array libraries would otherwise start threads that fight the workers for the cores.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _stamp(requirements: Sequence[str]) -> str:
    """Give the text that changes when the environment must be made anew."""
    lines = [sys.version, *EVERYWHERE, *requirements]
    if str(ROOT) in requirements:
        lines.append((ROOT / "pyproject.toml").read_text())
    return "\n".join(lines)


@contextmanager
def _lock(name: str) -> Iterator[None]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file closes
        yield


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, cwd=ROOT)
    except subprocess.TimeoutExpired:
        raise EnvironmentFailed(f"not installed within {INSTALL_SECONDS} s") from None
    if done.returncode:
        raise EnvironmentFailed((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])
