"""How processes are told which devices of their node are theirs: by variables that the vendors' runtimes read.

It does not know which devices there are: that is `node`'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

# What a vendor's runtime reads. It sees only these devices.
VISIBLE = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "ROCR_VISIBLE_DEVICES", "intel": "ZE_AFFINITY_MASK"}
NAMES = "HEALD_GPUS"  # the names of its devices, whoever made them
# AMD's HIP and OpenCL read these, and count among the devices that ROCR_VISIBLE_DEVICES has left.
_OF_HIP = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")
_PERCENTAGE = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
_PIPES = "/tmp/nvidia-mps"  # where the daemon of NVIDIA's MPS is, unless CUDA_MPS_PIPE_DIRECTORY says otherwise
VARIABLES = tuple(dict.fromkeys((NAMES, *VISIBLE.values(), *_OF_HIP, _PERCENTAGE)))


def visible(names: Sequence[str], vendor: str = "") -> dict[str, str]:
    """The variables with which a process sees these devices of a vendor alone; where that is not known, of any vendor.

    >>> visible(["2", "3"], "nvidia")
    {'HEALD_GPUS': '2,3', 'CUDA_VISIBLE_DEVICES': '2,3'}
    >>> visible(["2", "3"], "amd")["ROCR_VISIBLE_DEVICES"], visible(["2", "3"], "amd")["HIP_VISIBLE_DEVICES"]
    ('2,3', '0,1')
    """
    listed = ",".join(names)
    read = [VISIBLE[vendor]] if vendor else VISIBLE.values()
    places = dict.fromkeys(_OF_HIP, ",".join(map(str, range(len(names))))) if vendor == "amd" else {}
    return {NAMES: listed, **dict.fromkeys(read, listed), **places}


def limited(part: float, vendor: str, variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables with which a process keeps no more than `part` of an NVIDIA device busy, where MPS serves it.

    None where no daemon is, or where somebody has set the limit already.
    """
    control = os.path.join(variables.get("CUDA_MPS_PIPE_DIRECTORY") or _PIPES, "control")
    if not 0 < part < 1 or vendor not in ("nvidia", "") or _PERCENTAGE in variables or not os.path.exists(control):
        return {}
    return {_PERCENTAGE: str(max(1, int(100 * part + 1e-9)))}  # rounded down: together they are no more than all
