"""Files before and after a task: inputs are brought to where it runs, outputs are checked and sent on.

A far input is brought once per machine, into a folder that its workers share, however many of them want it at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from threading import Thread
from typing import TypeVar

from heald.core.errors import OutputMissing, StagingError
from heald.data import checksum, transfer
from heald.data.file import File, staged

S = TypeVar("S")
T = TypeVar("T")

PATIENCE = 3600.0  # seconds to wait for another worker that brings the same file
_AT_ONCE = 8  # files of one task on their way at the same time
_SHOWN = 20  # names in a message


def stage_in(
    files: Sequence[File],
    directory: Path,
    cache: Path,
    *,
    timeout: float = transfer.TIMEOUT,
    patience: float = PATIENCE,
) -> None:
    """Gives every far file a local path in `directory`, and makes sure that the local ones are there.

    `cache` is shared by the workers of a machine and never looks again for a change at the far side: take one for each
    run. What is in `directory` is linked to it, hence read-only. Files of equal names get folders of their own.
    Raises StagingError.
    """
    far: dict[File, list[File]] = {}
    for file in files:
        if file.local:
            _check_local(file)
        else:
            far.setdefault(file, []).append(file)

    def bring(file: File) -> Path:
        return transfer.explained("bring", file.url, lambda: _brought(file, cache, timeout, patience))

    for (file, same), kept in zip(far.items(), _together(bring, far), strict=True):
        path = transfer.explained("bring", file.url, partial(_linked, kept, directory, file.name))
        for each in same:
            staged(each, path)


def prepare_outputs(outputs: Sequence[File], directory: Path) -> None:
    """Makes the folders of local outputs, and gives far ones a local path in `directory` to be written to."""
    chosen: dict[File, Path] = {}
    for file in outputs:
        if file not in chosen:
            taken = set(chosen.values())
            free = (path for path in _places(directory, file.name) if path not in taken and not path.exists())
            chosen[file] = file.path if file.local else next(free)
            make = partial(chosen[file].parent.mkdir, parents=True, exist_ok=True)
            transfer.explained("write", file.url, make)
        staged(file, chosen[file])


def stage_out(outputs: Sequence[File], *, timeout: float = transfer.TIMEOUT) -> None:
    """Checks that every output was written, then sends the far ones to where they belong.

    Nothing is sent when anything is missing. Raises OutputMissing and StagingError.
    """
    missing = [file for file in outputs if not file.path.exists()]
    if missing:
        raise _missing(missing, len(outputs))
    far = dict.fromkeys(file for file in outputs if not file.local)
    _together(lambda file: transfer.deliver(file.path, file.url, timeout=timeout), far)


def _check_local(file: File) -> None:
    if not file.path.exists():
        raise StagingError(
            f"{file} does not exist",
            hint=f"on {os.uname().nodename}; a relative path means the folder where the File was made",
        )
    transfer.explained("read", file.url, lambda: checksum.verify(file, file.digest, str(file)))


def _brought(file: File, cache: Path, timeout: float, patience: float) -> Path:
    """The machine's one copy of a far file, brought now if need be."""
    # By content where it is known: then equal files of different URLs are one.
    name = hashlib.blake2b((file.digest or file.url).encode(), digest_size=16).hexdigest()
    kept = cache / name / "content"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f"{name}.lock", patience):
            if not kept.exists():
                shutil.rmtree(kept.parent, ignore_errors=True)  # what a killed worker left
                transfer.fetch(file.url, kept, digest=file.digest, timeout=timeout)
                kept.chmod(0o444)  # one task must not change what the others read
    return kept


@contextmanager
def _locked(path: Path, patience: float) -> Iterator[None]:
    """Holds a lock that ends with its process, however that ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    held: Future[None] = Future()

    def take() -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            held.set_result(None)
        except OSError as error:
            held.set_exception(error)

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.set_result(None)
    except BlockingIOError:
        Thread(target=take, name="heald-lock", daemon=True).start()
    try:
        if not wait((held,), patience).done:
            raise StagingError(
                f"another worker has been bringing the same file for {patience:g} s",
                hint=f"it holds the lock {path}; if it hangs, end it and this is tried again",
            )
        held.result()
        yield
    finally:
        # Closing unlocks; a thread that still waits for the lock keeps the descriptor until it has it.
        held.add_done_callback(lambda _: os.close(descriptor))


def _linked(kept: Path, directory: Path, name: str) -> Path:
    """Puts a kept file into a task's folder, where nothing is overwritten."""
    for path in _places(directory, name):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(kept, path)
            return path
        except FileExistsError:
            if path.exists() and path.samefile(kept):
                return path
        except OSError:  # the folder is on another filesystem, or on one without links
            with suppress(FileExistsError):
                return _copied(kept, path)
    raise AssertionError("places do not end")


def _places(directory: Path, name: str) -> Iterator[Path]:
    """Where a file of this name can go: the folder itself, or when that is taken a numbered one in it."""
    yield directory / name
    for number in count(1):
        yield directory / f"staged-{number}" / name


def _copied(kept: Path, path: Path) -> Path:
    with kept.open("rb") as source, path.open("xb") as target:
        try:
            shutil.copyfileobj(source, target, 1 << 20)
        except BaseException:
            path.unlink()
            raise
    return path


def _missing(missing: Sequence[File], promised: int) -> OutputMissing:
    lines = [f"{len(missing)} of {promised} outputs were not written: {', '.join(map(str, missing))}"]
    for folder in dict.fromkeys(file.path.parent for file in missing):
        found = sorted(os.listdir(folder)) if folder.is_dir() else []
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        lines.append(f"  {folder} has {', '.join(found[:_SHOWN]) + more if found else 'nothing'}")
    return OutputMissing(
        "\n".join(lines),
        hint="write to the paths in `outputs`; a relative path in a command means the folder where it runs, "
        "one in a File the folder where the File was made",
    )


def _together(work: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """What `work` gives for each item, in order, some of them at the same time."""
    work_items = list(items)
    if len(work_items) < 2:
        return [work(item) for item in work_items]
    with ThreadPoolExecutor(min(len(work_items), _AT_ONCE), "heald-staging") as pool:
        return list(pool.map(work, work_items))
