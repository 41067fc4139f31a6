"""The verdict: each run at a state that NIST tabulates, and each isotherm as a whole, against what was published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import published
from thermo import Fit, Mean, Point, isotherms

# Four standard errors of our own mean, and what the published values differ by among themselves.
STANDARD_ERRORS = 4
PRESSURE_SPREAD = 0.02
ENERGY_SPREAD = 0.004


@dataclass(frozen=True)
class Check:
    """One number held against the published one."""

    density: float
    temperature: float
    quantity: str
    published: float
    here: Mean
    spread: float

    @property
    def difference(self) -> float:
        """Ours less theirs."""
        return self.here.value - self.published

    @property
    def tolerance(self) -> float:
        """The largest difference that counts as agreement."""
        return STANDARD_ERRORS * self.here.error + self.spread

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance."""
        return abs(self.difference) <= self.tolerance


def compare(points: Sequence[Point]) -> list[Check]:
    """The checks of all points that are at a state, and of a size, that NIST tabulates."""
    tabulated = {(state.density, state.temperature): state for state in published.NIST}
    checks = []
    for point in points:
        state = tabulated.get((point.density, point.temperature))
        if state and point.atoms == published.NIST_ATOMS:
            where = (point.density, point.temperature)
            checks.append(Check(*where, "pressure", state.pressure, point.pressure, PRESSURE_SPREAD))
            checks.append(Check(*where, "energy", state.energy, point.energy, ENERGY_SPREAD))
    return checks


def explain(checks: Sequence[Check], points: Sequence[Point], fits: Sequence[Fit]) -> str:
    """The comparison as text: what is compared with what, by which tolerance, with which verdict."""
    lines = [
        "Against NIST (Standard Reference Database 173, NVT Monte Carlo, mmlapps.nist.gov/srs/LJ_PURE/mc.htm):",
        "500 atoms, potential cut at 3 sigma, analytic tail corrections, both there and here.",
        f"Tolerance: {STANDARD_ERRORS} standard errors of our mean + {PRESSURE_SPREAD} (pressure) "
        f"or {ENERGY_SPREAD} (potential energy of an atom).",
        "",
        "density  T     quantity   published  here          difference  tolerance  verdict",
    ]
    lines += [
        f"{check.density:<8.3f} {check.temperature:<5.2f} {check.quantity:<9}  {check.published:<9.4f}  "
        f"{check.here!s:<12}  {check.difference:<+10.4f}  {check.tolerance:<9.4f}  "
        + ("agrees" if check.agrees else "DIFFERS")
        for check in checks
    ]
    lines += [
        "",
        "Against the equation of state of Kolafa and Nezbeda (Fluid Phase Equilibria 100 (1994) 1) of the full",
        "potential: root mean square difference along each isotherm, and that expected of our standard errors alone.",
        "",
        "T     points  pressure  expected  energy    expected",
    ]
    lines += [_isotherm(level, line) for level, line in isotherms(points).items()]
    lines += ["", "Fits p = rho T (1 + b1 rho + b2 rho^2 + ...), weighted by the standard errors:", ""]
    for fit in fits:
        factors = "  ".join(f"b{k} = {factor:.4f}" for k, factor in enumerate(fit.virial, start=1))
        lines.append(f"T = {fit.temperature:g}: {factors}  (chi^2 per degree of freedom {fit.chi2:.1f})")
    return "\n".join(lines) + "\n"


def _isotherm(level: float, line: Sequence[Point]) -> str:
    pressures = [point.pressure.value - published.pressure(point.density, level) for point in line]
    energies = [point.energy.value - published.energy(point.density, level) for point in line]
    numbers = [
        _rms(pressures),
        _rms([point.pressure.error for point in line]),
        _rms(energies),
        _rms([point.energy.error for point in line]),
    ]
    return f"{level:<5.2f} {len(line):<6}  " + "  ".join(f"{number:<8.4f}" for number in numbers)


def _rms(numbers: Sequence[float]) -> float:
    return float((sum(number**2 for number in numbers) / len(numbers)) ** 0.5)
