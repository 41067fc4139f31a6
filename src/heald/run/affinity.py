"""What an attempt is told of the cores and devices that are its own."""

from __future__ import annotations

import os

from heald.core.placement import Share
from heald.core.resources import Resources

MPI_PREFIX = "HEALD_MPI_PREFIX"
# What numerical libraries ask for the number of their threads.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# What NVIDIA's, AMD's and Intel's runtimes ask for the devices that they may see.
_DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")


def variables(share: Share, needs: Resources, mpi: str = "") -> dict[str, str]:
    """The variables for an attempt that holds `share`: as many threads as it has cores, and its devices alone.

    What the user has set for threads stays. `mpi`: the words that start MPI programs on all that it holds.
    """
    found = {name: str(needs.cpus) for name in THREADS if name not in os.environ}
    if share.gpus:
        devices = ",".join(dict.fromkeys(device for device, _ in share.gpus))  # ranks may share one
        found.update(dict.fromkeys(_DEVICES, devices))
    if mpi:
        found[MPI_PREFIX] = mpi
    return found
