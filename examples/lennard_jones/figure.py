"""The figure: pressure, energy and temperature against density, and how far the pressure is from a published one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import published
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from thermo import Fit, Mean, Point, isotherms

COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]  # told apart by the colour-blind too (Okabe and Ito)
STYLE: Any = {
    "font.size": 9,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "mathtext.fontset": "dejavusans",
}


def draw(points: Sequence[Point], refined: Sequence[Point], fits: Sequence[Fit], path: Path) -> None:
    """Draw the isotherms to `path`; the `refined` points, which the workflow added, are hollow."""
    with rc_context(STYLE):
        figure = Figure(figsize=(7.6, 6.2), dpi=200, layout="constrained")
        (pressure, energy), (temperature, difference) = figure.subplots(2, 2, sharex=True)
        curves = {fit.temperature: fit for fit in fits}
        levels = isotherms(points)
        for place, (colour, (level, line)) in enumerate(zip(COLOURS, levels.items(), strict=False)):
            density = np.linspace(line[0].density, line[-1].density, 200)
            if level in curves:
                start = np.linspace(0, line[-1].density, 200)
                pressure.plot(start, curves[level].pressure(start), color=colour, lw=1)
                energy.plot(start, curves[level].energy(start), color=colour, lw=1)
            for axes, reference in ((pressure, published.pressure), (energy, published.energy)):
                axes.plot(density, [reference(x, level) for x in density], color="black", lw=0.9, ls=(0, (4, 3)))
            for point in line:
                look: dict[str, Any] = {"color": colour, "mfc": "white" if point in refined else colour}
                _mark(pressure, point.density, point.pressure, **look)
                _mark(energy, point.density, point.energy, **look)
                aside = point.density + 0.006 * (place - 1)  # so that the bars of two isotherms do not overlap
                drift = Mean(100 * (point.measured.value / level - 1), 100 * point.measured.error / level)
                _mark(temperature, aside, drift, **look)
                offset = point.pressure.value - published.pressure(point.density, level)
                _mark(difference, aside, Mean(offset, point.pressure.error), **look)
        _mark_nist(pressure, energy, difference)
        _label(pressure, energy, temperature, difference)
        _explain(figure, list(levels), bool(refined))
        figure.savefig(path)


def _mark(axes: Axes, density: float, mean: Mean, **look: Any) -> None:
    axes.errorbar(density, mean.value, mean.error, fmt="o", ms=4, lw=0.8, capsize=1.5, zorder=3, **look)


def _mark_nist(pressure: Axes, energy: Axes, difference: Axes) -> None:
    style: dict[str, Any] = {"marker": "s", "s": 42, "facecolors": "none", "edgecolors": "black", "linewidths": 0.9}
    for state in published.NIST:
        offset = state.pressure - published.pressure(state.density, state.temperature)
        pressure.scatter(state.density, state.pressure, **style, zorder=4)
        energy.scatter(state.density, state.energy, **style, zorder=4)
        difference.scatter(state.density, offset, **style, zorder=4)


def _label(pressure: Axes, energy: Axes, temperature: Axes, difference: Axes) -> None:
    pressure.set_ylabel(r"pressure  $p\,\sigma^3/\varepsilon$")
    energy.set_ylabel(r"potential energy  $u/\varepsilon$")
    temperature.set_ylabel(r"measured temperature $-\,T$  (% of $T$)")
    difference.set_ylabel(r"$(p - p_{\mathrm{KN}})\,\sigma^3/\varepsilon$")
    temperature.axhline(0, color="black", lw=0.6)
    difference.axhline(0, color="black", lw=0.9, ls=(0, (4, 3)))
    for letter, axes in zip("abcd", (pressure, energy, temperature, difference), strict=True):
        axes.text(0.02, 1.0, f"({letter})", transform=axes.transAxes, va="top", weight="bold")
        axes.set_xlim(0, None)
    for axes in (temperature, difference):
        axes.set_xlabel(r"density  $\rho\,\sigma^3$")


def _explain(figure: Figure, levels: Sequence[float], refined: bool) -> None:
    """One legend for the four panels, above them."""
    handles = [
        Line2D([], [], color=colour, marker="o", ms=4, lw=1, label=rf"$T = {level:g}$")
        for colour, level in zip(COLOURS, levels, strict=False)
    ]
    handles.append(Line2D([], [], color="black", lw=0.9, ls=(0, (4, 3)), label="Kolafa & Nezbeda 1994"))
    handles.append(Line2D([], [], color="black", marker="s", ms=6, mfc="none", lw=0, label="NIST SRD 173"))
    if refined:
        handles.append(Line2D([], [], color="gray", marker="o", ms=4, mfc="white", lw=0, label="refined"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handletextpad=0.5, columnspacing=1.4)
