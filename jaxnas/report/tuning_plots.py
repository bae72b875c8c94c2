"""The charts of a tuner's trials."""

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from jaxnas.report.formats import percent, share
from jaxnas.report.lineage import NOBODY, best, copies, end, line, parents
from jaxnas.report.measure import metric_name
from jaxnas.report.model import ReportData, TunedMember
from jaxnas.report.roles import mark
from jaxnas.report.svg import Axis, Frame, axis, log_axis, polyline, tag

_SHADES = 5
_DECADES = 20
"""Positive values whose greatest is so many times the least are drawn on a logarithmic scale."""


def by_epoch(trials: Sequence[TunedMember]) -> bool:
    """Whether there is a course to see: not, if each was trained once, all of them equally long."""
    return any(t.start for t in trials) or len({end(t) for t in trials}) > 1


def shades(trials: Sequence[TunedMember]) -> list[int]:
    """0 to 4: the fifth that fitness lies in among trials that end after as many epochs; diverged: 0."""
    found = []
    for t in trials:
        equal = [o.fitness for o in trials if end(o) == end(t) and math.isfinite(o.fitness)]
        below = sum(f < t.fitness for f in equal)
        known = len(equal) > 1 and math.isfinite(t.fitness)
        found.append(round((_SHADES - 1) * below / (len(equal) - 1)) if known else 0)
    return found


def _tick(value: float) -> str:
    return f"{value:g}".replace("e-0", "e-").replace("-", "−")


def value_axis(name: str, values: Sequence[float]) -> Axis:
    """An axis of a hyper-parameter, logarithmic where its values span decades."""
    known = [v for v in values if math.isfinite(v)]
    if known and min(known) > 0 and max(known) >= _DECADES * min(known):
        return log_axis(name, known, write=_tick, margin=0.06, n=5)
    return axis(name, known, write=_tick, margin=0.06, n=5)


def fitness_chart(data: ReportData, *, width: int, n: int) -> Markup:
    """What every trial reached, by the epochs behind it or, without a course, in their order."""
    trials, course = data.trials, by_epoch(data.trials)
    xs = [float(end(t)) for t in trials] if course else [1.0 + k for k in range(len(trials))]
    label = f"validation {metric_name(data)}"
    frame = Frame(
        axis("epoch" if course else "training", xs, write="{:g}".format, integer=True, n=n),
        axis(label, [t.fitness for t in trials], write=share, margin=0.08),
        width=width,
        left=72,
    )
    places = [frame.at(x, t.fitness) for x, t in zip(xs, trials, strict=True)]
    parts = [*_lines(trials, places), *_arrows(trials, places)] if course else []
    marks = [_mark(trials, frame, places, k) for k in range(len(trials))]
    drawn = Markup("").join([*parts, *marks])
    return frame.draw(drawn, f"Validation {metric_name(data)} of {len(trials)} trials of a tuner")


type Places = Sequence[tuple[float, float]]


def _lines(trials: Sequence[TunedMember], places: Places) -> list[Markup]:
    """From each trial to those that went on from it, and over them the line that led to the best."""
    pieces = [polyline([places[p], places[k]]) for k, p in enumerate(parents(trials)) if p >= 0]
    way = polyline([places[k] for k in line(trials)])
    thin = tag("path", d="".join(p for p in pieces if "L" in p), class_="curve member")
    return [thin, tag("path", d=way, class_="curve best way")]


def _arrows(trials: Sequence[TunedMember], places: Places) -> list[Markup]:
    """From whose weights were copied to the member that gave its own up for them, where that was."""
    found = []
    for copy in copies(trials):
        (x, y), (u, v) = places[copy.source], places[copy.given_up]
        if copy.given_up == NOBODY or not (math.isfinite(y) and math.isfinite(v)):
            continue
        t, source = trials[copy.by], trials[copy.source]
        title = (
            f"epoch {t.start}: member {t.member} took over the weights of member {source.member}"
        )
        found.append(tag("path", tag("title", title), d=arrow(x, y, u, v), class_="copied"))
    return found


