"""What an attempt is told of the cores and devices that are its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heald.site import device

if TYPE_CHECKING:  # a worker has no use for the rest of it
    from heald.core.placement import Share
    from heald.core.resources import Resources

MPI_PREFIX = "HEALD_MPI_PREFIX"
ALLOCATION = "HEALD_ALLOCATION"  # on nodes of batch jobs: the id of the allocation, a1, a2, ...
# What numerical libraries ask for the number of their threads.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def names(run: str, task: int, attempt: int) -> dict[str, str]:
    """The variables by which the processes of an attempt are known, wherever they run."""
    return {"HEALD_RUN": run, "HEALD_TASK": str(task), "HEALD_ATTEMPT": str(attempt)}


def variables(share: Share, needs: Resources, mpi: str = "", vendor: str = "") -> dict[str, str]:
    """The variables for an attempt that holds `share`: as many threads as it has cores, and its devices alone.

    `mpi`: the words that start MPI programs on all that it holds. `vendor`: of the devices, if that is known.
    """
    found = dict.fromkeys(THREADS, str(needs.cpus))
    if share.gpus:
        devices = list(dict.fromkeys(name for name, _ in share.gpus))  # ranks may share one
        found.update(device.visible(devices, vendor), **device.limited(needs.gpus, vendor))
    if mpi:
        found[MPI_PREFIX] = mpi
    return found
