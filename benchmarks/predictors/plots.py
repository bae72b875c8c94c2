"""Kendall's tau and coverage against the number of labels, as SVG."""

import math

import numpy as np
import pandas as pd
from markupsafe import Markup

from jaxnas.benchmarks.evaluation.plots import short
from jaxnas.benchmarks.predictors.cells import LEVELS, RANKING
from jaxnas.benchmarks.predictors.run import Found
from jaxnas.report.svg import Axis, Frame, axis, polyline, tag

COLOURS = ("#2a6db0", "#c8500f", "#3b8f4a", "#7c4a9c", "#b3882a", "#c23b6b", "#2f8f94", "#7a7f86")
DASHES = ("", "7 4")
"""Colours come again with other dashes."""


def kendall(found: Found) -> Markup:
    """Mean Kendall's tau-b with its spread over seeds, a line a predictor."""
    said = f"Kendall's tau-b with {found.manifest['target']}"
    return _lines(found.results, "kendall", said, None)


def coverage(found: Found) -> Markup:
    """The share of the rest within one predicted deviation, beside what a normal one would have."""
    rows = pd.DataFrame(found.results.loc[found.results["predictor"] != RANKING, :])
    return _lines(rows, "within_68", "share within one predicted deviation", LEVELS[0])


def _lines(table: pd.DataFrame, column: str, label: str, level: float | None) -> Markup:
    heights = [*table[column], *([] if level is None else [level])]
    frame = Frame(
        _labels(table["labels"].to_numpy()),
        axis(label, heights, write=short, margin=0.06),
        width=900,
        height=460,
        right=200,
    )
    parts: list[Markup] = []
    if level is not None:
        y = frame.at(frame.x.low, level)[1]
        end = frame.width - frame.right
        parts.append(tag("path", d=f"M{frame.left} {y:.1f}H{end}", class_="ceiling"))
    ends = []
    for i, (name, rows) in enumerate(table.groupby("predictor", sort=False)):
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
        points, marks = _line(frame, rows.sort_values("labels"), column, str(name), colour)
        style = f"stroke: {colour}; stroke-width: 2; stroke-dasharray: {dash or 'none'}"
        parts += [tag("path", d=polyline(points), class_="curve", style=style), *marks]
        ends.append((points[-1][1], str(name), colour))
    return frame.draw(Markup("").join([*parts, *_names(frame, ends)]), f"{label} by labels")


def _line(
    frame: Frame, rows: pd.DataFrame, column: str, name: str, colour: str
) -> tuple[list[tuple[float, float]], list[Markup]]:
    points, marks = [], []
    for row in rows.to_dict("records"):
        x, y = frame.at(math.log10(row["labels"]), float(row[column]))
        points.append((x, y))
        title = tag("title", f"{name}, {row['labels']} labels: {row[column]:.3f}")
        spread = row.get(f"{column}_std", math.nan)
        whisker = Markup("")
        if not math.isnan(spread):
            low, high = (frame.at(0.0, float(row[column] + s * spread))[1] for s in (-1, 1))
            whisker = tag("path", d=f"M{x:.1f} {low:.1f}V{high:.1f}", style=f"stroke: {colour}")
        marks.append(tag("g", title, whisker, tag("circle", cx=x, cy=y, r=3.5, fill=colour)))
    return points, marks


def _names(frame: Frame, ends: list[tuple[float, str, str]]) -> list[Markup]:
    """Each line's name at the right, moved apart where they would overlap."""
    found, last = [], -math.inf
    for y, name, colour in sorted(ends):
        last = max(y + 4, last + 14)
        x = frame.width - frame.right + 8
        found.append(tag("text", name, x=x, y=last, style=f"fill: {colour}; font-weight: 600"))
    return found


def _labels(counts: np.ndarray) -> Axis:
    """A logarithmic axis with a tick at each number of labels."""
    places = np.log10(np.unique(counts))
    margin = 0.05 * max(float(np.ptp(places)), 0.2)
    low, high = float(places.min()) - margin, float(places.max()) + margin
    return Axis("labels", low, high, tuple(map(float, places)), lambda v: f"{round(10**v)}")
