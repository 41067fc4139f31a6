"""`python -m tests.testbed.fake.pbs FOLDER NODE...`: serve a testbed until killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.testbed.fake.pbs.command import Commands
from tests.testbed.fake.pbs.server import Server
from tests.testbed.fake.service import Knobs, serve


async def _main(testbed: Path, nodes: list[str]) -> None:
    server = Server(testbed, nodes, Knobs())
    await serve(testbed / "pbs" / "socket", server.knobs, Commands(server).answer, server.control)


asyncio.run(_main(Path(sys.argv[1]), sys.argv[2:]))
