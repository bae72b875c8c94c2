"""The drawings: scores against accuracy, correlations with each other, correlation against cost."""

import math

import numpy as np
from markupsafe import Markup

from jaxnas.benchmarks.evaluation.findings import Evaluation
from jaxnas.benchmarks.evaluation.population import Target
from jaxnas.report.formats import number
from jaxnas.report.scatter import density, dots
from jaxnas.report.svg import Axis, Frame, axis, tag
from jaxnas.report.write import style
from jaxnas.scoring.combine import ranks

MANY = 2000
"""From so many points on, they are counted in squares."""
SHOWN = 6
"""Times as far below the best as the median is: what is worse is drawn at the bottom, or nothing could be
told apart at the top."""
CELL, SMALL_CELL = 44, 33
"""Sides of the heat map's squares; the smaller ones, with two digits, from `CROWDED` names on."""
CROWDED = 16


def scatter(found: Evaluation, target: Target, name: str) -> Markup:
    """The rank of a name's score (of the first seed and dtype) against the target."""
    there = ~np.isnan(target.values)
    scores, values = next(iter(found.scores[name].values()))[there], target.values[there]
    floor = lowest(values)
    y_axis = axis(_label(target), [floor, values.max()], write=number, margin=0.05)
    worst = len(scores) + 1 - ranks(scores)  # 1 is the best
    x_axis = axis(f"rank by {name}, best to the right", worst.tolist(), write=number, n=5)
    # Mirrored, so that a good proxy rises.
    mirrored = Axis(x_axis.label, x_axis.high, x_axis.low, x_axis.ticks, x_axis.write)
    frame = Frame(mirrored, y_axis, height=330)
    shown = np.maximum(values, floor)
    body = (density if len(values) > MANY else dots)(frame, worst, shown)
    return frame.draw(body, f"{target.name} against the rank by {name}, {len(values):,} points")


def lowest(values: np.ndarray) -> float:
    """Where a drawing's axis of accuracies ends."""
    best = float(values.max())
    return max(float(values.min()), best - SHOWN * (best - float(np.median(values))))


def matrix(found: Evaluation) -> Markup:
    """Spearman's rho of names and targets with each other, as a heat map."""
    table = found.between
    names = [str(n) for n in table.index]
    wanted = {target.name for target in found.targets}
    side, digits = (CELL, 3) if len(names) < CROWDED else (SMALL_CELL, 2)
    left = 16 + 7.4 * max(map(len, names))
    top = 12 + 5.6 * max(map(len, names))
    parts = []
    for i, name in enumerate(names):
        role = "target" if name in wanted else ""
        x, y = left + side * (i + 0.5), top + side * (i + 0.5)
        parts.append(tag("text", name, x=left - 10, y=y + 4, class_=f"row {role}".strip()))
        turn = f"translate({x + 4:.1f} {top - 10:.1f}) rotate(-45)"
        parts.append(tag("text", name, transform=turn, class_=role))
        parts += [
            _square(left + side * j, top + side * i, side, digits, name, other, table.iloc[i, j])
            for j, other in enumerate(names)
        ]
    width = left + side * len(names) + 5.6 * len(names[-1]) + 8
    height = top + side * len(names) + 4
    return tag(
        "svg",
        *parts,
        class_="matrix",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=round(width),
        height=round(height),
        role="img",
        aria_label="Spearman's correlation of proxies with each other and with the targets",
    )


def _square(x: float, y: float, side: int, digits: int, one: str, other: str, rho: float) -> Markup:
    colour = "var(--candidate)" if rho >= 0 else "var(--winner)"
    share = 0.0 if math.isnan(rho) else 45 * abs(rho)
    fill = f"fill: color-mix(in srgb, {colour} {share:.0f}%, var(--card))"
    return tag(
        "g",
        tag("title", f"{one} with {other}: {rho:.4f}"),
        tag("rect", x=x, y=y, width=side, height=side, rx=3, style=fill),
        tag("text", short(rho, digits), x=x + side / 2, y=y + side / 2 + 4, class_="value"),
    )


