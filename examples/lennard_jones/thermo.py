"""From a LAMMPS log to thermodynamics: averages with error bars, where a curve bends, and a smooth fit."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCKS = 20


@dataclass(frozen=True)
class Mean:
    """An average and its standard error.

    >>> print(Mean(0.24056, 0.0027), Mean(-5.4689, 0.00042), Mean(1.5, 0.0))
    0.2406(27) -5.46890(42) 1.5
    """

    value: float
    error: float

    def __str__(self) -> str:
        if not self.error:
            return f"{self.value:g}"
        digits = max(0, 1 - int(f"{self.error:.1e}".partition("e")[2]))  # the error's first two
        return f"{self.value:.{digits}f}({round(self.error * 10**digits)})"


@dataclass(frozen=True)
class Point:
    """What one run measured; `energy` is the potential energy of an atom, `measured` the temperature."""

    temperature: float
    density: float
    atoms: int
    measured: Mean
    pressure: Mean
    energy: Mean


def samples(log: str) -> tuple[int, NDArray[np.float64]]:
    """The number of atoms and the last thermo table of a LAMMPS log: a row a sample, a column a quantity.

    Raises ValueError when the last run did not end.

    >>> atoms, table = samples("Step Temp\\n0 1.5\\n10 1.6\\nLoop time of 1 on 1 procs for 10 steps with 500 atoms")
    >>> atoms, table.tolist()
    (500, [[0.0, 1.5], [10.0, 1.6]])
    """
    atoms = 0
    rows: list[list[float]] | None = None
    for line in log.splitlines():
        words = line.split()
        if words[:1] == ["Step"]:
            table: list[list[float]] = []
            rows = table
        elif words[:2] == ["Loop", "time"]:
            rows, atoms = None, int(words[-2])
        elif rows is not None:
            rows.append([float(word) for word in words])
    if rows is not None or not atoms:
        raise ValueError("the log has no complete run at its end")
    return atoms, np.array(table)


def block_mean(series: NDArray[np.float64], blocks: int = BLOCKS) -> Mean:
    """The mean of a correlated series, its error from the scatter of the means of `blocks` equal stretches.

    >>> block_mean(np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0]), blocks=3)
    Mean(value=2.0, error=0.5773502691896258)
    """
    means = series[len(series) % blocks :].reshape(blocks, -1).mean(axis=1)
    return Mean(float(means.mean()), float(means.std(ddof=1) / np.sqrt(blocks)))


def read_point(log: Path, density: float, temperature: float) -> Point:
    """What a run of `in.lj` measured; the momenta's part of the pressure is exact, the forces' is averaged."""
    atoms, table = samples(log.read_text())
    _, measured, energy, virial = (block_mean(column) for column in table[1:].T)
    pressure = Mean(density * temperature + virial.value, virial.error)
    return Point(temperature, density, atoms, measured, pressure, energy)


def isotherms(points: Iterable[Point]) -> dict[float, list[Point]]:
    """The points by temperature, each list by rising density."""
    ordered = sorted(points, key=lambda point: (point.temperature, point.density))
    return {temperature: list(group) for temperature, group in groupby(ordered, lambda point: point.temperature)}


def sharpest(points: Sequence[Point], count: int) -> list[float]:
    """The middles of the `count` intervals of an isotherm in which the pressure bends most.

    How far a chord is from a curve over an interval of width h is h^2/8 times the second derivative, which is
    estimated at both ends of the interval from the three points around each.
    """
    density = np.array([point.density for point in points])
    pressure = np.array([point.pressure.value for point in points])
    width = np.diff(density)
    second = 2 * np.diff(np.diff(pressure) / width) / (width[1:] + width[:-1])
    ends = np.abs(np.concatenate([second[:1], second, second[-1:]]))
    sag = width**2 / 8 * (ends[1:] + ends[:-1]) / 2
    widest = np.sort(np.argsort(-sag, kind="stable")[:count])
    return [round(float(density[i] + density[i + 1]) / 2, 4) for i in widest]


@dataclass(frozen=True)
class Fit:
    """An isotherm as a virial series: p = rho T (1 + b_1 rho + b_2 rho^2 ...) and u = c_1 rho + c_2 rho^2 ..."""

    temperature: float
    virial: tuple[float, ...]
    energetic: tuple[float, ...]
    chi2: float

    def pressure(self, density: NDArray[np.float64]) -> NDArray[np.float64]:
        """The pressure at these densities."""
        return density * self.temperature * (1 + _series(self.virial, density))

    def energy(self, density: NDArray[np.float64]) -> NDArray[np.float64]:
        """The potential energy of an atom at these densities."""
        return _series(self.energetic, density)


def fit_isotherm(points: Sequence[Point], order: int) -> Fit:
    """The weighted least-squares fit of both series to an isotherm; `chi2` is that of the pressure, for each
    degree of freedom (1 when the series describes the points as well as their error bars allow)."""
    temperature = points[0].temperature
    density = np.array([point.density for point in points])
    powers = density[:, None] ** np.arange(1, order + 1)
    excess = np.array([point.pressure.value for point in points]) / (density * temperature) - 1
    spread = np.array([point.pressure.error for point in points]) / (density * temperature)
    virial = np.linalg.lstsq(powers / spread[:, None], excess / spread, rcond=None)[0]
    level = np.array([point.energy.value for point in points])
    error = np.array([point.energy.error for point in points])
    energetic = np.linalg.lstsq(powers / error[:, None], level / error, rcond=None)[0]
    chi2 = float(np.sum(((excess - powers @ virial) / spread) ** 2)) / max(1, len(points) - order)
    return Fit(temperature, tuple(map(float, virial)), tuple(map(float, energetic)), chi2)


def write_table(points: Iterable[Point], path: Path) -> None:
    """Write the points as CSV: one row a run, each mean followed by its standard error."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        means = ("measured", "pressure", "energy")
        writer.writerow(["temperature", "density", "atoms", *(f"{m}{e}" for m in means for e in ("", "_error"))])
        for point in points:
            fields = asdict(point).values()
            writer.writerow(
                number for field in fields for number in (field.values() if isinstance(field, dict) else [field])
            )


def _series(factors: Sequence[float], density: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(sum(factor * density**k for k, factor in enumerate(factors, start=1)))
