"""What a search strategy asked for, one training after another, and what came of each."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from jaxnas.report.formats import MISSING, number, percent, share
from jaxnas.report.measure import metric_name
from jaxnas.report.model import ReportData
from jaxnas.report.roles import mark
from jaxnas.report.section import Section, figure, fill, wide_or_narrow
from jaxnas.report.svg import Frame, axis, polyline, tag

_MANY = 30
"""A longer table is folded away."""


@dataclass(frozen=True)
class Row:
    """One row of the table; `values` are in the order of the columns behind the architecture's."""

    batch: int
    arch: str
    winner: bool
    failed: bool
    values: tuple[str, ...]


def columns(data: ReportData) -> list[str]:
    """Behind the architecture; epochs where they differ, expectations where there are any."""
    lengths = {d.epochs for d in data.decisions}
    return [
        "place without training",
        *(["epochs"] if len(lengths) > 1 else []),
        *(["expected"] if any(math.isfinite(d.expected) for d in data.decisions) else []),
        "reached",
    ]


def rows(data: ReportData) -> list[Row]:
    """The decisions in order; the winner's is the one that it won by."""
    best, shown = _winner(data), columns(data)
    found = []
    for i, d in enumerate(data.decisions):
        expected = _write(data)(d.expected)
        if math.isfinite(d.deviation):
            expected += f" ± {_write(data)(d.deviation)}"
        values = {
            "place without training": f"{d.place:,}",
            "epochs": str(d.epochs),
            "expected": expected if math.isfinite(d.expected) else MISSING,
            "reached": _write(data)(d.reached) if math.isfinite(d.reached) else MISSING,
        }
        cells = tuple(values[name] for name in shown)
        found.append(Row(d.batch, d.arch, i == best, not math.isfinite(d.reached), cells))
    return found


def _winner(data: ReportData) -> int:
    """Which decision gave the winner: its longest training, of those the best, the first; -1: none."""
    own = [
        (d.epochs, d.reached, -i)
        for i, d in enumerate(data.decisions)
        if d.arch == data.result.get("arch") and math.isfinite(d.reached)
    ]
    return -max(own)[2] if own else -1


def _is_metric(data: ReportData) -> bool:
    """Whether fitness is the metric, a share, and not minus a sum of losses."""
    config = data.result.get("config", {})
    train = config.get("train", {}) if isinstance(config, dict) else {}
    return train.get("measure", "last_seen") == "last_seen"


def _write(data: ReportData) -> Callable[[float], str]:
    return percent if _is_metric(data) else number


def _render(data: ReportData) -> Markup | None:
    if not data.decisions:
        return None
    wide, narrow = _chart(data, width=1080, n=12), _chart(data, width=540, n=6)
    drawn = figure(wide_or_narrow(wide, narrow), legend=_legend(data), caption=_caption(data))
    table = fill("decisions.html", columns=columns(data), rows=rows(data))
    if len(data.decisions) > _MANY:
        summary = tag("summary", f"All {len(data.decisions)} decisions")
        table = tag("details", summary, table)
    return tag("p", _explanation(data), class_="lead") + drawn + table


def _explanation(data: ReportData) -> str:
    batches = len({d.batch for d in data.decisions})
    many = f"{batches} batches" if batches > 1 else "one batch"
    text = f"{len(data.decisions)} trainings were asked for in {many}, each in the light of those before."
    failed = sum(not math.isfinite(d.reached) for d in data.decisions)
    return text + (f" {failed} failed (their loss stopped being a number)." if failed else "")


def _caption(data: ReportData) -> str:
    text = "Bands are batches. The line is the best so far"
    if len({d.epochs for d in data.decisions}) > 1:
        text += " of the longest trainings; marks of shorter ones are hollow"
    inside = _inside(data)
    if any(math.isfinite(d.expected) for d in data.decisions):
        text += f". {inside}" if inside else ""
    return text + "."


def _inside(data: ReportData) -> str:
    """How many reached what was expected of them, give or take a deviation."""
    known = [d for d in data.decisions if math.isfinite(d.reached) and math.isfinite(d.deviation)]
    if not known:
        return ""
    hit = sum(abs(d.reached - d.expected) <= d.deviation for d in known)
    return f"{hit} of {len(known)} lie within one deviation of what was expected"


