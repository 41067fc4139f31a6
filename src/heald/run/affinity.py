"""What an attempt is told of the cores and devices that are its own."""

from __future__ import annotations

import os

from heald.core.placement import Share
from heald.core.resources import Resources

# What numerical libraries ask for the number of their threads.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# What NVIDIA's, AMD's and Intel's runtimes ask for the devices that they may see.
_DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")


def variables(share: Share, needs: Resources) -> dict[str, str]:
    """The variables for an attempt that holds `share`: as many threads as it has cores, and its devices alone.

    What the user has set for threads stays.
    """
    found = {name: str(needs.cpus) for name in _THREADS if name not in os.environ}
    if share.gpus:
        devices = ",".join(dict.fromkeys(device for device, _ in share.gpus))  # ranks may share one
        found.update(dict.fromkeys(_DEVICES, devices))
    return found
