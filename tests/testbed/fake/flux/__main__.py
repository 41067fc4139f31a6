"""`python -m tests.testbed.fake.flux FOLDER NODE...`: serve a testbed until killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.testbed.fake.flux.command import Commands
from tests.testbed.fake.flux.instance import Flux
from tests.testbed.fake.service import Knobs, serve


async def _main(testbed: Path, nodes: list[str]) -> None:
    flux = Flux(testbed, nodes, Knobs())
    watch = asyncio.create_task(flux.watch())
    await serve(testbed / "flux" / "socket", flux.knobs, Commands(flux).answer, flux.control)
    watch.cancel()


asyncio.run(_main(Path(sys.argv[1]), sys.argv[2:]))