def arrow(x: float, y: float, u: float, v: float, *, bow: float = 16.0, tip: float = 6.0) -> str:
    """Path data of an arrow from (x, y) to (u, v) in a bow to the left, with an open head."""
    middle = (x + u) / 2 - min(bow, abs(v - y) / 2), (y + v) / 2
    # the head stops short of the mark it points at
    whole = max(math.hypot(u - middle[0], v - middle[1]), 1e-9)
    u, v = (b - (b - m) * min(5 / whole, 1) for b, m in ((u, middle[0]), (v, middle[1])))
    angle = math.atan2(v - middle[1], u - middle[0])
    ends = [(u - tip * math.cos(angle + s), v - tip * math.sin(angle + s)) for s in (-0.5, 0.5)]
    head = "".join(f"M{a:.1f} {b:.1f}L{u:.1f} {v:.1f}" for a, b in ends)
    return f"M{x:.1f} {y:.1f}Q{middle[0]:.1f} {middle[1]:.1f} {u:.1f} {v:.1f}{head}"


def _mark(trials: Sequence[TunedMember], frame: Frame, places: Places, k: int) -> Markup:
    """A dot, the best one's star, a cross on the ground for what diverged."""
    t, (x, y) = trials[k], places[k]
    values = "\n".join(f"{name} {value:.4g}" for name, value in t.values.items())
    title = f"member {t.member}, epochs {t.start + 1} to {end(t)}: {percent(t.fitness)}\n{values}"
    if not math.isfinite(t.fitness):
        ground = frame.height - frame.bottom - 8
        cross = f"M{x - 5:.1f} {ground - 5}l10 10m0 -10l-10 10"
        return tag("path", tag("title", f"{title}\ndiverged"), d=cross, class_="failed")
    if k == best(trials):
        return mark("winner", x, y, title)
    return tag("circle", tag("title", title), cx=x, cy=y, r=3.5, class_="mark candidate")


def value_chart(data: ReportData, name: str) -> Markup:
    """A hyper-parameter by epoch: a stroke for each trial, the schedule found on top."""
    trials = [t for t in data.trials if name in t.values]
    found = [float(v) for v in data.tuned.get(name, ())]
    last = max([*(end(t) for t in trials), len(found)])
    frame = Frame(
        axis("epoch", [0.0, float(last)], write="{:g}".format, integer=True, margin=0, n=6),
        value_axis(name, [*(t.values[name] for t in trials), *found]),
        height=300,
        left=72,
    )
    strokes = [""] * _SHADES
    for t, shade in zip(trials, shades(trials), strict=True):
        ends = [frame.at(float(x), t.values[name]) for x in (t.start, end(t))]
        strokes[shade] += polyline(ends)
    drawn = [
        tag("path", d=d, class_=f"tried shade-{shade}") for shade, d in enumerate(strokes) if d
    ]
    points = [frame.at(float(u + x), v) for u, v in enumerate(found) for x in (0, 1)]
    drawn.append(tag("path", d=polyline(points), class_="curve winner"))
    return frame.draw(Markup("").join(drawn), f"{name} by epoch")


def values_by_fitness(data: ReportData, name: str) -> Markup:
    """What came of each value of a hyper-parameter."""
    trials = [t for t in data.trials if name in t.values and math.isfinite(t.fitness)]
    frame = Frame(
        value_axis(name, [t.values[name] for t in trials]),
        axis(f"validation {metric_name(data)}", [t.fitness for t in trials], write=share, n=5),
        height=300,
        left=72,
    )
    first = best(trials)
    marks = []
    for k in sorted(range(len(trials)), key=lambda k: k == first):
        x, y = frame.at(trials[k].values[name], trials[k].fitness)
        if np.isfinite(x):
            dot = tag("circle", cx=x, cy=y, r=3.5, class_="mark candidate")
            marks.append(mark("winner", x, y) if k == first else dot)
    return frame.draw(Markup("").join(marks), f"Fitness by {name}")
