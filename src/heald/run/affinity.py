"""What an attempt is told of the cores and devices that are its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a worker has no use for the rest of it
    from heald.core.placement import Share
    from heald.core.resources import Resources

MPI_PREFIX = "HEALD_MPI_PREFIX"
ALLOCATION = "HEALD_ALLOCATION"  # on nodes of batch jobs: the id of the allocation, a1, a2, ...
# What numerical libraries ask for the number of their threads.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# What NVIDIA's, AMD's and Intel's runtimes ask for the devices that they may see.
DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")


def names(run: str, task: int, attempt: int) -> dict[str, str]:
    """The variables by which the processes of an attempt are known, wherever they run."""
    return {"HEALD_RUN": run, "HEALD_TASK": str(task), "HEALD_ATTEMPT": str(attempt)}


def variables(share: Share, needs: Resources, mpi: str = "") -> dict[str, str]:
    """The variables for an attempt that holds `share`: as many threads as it has cores, and its devices alone.

    `mpi`: the words that start MPI programs on all that it holds.
    """
    found = dict.fromkeys(THREADS, str(needs.cpus))
    if share.gpus:
        devices = ",".join(dict.fromkeys(device for device, _ in share.gpus))  # ranks may share one
        found.update(dict.fromkeys(DEVICES, devices))
    if mpi:
        found[MPI_PREFIX] = mpi
    return found
