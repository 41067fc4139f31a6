"""`parsl-perf`: how many tasks a second a configuration runs.

    python -m heald.compat.parsl.perf --config config.py --time 10

The file defines `config`, or a function `fresh_config`, and says `from parsl import …` as for Parsl.
"""

from __future__ import annotations

import argparse
import ast
import runpy
import time
from concurrent.futures import wait
from typing import Any

from heald.compat import install
from heald.compat.parsl.app import python_app
from heald.compat.parsl.config import Config
from heald.compat.parsl.kernel import load

_FIRST = 10  # tasks of the first round
_NEAR = 0.75  # a round that takes this part of the time asked for is the last


@python_app
def app(payload: str, parsl_resource_specification: Any = None) -> int:
    """A task that does nothing."""
    return 7


def configuration(path: str) -> Config:
    """The Config that a file defines. Raises ValueError when there is none."""
    found = runpy.run_path(path)
    if "config" in found:
        return found["config"]  # type: ignore[no-any-return]
    if "fresh_config" in found:
        return found["fresh_config"]()  # type: ignore[no-any-return]
    raise ValueError(f"{path} defines neither config nor fresh_config")


def measure(count: int, payload: str, resources: dict[str, Any]) -> float:
    """Seconds that so many tasks take."""
    begun = time.perf_counter()
    futures = [app(payload, parsl_resource_specification=resources) for _ in range(count)]
    submitted = time.perf_counter() - begun
    wait(futures)
    for future in futures:
        future.result()
    taken = time.perf_counter() - begun
    print(f"{count} tasks in {taken:.3f} s (submitted in {submitted:.3f} s): {count / taken:.0f} tasks/s")
    return taken


def cli_run(words: list[str] | None = None) -> None:
    """Run rounds, each larger than the one before, until one takes about the time asked for."""
    parser = argparse.ArgumentParser(prog="parsl-perf", description=cli_run.__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", help="the file that defines the configuration")
    parser.add_argument("--time", type=float, default=120, metavar="SECONDS", help="what the last round should take")
    parser.add_argument("--argsize", type=int, default=0, metavar="BYTES", help="the size of the argument of each task")
    parser.add_argument("--resources", default="{}", metavar="DICT", help="the parsl_resource_specification")
    given = parser.parse_args(words)
    install("parsl")
    count, taken = _FIRST, 0.0
    with load(configuration(given.config)):
        while taken < _NEAR * given.time:
            taken = measure(count, "x" * given.argsize, ast.literal_eval(given.resources))
            count = max(_FIRST, min(10 * count, int(count * given.time / taken)))


if __name__ == "__main__":
    cli_run()
