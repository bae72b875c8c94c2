"""Regret curves with their bands, as SVG."""

import math

import numpy as np
import pandas as pd
from markupsafe import Markup

from jaxnas.report.svg import Axis, Frame, axis, polyline, tag

COLOURS = ("#2a6db0", "#c8500f", "#3b8f4a", "#7c4a9c", "#b3882a", "#c23b6b", "#2f8f94", "#7a7f86")
DASHES = ("", "7 4", "2 3")
"""Colours come again with other dashes."""
FLOOR = 0.01
"""Regrets below that are drawn there: the axis is logarithmic."""


def regret(table: pd.DataFrame, unit: str, column: str, best: float, label: str) -> Markup:
    """Mean regret of `column` and its quartiles against queries or seconds, a line a strategy."""
    names = list(dict.fromkeys(table["strategy"]))
    curves = {}
    for name in names:
        of = pd.DataFrame(table.loc[table["strategy"] == name, :])
        rows = of.dropna(subset=[f"{column}_mean"])
        if len(rows):
            curves[name] = rows
    heights = [
        _log(best - rows[f"{column}_{k}"]) for rows in curves.values() for k in ("mean", "low")
    ]
    every = np.concatenate([rows[unit].to_numpy(float) for rows in curves.values()])
    y_axis = _powers(f"regret of {label}", np.concatenate(heights))
    x_axis = (
        _powers("seconds", np.log10(every), seconds=True)
        if unit == "seconds"
        else axis(unit, every.tolist(), write="{:g}".format, integer=True, margin=0.0)
    )
    frame = Frame(x_axis, y_axis, width=900, height=460, right=190)
    ends, bands, lines = [], [], []
    for i, name in enumerate(names):
        if name not in curves:
            continue
        rows = curves[name]
        x = rows[unit].to_numpy(float)
        x = np.log10(x) if unit == "seconds" else x
        mean, low, high = (
            np.maximum(_log(best - rows[f"{column}_{k}"]), y_axis.low)
            for k in ("mean", "high", "low")
        )
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
        outline = [frame.at(a, b) for a, b in zip(x, high, strict=True)]
        outline += [frame.at(a, b) for a, b in zip(x[::-1], low[::-1], strict=True)]
        shape = polyline([(float(a), float(b)) for a, b in outline]) + "Z"
        bands.append(tag("path", d=shape, style=f"fill: {colour}; fill-opacity: .1; stroke: none"))
        points = [frame.at(float(a), float(b)) for a, b in zip(x, mean, strict=True)]
        style = f"stroke: {colour}; stroke-width: 2" + (
            f"; stroke-dasharray: {dash}" if dash else ""
        )
        final = float(rows[f"{column}_mean"].iloc[-1])
        title = tag("title", f"{name}: {final:.3f} at the end")
        lines.append(tag("g", title, tag("path", d=polyline(points), class_="curve", style=style)))
        ends.append((points[-1], name, colour))
    parts = [*bands, *lines, *_names(frame, ends)]
    return frame.draw(Markup("").join(parts), f"Regret of {label} against {unit}")


def _names(frame: Frame, ends: list[tuple[tuple[float, float], str, str]]) -> list[Markup]:
    """Each line's name at the right, moved apart where they would overlap."""
    found, last = [], -math.inf
    for (_, y), name, colour in sorted(ends, key=lambda end: end[0][1]):
        height = max(y + 4, last + 14)
        last = height
        x = frame.width - frame.right + 8
        found.append(tag("text", name, x=x, y=height, style=f"fill: {colour}; font-weight: 600"))
    return found


def _log(regrets: pd.Series) -> np.ndarray:
    return np.log10(np.maximum(regrets.to_numpy(float), FLOOR))


def _powers(label: str, exponents: np.ndarray, *, seconds: bool = False) -> Axis:
    """A logarithmic axis: its values are powers of ten."""
    low, high = float(exponents.min()) - 0.05, float(exponents.max()) + 0.05
    steps = (0.0,) if high - low > 3 else (0.0, math.log10(2), math.log10(5))
    whole = range(math.floor(low), math.ceil(high) + 1)
    ticks = tuple(p + s for p in whole for s in steps if low <= p + s <= high)
    write = (lambda e: f"{10**e:,.0f}") if seconds else (lambda e: f"{10**e:.2g}")
    return Axis(label, low, high, ticks, write)
