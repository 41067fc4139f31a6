"""`heald compat parsl-perf`: how many tasks a second a configuration of Parsl runs here.

Its options, and the lines that scripts read (`Tasks per second: …`), are those of Parsl's own program.
"""

from __future__ import annotations

import ast
import runpy
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heald import UsageError

if TYPE_CHECKING:
    from heald.compat.parsl.config import Config

_FIRST = 10  # tasks of the first round
_LEAST = 2  # rounds
_NEAR = 0.75  # a round that takes this part of the time asked for is the last


def perf(
    config: Annotated[Path, typer.Option(metavar="FILE", help="Defines `config`, or a function `fresh_config`.")],
    seconds: Annotated[float, typer.Option("--time", metavar="SECONDS", help="What the last round should take.")] = 120,
    size: Annotated[int, typer.Option("--argsize", metavar="BYTES", help="An argument of that size for each.")] = 0,
    resources: Annotated[str, typer.Option(metavar="DICT", help="Their parsl_resource_specification.")] = "{}",
    iterate: Annotated[
        str, typer.Option(metavar="MODE", help="How rounds grow: estimate, exponential, or their sizes: 100,1000.")
    ] = "estimate",
) -> None:
    """Measure how many empty tasks a second a configuration of Parsl runs, in rounds that grow.

    The file says `from parsl import …` as for Parsl.

    \b
    heald compat parsl-perf --config config.py --time 10
    heald compat parsl-perf --config config.py --iterate 100,1000,10000
    """
    from heald.compat import install
    from heald.compat.parsl.kernel import load

    install("parsl")
    with load(configuration(config)):
        done, count = 0, following(iterate, seconds)
        while count:
            taken = measure(count, "x" * size, ast.literal_eval(resources))
            typer.echo(f"Tasks per second: {count / taken:.3f}")
            done += 1
            count = following(iterate, seconds, done, count, taken)


def configuration(file: Path) -> Config:
    """The Config that a file defines. Raises UsageError when there is none."""
    if not file.exists():
        raise UsageError(f"there is no file {file}", hint="--config names the file that defines the configuration")
    found = runpy.run_path(str(file))
    if "config" in found:
        return found["config"]  # type: ignore[no-any-return]
    if "fresh_config" in found:
        return found["fresh_config"]()  # type: ignore[no-any-return]
    raise UsageError(f"{file} defines neither config nor fresh_config", hint="write config = Config(executors=[…])")


def following(mode: str, seconds: float, done: int = 0, count: int = 0, taken: float = 0.0) -> int:
    """How many tasks the next round has, after `done` rounds, the last of `count` tasks in `taken` seconds; 0: no more.

    >>> following("estimate", 10), following("estimate", 10, 1, 10, 0.1), following("estimate", 10, 2, 1000, 9.0)
    (10, 1000, 0)
    >>> [following("50,100", 10, done) for done in range(3)]
    [50, 100, 0]

    Raises UsageError for a mode that is none.
    """
    if mode not in ("estimate", "exponential"):
        try:
            sizes = [int(word) for word in mode.split(",")]
        except ValueError:
            raise UsageError(
                f"--iterate {mode!r} is not understood", hint="write estimate, exponential, or sizes: 100,1000"
            ) from None
        return sizes[done] if done < len(sizes) else 0
    if not done:
        return _FIRST
    estimating = mode == "estimate"
    if done >= _LEAST and taken >= seconds * (_NEAR if estimating else 1):
        return 0
    return max(1, int(count * seconds / taken)) if estimating else 2 * count


def measure(count: int, payload: str, resources: dict[str, Any]) -> float:
    """Seconds that so many tasks take."""
    from concurrent.futures import wait

    from heald.compat.parsl.app import python_app

    @python_app  # in here, so that it travels by itself: workers need not load this module
    def app(payload: str, parsl_resource_specification: Any = None) -> int:
        return 7

    begun = time.perf_counter()
    futures = [app(payload, parsl_resource_specification=resources) for _ in range(count)]
    submitted = time.perf_counter() - begun
    wait(futures)
    for future in futures:
        future.result()
    taken = time.perf_counter() - begun
    typer.echo(f"{count} tasks in {taken:.3f} s, submitted in {submitted:.3f} s")
    return taken
