"""What a relay starts on the far machine: it listens there, and passes on what comes, unread.

It is sent as a text to whatever Python that machine has, 3.6 or later, and may import nothing else. It ends with the
connection that brought it; when that is cut and nobody says so, because it hears nothing of the head any more.
"""

import asyncio
import errno
import json
import os
import resource
import sys
import time

MARK = "heald-relay "  # begins the line that says where it listens: shells may print others before
_CHUNK = 2**18


def main(interfaces: "dict[str, str]") -> None:
    """Serve until the head is gone. `interfaces` are the addresses of this machine.

    The arguments of the program: the interface to listen on, or its address, empty for all; after how many seconds
    without a word of the head it ends; and PORT:PATH, as often as needed: where to listen, 0 for any port, and the
    socket on which ssh takes what comes there for the head.
    """
    interface, patience, *words = sys.argv[1:]
    pairs = [word.split(":", 1) for word in words]
    if not all(os.path.exists(path) for _, path in pairs):
        sys.exit("its ssh server does not forward sockets (AllowStreamLocalForwarding)")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        place = interfaces.get(interface, interface) or "0.0.0.0"
        bound = [loop.run_until_complete(listen(path, place, int(port), float(patience))) for port, path in pairs]
        print(MARK + json.dumps({"ports": bound, "interfaces": interfaces}), flush=True)
        loop.run_until_complete(end_of_head(float(patience)))
    except OSError as raised:
        there = ", ".join(map(" ".join, interfaces.items()))
        sys.exit(f"it cannot listen at {interface!r}: {raised.strerror}; it has {there}")
    finally:
        for _, path in pairs:
            os.unlink(path)
    os._exit(0)  # what is under way ends, too


async def listen(path: str, place: str, port: int, patience: float) -> int:
    """Pass on what comes to the place; the port there. Where a predecessor still listens, wait for its end."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reader_of_head, writer_to_head = await asyncio.open_unix_connection(path, limit=_CHUNK)
        except OSError:
            writer.close()
            return
        both = copy(reader, writer_to_head), copy(reader_of_head, writer)
        await asyncio.gather(*both)

    deadline = time.monotonic() + 2 * patience
    while True:
        try:
            server = await asyncio.start_server(forward, place, port, backlog=1024, limit=_CHUNK)
            return int(server.sockets[0].getsockname()[1])
        except OSError as raised:
            if not port or raised.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.2)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, as fast as it is taken, until one side ends."""
    try:
        data = await reader.read(_CHUNK)
        while data:
            writer.write(data)
            await writer.drain()
            data = await reader.read(_CHUNK)
    except OSError:  # the line was cut
        pass
    finally:
        writer.close()


async def end_of_head(patience: float) -> None:
    """Wait until the standard input ends, or nothing has come by it for so long."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_event_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while await asyncio.wait_for(reader.read(_CHUNK), patience):
            pass
    except asyncio.TimeoutError:  # noqa: UP041 (another one before Python 3.11)
        pass