def cost(found: Evaluation, target: Target, *, width: int = 1080) -> Markup | None:
    """Spearman's rho with its interval against the seconds of one architecture, on a log axis.

    None where nothing was timed.
    """
    first = found.manifest["dtypes"][0]
    rows = found.rows_of(target)
    rows = rows[rows["dtype"] == first].dropna(subset=["spearman", "seconds_per_arch"])
    if not len(rows):
        return None
    x = np.log10(rows["seconds_per_arch"].to_numpy())
    low, high = (rows[f"spearman_{end}"].fillna(rows["spearman"]) for end in ("low", "high"))
    ceiling = _ceiling(found, target)
    heights = [*low, *high, *([ceiling] if ceiling is not None else [])]
    frame = Frame(
        _powers("seconds for one architecture, alone", x),
        axis(f"Spearman with {target.name}", heights, write=short, margin=0.08),
        width=width,
        height=440,
    )
    parts = [] if ceiling is None else [_ceiling_line(frame, ceiling)]
    marks = [frame.at(float(a), float(b)) for a, b in zip(x, rows["spearman"], strict=True)]
    taken = [(px - 7, px + 7, py + 4) for px, py in marks]
    for i in range(len(rows)):  # best first
        name, rho = str(rows["name"].iloc[i]), float(rows["spearman"].iloc[i])
        px, py = marks[i]
        ends = [frame.at(float(x[i]), float(e.iloc[i]))[1] for e in (low, high)]
        title = f"{name}: {rho:.3f}, {rows['seconds_per_arch'].iloc[i]:.2g} s"
        parts.append(tag("path", d=f"M{px:.1f} {ends[0]:.1f}V{ends[1]:.1f}", class_="interval"))
        parts.append(_labelled(px, py, name, title, taken, frame))
    return frame.draw(Markup("").join(parts), f"Spearman with {target.name} against cost")


def _labelled(
    x: float,
    y: float,
    name: str,
    title: str,
    taken: list[tuple[float, float, float]],
    frame: Frame,
) -> Markup:
    """A mark with its name beside it, moved down past names and marks that are there already."""
    width = 7.2 * len(name)
    left = x + 11 if x + 11 + width < frame.width else x - 11 - width
    height = y + 4
    while any(left < b and a < left + width and abs(height - h) < 15 for a, b, h in taken):
        height += 3
    taken.append((left, left + width, height))
    leader = Markup("")
    if height - y > 8:
        near = left - 2 if left > x else left + width + 2
        leader = tag("path", d=f"M{x:.1f} {y:.1f}L{near:.1f} {height - 4:.1f}", class_="leader")
    dot = tag(
        "path",
        tag("title", title),
        d=f"M{x - 5:.1f} {y:.1f}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z",
        class_="mark candidate",
    )
    return leader + dot + tag("text", name, x=left, y=height, class_="name")


def _ceiling(found: Evaluation, target: Target) -> float | None:
    rows = found.baselines_of(target)
    rows = rows[rows["name"] == "ceiling"]
    return float(rows["spearman"].iloc[0]) if len(rows) else None


def _ceiling_line(frame: Frame, rho: float) -> Markup:
    end = frame.width - frame.right
    y = frame.at(frame.x.low, rho)[1]
    line = tag("path", d=f"M{frame.left} {y:.1f}H{end}", class_="ceiling")
    said = f"noise ceiling {short(rho)}"
    return line + tag("text", said, x=end, y=y - 7, class_="ceiling-label")


def _powers(label: str, exponents: np.ndarray) -> Axis:
    """A logarithmic axis: its values are powers of ten."""
    low, high = exponents.min() - 0.3, exponents.max() + 0.6
    steps = (0.0,) if high - low > 3 else (0.0, math.log10(2), math.log10(5))
    whole = range(math.floor(low), math.ceil(high) + 1)
    ticks = [p + s for p in whole for s in steps if low <= p + s <= high]
    return Axis(label, low, high, tuple(ticks), seconds)


def seconds(exponent: float) -> str:
    """10^exponent seconds, as 5 ms."""
    value = 10**exponent
    units = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
    size, unit = next((u for u in units if value >= 0.9999 * u[0]), units[-1])
    return f"{value / size:.3g}\N{NO-BREAK SPACE}{unit}"


def short(value: float | None, digits: int = 3) -> str:
    """A correlation without the nought before the point: .812."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0.0: no -0.00
    return text.replace("0.", ".", 1) if text.lstrip("−").startswith("0.") else text


def alone(drawing: Markup) -> str:
    """A drawing as a file of its own, with the style sheet and a background."""
    head, rest = str(drawing).split(">", 1)
    fill = '<rect width="100%" height="100%" style="fill: var(--card); stroke: none"/>'
    font = "svg { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif; }"
    css = f"<style>{style()}\n{font}</style>".replace("&", "&amp;")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{css}{fill}{rest}\n'


def _label(target: Target) -> str:
    column = target.column
    unit = f", {column.unit}" if column.unit else ""
    epochs = f", {column.epochs} epochs" if column.epochs else ""
    return f"{target.name}{unit}{epochs}"