def _chart(data: ReportData, *, width: int, n: int) -> Markup:
    values = [d.reached for d in data.decisions]
    for d in data.decisions:
        values += [d.expected - d.deviation, d.expected + d.deviation, d.expected]
    label = f"validation {metric_name(data)}" if _is_metric(data) else "fitness"
    write = share if _is_metric(data) else number
    last = len(data.decisions)
    frame = Frame(
        axis("training", [0.5, last + 0.5], write="{:g}".format, integer=True, margin=0, n=n),
        axis(label, values, write=write, margin=0.06),
        width=width,
        left=72,
    )
    parts = [*_bands(data, frame), *_expected(data, frame), _best(data, frame)]
    parts += [_mark(data, frame, i) for i in range(last)]
    return frame.draw(Markup("").join(parts), f"What {last} trainings reached, in their order")


def _bands(data: ReportData, frame: Frame) -> list[Markup]:
    """Every other batch on a shade."""
    parts, start = [], 0
    base = frame.height - frame.bottom
    for batch, members in groupby(data.decisions, key=lambda d: d.batch):
        stop = start + len(list(members))
        x, end = (frame.at(i + 0.5, 0.0)[0] for i in (start, stop))
        if batch % 2 == 0:
            box = f"M{x:.1f} {frame.top}H{end:.1f}V{base}H{x:.1f}Z"
            parts.append(tag("path", tag("title", f"batch {batch}"), d=box, class_="band"))
        start = stop
    return parts


def _expected(data: ReportData, frame: Frame) -> list[Markup]:
    """What was expected, a little to the left of what was reached: a stroke and its deviation."""
    parts = []
    for i, d in enumerate(data.decisions, 1):
        if math.isfinite(d.expected):
            x, y = frame.at(i - 0.25, d.expected)
            spread = d.deviation if math.isfinite(d.deviation) else 0.0
            low, high = (frame.at(i, d.expected + s * spread)[1] for s in (-1, 1))
            path = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {y:.1f}h8"
            parts.append(tag("path", d=path, class_="interval"))
    return parts


def _best(data: ReportData, frame: Frame) -> Markup:
    """The best so far of the longest trainings, as a line of steps."""
    longest = max(d.epochs for d in data.decisions)
    points: list[tuple[float, float]] = []
    best = -math.inf
    for i, d in enumerate(data.decisions, 1):
        if d.epochs == longest and d.reached > best:
            points += [frame.at(float(i), best)] if points else []
            best = d.reached
            points.append(frame.at(float(i), best))
    if points:
        points.append(frame.at(len(data.decisions) + 0.5, best))
    return tag("path", d=polyline(points), class_="curve best")


def _mark(data: ReportData, frame: Frame, i: int) -> Markup:
    """A circle where a training ended, the winner's star, a cross on the ground for one that failed."""
    d, place = data.decisions[i], i + 1
    title = f"{place}, batch {d.batch}: {d.arch}\nplace {d.place:,} without training"
    if math.isfinite(d.expected):
        title += f"; expected {_write(data)(d.expected)} ± {_write(data)(d.deviation)}"
    if not math.isfinite(d.reached):
        x = frame.at(float(place), frame.y.low)[0]
        y = frame.height - frame.bottom - 8
        cross = f"M{x - 5:.1f} {y - 5}l10 10m0 -10l-10 10"
        return tag("path", tag("title", f"{title}; failed"), d=cross, class_="failed")
    title += f"; reached {_write(data)(d.reached)} in {d.epochs} epochs"
    x, y = frame.at(float(place), d.reached)
    if i == _winner(data):
        return mark("winner", x, y, title)
    drawn = mark("candidate", x, y, title)
    short = d.epochs < max(other.epochs for other in data.decisions)
    return tag("g", drawn, class_="shorter") if short else drawn


def _legend(data: ReportData) -> Markup:
    items = [(mark("winner", 14.0, 9.0), "winner"), (mark("candidate", 14.0, 9.0), "reached")]
    if any(math.isfinite(d.expected) for d in data.decisions):
        bar = tag("path", d="M14 1V17M10 9h8", class_="interval")
        items.append((bar, "expected beforehand ± its standard deviation"))
    items.append((tag("path", d="M1 9H27", class_="curve best"), "best so far"))
    if any(not math.isfinite(d.reached) for d in data.decisions):
        items.append((tag("path", d="M9 4l10 10m0 -10l-10 10", class_="failed"), "failed"))
    size = {"viewBox": "0 0 28 18", "width": 28, "height": 18, "aria_hidden": "true"}
    return tag("ul", *(tag("li", tag("svg", s, **size), t) for s, t in items), class_="legend")


SECTION = Section("decisions", "Decisions of the strategy", _render)
