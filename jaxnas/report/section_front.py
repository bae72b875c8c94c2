"""The Pareto front: what of all that was trained is best for its cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from jaxnas.report.formats import MISSING, percent, share, si
from jaxnas.report.measure import remark
from jaxnas.report.model import ReportData, TrainedCandidate
from jaxnas.report.roles import BACK_TO_FRONT, NAMES, legend, mark
from jaxnas.report.section import Section, figure, figures, fill
from jaxnas.report.svg import Frame, axis, polyline, tag

_COSTS = {
    "params": ("parameters", si),
    "macs": ("multiply-adds of one image", si),
    "latency": ("milliseconds of one image", si),
}


@dataclass(frozen=True)
class Row:
    """One architecture of a front; `costs` are in the order of the columns."""

    arch: str
    role: str
    role_name: str
    costs: tuple[str, ...]
    accuracy: str
    fronts: tuple[str, ...]


def compared(data: ReportData) -> list[TrainedCandidate]:
    """Trainings within the common budget that ended in numbers and whose costs are known."""
    return [
        c
        for c in data.at_budget()
        if c.costs and not c.diverged and not c.stopped and math.isfinite(c.best_val_accuracy)
    ]


def front(shown: Sequence[TrainedCandidate], cost: str) -> list[TrainedCandidate]:
    """Those than which no other is as accurate and costs less, or costs as much and is better.

    Each is more accurate than all that cost no more; from the cheapest on, of equals the first.
    """
    known = [c for c in shown if cost in c.costs]
    found: list[TrainedCandidate] = []
    for c in sorted(known, key=lambda c: (c.costs[cost], -c.best_val_accuracy)):
        if not found or c.best_val_accuracy > found[-1].best_val_accuracy:
            found.append(c)
    return found


def rows(data: ReportData) -> list[Row]:
    """Each architecture that is on a front, from the cheapest on."""
    shown = compared(data)
    costs = _known(shown)
    fronts = {cost: front(shown, cost) for cost in costs}
    listed = {c.arch: c for cost in costs for c in fronts[cost]}
    ordered = sorted(listed.values(), key=lambda c: tuple(c.costs.get(k, math.inf) for k in costs))
    return [
        Row(
            c.arch,
            data.role(c),
            NAMES[data.role(c)][0],
            tuple(_COSTS[k][1](c.costs[k]) if k in c.costs else MISSING for k in costs),
            percent(c.best_val_accuracy),
            tuple(_COSTS[k][0].split(" of ")[0] for k in costs if c in fronts[k]),
        )
        for c in ordered
    ]


def _known(shown: Sequence[TrainedCandidate]) -> list[str]:
    return [cost for cost in _COSTS if any(cost in c.costs for c in shown)]


def _render(data: ReportData) -> Markup | None:
    shown = compared(data)
    if len(shown) < 2:
        return None
    charts = (figure(_chart(data, shown, cost)) for cost in _known(shown))
    names = [_COSTS[cost][0].partition(" of ")[0] for cost in _known(shown)]
    table = fill("front.html", columns=names, rows=rows(data))
    said = tag("p", _explanation(data), class_="lead")
    return said + legend(data, shown) + figures(*charts) + table


def _explanation(data: ReportData) -> str:
    text = (
        "On the front nothing that was trained costs as little and is more accurate. Costs are those of "
        "the network that the run ends with."
    )
    if data.limits:
        said = (f"{_COSTS[k][1](v)} {_COSTS[k][0]}" for k, v in data.limits.items() if k in _COSTS)
        text += f" At most {' and '.join(said)} were allowed (dashed); baselines keep no limit."
    return f"{text} {remark(data)}".strip()


def _chart(data: ReportData, shown: Sequence[TrainedCandidate], cost: str) -> Markup:
    label, write = _COSTS[cost]
    drawn = sorted(
        (c for c in shown if cost in c.costs), key=lambda c: BACK_TO_FRONT.index(data.role(c))
    )
    limit = data.limits.get(cost, math.nan)
    frame = Frame(
        axis(label, [*(c.costs[cost] for c in drawn), limit], write=write, margin=0.06),
        axis(
            "best validation accuracy",
            [c.best_val_accuracy for c in drawn],
            write=share,
            margin=0.08,
        ),
    )
    marks = [
        mark(
            data.role(c),
            *frame.at(c.costs[cost], c.best_val_accuracy),
            f"{data.role(c)}: {c.arch}\n{percent(c.best_val_accuracy)}, {write(c.costs[cost])} {label}",
        )
        for c in drawn
    ]
    lines = [_steps(frame, front(shown, cost), cost), *_limit(frame, limit)]
    return frame.draw(Markup("").join(lines + marks), f"Pareto front of accuracy and {label}")


def _steps(frame: Frame, found: Sequence[TrainedCandidate], cost: str) -> Markup:
    """The front: what accuracy a cost buys, up to the end of the chart."""
    points: list[tuple[float, float]] = []
    for c in found:
        x, y = frame.at(c.costs[cost], c.best_val_accuracy)
        points += [(x, points[-1][1])] if points else []
        points.append((x, y))
    points.append((frame.at(frame.x.high, frame.y.low)[0], points[-1][1]))
    return tag("path", d=polyline(points), class_="curve best")


def _limit(frame: Frame, limit: float) -> list[Markup]:
    if not math.isfinite(limit):
        return []
    x = frame.at(limit, frame.y.low)[0]
    line = f"M{x:.1f} {frame.top}V{frame.height - frame.bottom}"
    return [
        tag("path", tag("title", "limit"), d=line, class_="ceiling"),
        tag("text", "limit", x=x - 6, y=frame.top + 12, class_="ceiling-label"),
    ]


SECTION = Section("front", "Pareto front", _render)
