"""A cable with delay: two TAP devices joined by a process, as this needs no module of the kernel (netem is one).

python wire.py DEVICE DEVICE DELAY_MS JITTER_MS
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_LARGEST_FRAME = 65536


def main() -> None:
    """Carry frames between the two devices until one is deleted."""
    one, other = _tap(sys.argv[1]), _tap(sys.argv[2])
    delay, jitter = (float(word) / 1000 for word in sys.argv[3:5])
    far_end = {one: other, other: one}
    latest = dict.fromkeys(far_end, 0.0)  # jitter does not reorder
    flying: list[tuple[float, int, int, bytes]] = []
    count = 0
    ready = select.poll()
    for device in far_end:
        ready.register(device, select.POLLIN)
    while True:
        for device, event in ready.poll(max(0.0, flying[0][0] - time.monotonic()) * 1000 if flying else None):
            if event & select.POLLERR:
                return
            while (frame := _read(device)) is not None:
                due = time.monotonic() + delay + random.uniform(-jitter, jitter)
                due = latest[device] = max(due, latest[device])
                count += 1
                heapq.heappush(flying, (due, count, far_end[device], frame))
        while flying and flying[0][0] <= time.monotonic():
            _, _, device, frame = heapq.heappop(flying)
            try:
                os.write(device, frame)
            except OSError:  # unplugged: the frame is lost
                pass


def _tap(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return device


def _read(device: int) -> bytes | None:
    try:
        return os.read(device, _LARGEST_FRAME)
    except OSError:  # nothing to read, or unplugged
        return None


if __name__ == "__main__":
    main()
