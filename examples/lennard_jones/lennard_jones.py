"""A phase sweep of the Lennard-Jones fluid, from LAMMPS runs to a figure that is held against published values.

    pip install 'heald[demo]'
    python examples/lennard_jones/lennard_jones.py

On a cluster, with Slurm, PBS or another scheduler (docs/howto/cluster.md), the larger runs over two nodes each:

    heald run --site mycluster --nodes 2 --walltime 30m examples/lennard_jones/lennard_jones.py --spread 2

Each state (density, temperature) is one LAMMPS run in its own directory, the larger ones by MPI on two cores; each
log is reduced to averages with error bars; where the pressure curve bends most, runs are added; all is then fitted,
drawn and compared. It takes about two minutes on two cores. Kill it at any time and start it again: it goes on
from where it was. Start it when it has ended: it has nothing left to do.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import published
from comparison import Check, compare, explain
from figure import draw
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from thermo import Point, fit_isotherm, isotherms, read_point, sharpest, write_table

import heald

DECK = Path(__file__).with_name("in.lj")
TEMPERATURES = [1.5, 2.0]  # both above the critical one, 1.31
DENSITIES = [round(0.06 * n, 2) for n in range(1, 16)]
LARGE = 0.82  # above this density, 864 atoms on two MPI ranks in place of 500 on one


@dataclass(frozen=True)
class Sweep:
    """How thoroughly to sweep, and where the results go."""

    out: Path
    spread: int  # nodes of each of the larger runs
    densities: tuple[float, ...]
    references: tuple[published.Reference, ...]
    steps: int
    refinements: int  # runs to add for each isotherm
    order: int  # of the fitted virial series


@heald.command
def simulate(
    deck: heald.File, density: float, temperature: float, cells: int, steps: int, outputs: Sequence[heald.File] = ()
) -> list[object]:
    """One LAMMPS run; LAMMPS writes `log.lammps` where it runs."""
    variables = {"density": density, "temperature": temperature, "cells": cells, "steps": steps}
    return ["lmp", "-in", deck, *(word for name, value in variables.items() for word in ("-var", name, value))]


@heald.task(memo=True)
def measure(log: heald.File, density: float, temperature: float) -> Point:
    """The averages of one run."""
    return read_point(Path(log), density, temperature)


@heald.join
def refine(points: list[Point], sweep: Sweep) -> list[heald.Future[Point]]:
    """More runs where the isotherms bend: a workflow that grows as its results come in."""
    return [
        run(density, temperature, sweep)
        for temperature, line in isotherms(points).items()
        for density in sharpest(line, sweep.refinements)
    ]


@heald.task(memo=True)
def report(points: list[Point], refined: list[Point], sweep: Sweep, outputs: Sequence[heald.File] = ()) -> list[Check]:
    """Fit the isotherms; write the table, the figure and the comparison."""
    everything = sorted(points + refined, key=lambda point: (point.temperature, point.density))
    fits = [fit_isotherm(line, sweep.order) for level, line in isotherms(everything).items() if level in TEMPERATURES]
    checks = compare(points)
    table, figure, comparison = (Path(file) for file in outputs)
    write_table(everything, table)
    draw(everything, refined, fits, figure)
    comparison.write_text(explain(checks, everything, fits))
    return checks


def run(density: float, temperature: float, sweep: Sweep, large: float = LARGE) -> heald.Future[Point]:
    """One state: its run, and the measurement that waits for the run's log."""
    name = f"T{temperature:.2f}-rho{density:.3f}"
    place = sweep.out / "runs" / name
    ranks, cells = (2, 6) if density > large else (1, 5)
    log = heald.File(place / "log.lammps")
    nodes = min(ranks, sweep.spread)
    options = simulate.options(ranks=ranks, nodes=nodes, directory=place, memo=True, walltime="5m", name=name)
    simulation = options.submit(heald.File(DECK), density, temperature, cells, sweep.steps, outputs=[log])
    return measure.options(name=f"measure-{name}").submit(simulation.outputs[0], density, temperature)


def workflow(sweep: Sweep) -> tuple[list[Point], list[Check]]:
    """The whole graph: submit what is known now, then wait for the end of it."""
    known = [run(density, temperature, sweep) for temperature in TEMPERATURES for density in sweep.densities]
    at_nist = [run(state.density, state.temperature, sweep, large=1.0) for state in sweep.references]
    added = refine.submit(known, sweep)
    files = [heald.File(sweep.out / name) for name in ("table.csv", "isotherms.png", "comparison.txt")]
    checks = report.submit(known + at_nist, added, sweep, outputs=files)
    return [future.result() for future in known + at_nist] + added.result(), checks.result()


def show(points: Sequence[Point], checks: Sequence[Check], console: Console) -> None:
    """The results on the terminal."""
    columns = ("T", "density", "atoms", "pressure", "K.-N.", "energy", "K.-N.", "measured T")
    table = Table(*columns, title="The runs (K.-N.: Kolafa and Nezbeda 1994)", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for level, line in isotherms(points).items():
        for point in line:
            known = published.pressure(point.density, level), published.energy(point.density, level)
            ours = f"{point.pressure}", f"{known[0]:.3f}", f"{point.energy}", f"{known[1]:.3f}", f"{point.measured}"
            table.add_row(f"{level:g}", f"{point.density:g}", f"{point.atoms}", *ours)
        table.add_section()
    console.print(table)
    columns = ("T", "density", "quantity", "here", "NIST", "difference", "allowed", "verdict")
    table = Table(*columns, title="Against NIST", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for check in checks:
        numbers = f"{check.here}", f"{check.published:g}", f"{check.difference:+.4f}", f"{check.tolerance:.4f}"
        verdict = "agrees" if check.agrees else "DIFFERS"
        table.add_row(f"{check.temperature:g}", f"{check.density:g}", check.quantity, *numbers, verdict)
    console.print(table)


def arguments() -> Namespace:
    """What the command line asks for."""
    parser = ArgumentParser(description="Sweeps the phases of the Lennard-Jones fluid.")
    parser.add_argument("--out", type=Path, help="where the results go (results/lennard_jones)")
    parser.add_argument("--workers", type=int, help="cores of this machine to use, whatever `heald run` says")
    parser.add_argument("--spread", type=int, default=1, choices=[1, 2], help="nodes for each of the larger runs (1)")
    parser.add_argument("--quick", action="store_true", help="a few short runs, about 15 seconds")
    return parser.parse_args()


def main() -> int:
    """Run the sweep; 1 when a value disagrees with NIST's."""
    asked = arguments()
    # pip puts lmp and mpiexec beside python, which is not on the path unless its environment is active.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    out = asked.out or Path("results/lennard_jones_quick" if asked.quick else "results/lennard_jones")
    place, spread = out.resolve(), asked.spread
    if asked.quick:
        sweep = Sweep(place, spread, tuple(DENSITIES[1::4]), tuple(published.NIST[:1]), 3000, refinements=1, order=3)
    else:
        sweep = Sweep(place, spread, tuple(DENSITIES), tuple(published.NIST), 15000, refinements=3, order=6)
    sweep.out.mkdir(parents=True, exist_ok=True)
    executors = [heald.ProcessExecutor(asked.workers)] if asked.workers else None
    with heald.Session(executors, journal=sweep.out / "run.heald", progress=True):
        points, checks = workflow(sweep)
    show(points, checks, Console())
    print(f"\n{len(points)} runs; see {out}/isotherms.png, table.csv and comparison.txt")
    return 0 if checks and all(check.agrees for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
