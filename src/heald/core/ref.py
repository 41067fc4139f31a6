"""The name of data anywhere: where it is, how large it is, what it is.

A Ref knows nothing of how to fetch; `data/` does.
"""

from __future__ import annotations

import msgspec


class Ref(msgspec.Struct, frozen=True, array_like=True, weakref=True):
    """Names some bytes: `uri` says where, `size` how many, `digest` which (BLAKE2b, 16 bytes in hex, or empty).

    >>> Ref("file:///scratch/a.npy", 800).size
    800
    """

    uri: str
    size: int = 0
    digest: str = ""
