"""What a tuner tried: fitness by epoch, who copied whom, and the hyper-parameters that were found."""

import math

from markupsafe import Markup

from jaxnas.report.formats import number, percent
from jaxnas.report.lineage import NOBODY, best, copies, line, parents, stretches
from jaxnas.report.measure import metric_name
from jaxnas.report.model import ReportData
from jaxnas.report.roles import mark
from jaxnas.report.section import Section, figure, figures, fill, wide_or_narrow
from jaxnas.report.svg import tag
from jaxnas.report.tuning_plots import by_epoch, fitness_chart, value_chart, values_by_fitness

_MANY = 12
"""A longer table of the schedule is folded away."""


def _render(data: ReportData) -> Markup | None:
    if not data.trials:
        return _table(data) if data.tuned else None
    wide, narrow = (fitness_chart(data, width=width, n=n) for width, n in ((1080, 12), (540, 6)))
    parts = [
        tag("p", _explanation(data), class_="lead"),
        figure(wide_or_narrow(wide, narrow), legend=_legend(data), caption=_caption(data)),
        tag("h3", "Hyper-parameters"),
        tag("p", _about_values(data), class_="lead"),
        _values(data),
        _table(data),
    ]
    return Markup("").join(parts)


def _explanation(data: ReportData) -> str:
    trials = data.trials
    begun = parents(trials).count(NOBODY)
    members = len({t.member for t in trials})
    epochs = sum(t.units for t in trials)
    text = (
        f"{begun} training{'s' * (begun != 1)} began in {members} member{'s' * (members != 1)} of a "
        f"population, which were trained for {epochs:,} epochs in all."
    )
    copied = len(copies(trials))
    if copied:
        text += f" {copied} time{'s' * (copied != 1)} one took over the weights of another."
    diverged = sum(not math.isfinite(t.fitness) for t in trials)
    if diverged:
        text += f" {diverged} diverged."
    k = best(trials)
    if k != NOBODY:
        text += f" The best reached {percent(trials[k].fitness)} validation {metric_name(data)}."
    return text


def _caption(data: ReportData) -> str:
    if not by_epoch(data.trials):
        return "Each mark is a whole training, in the order in which they were asked for."
    text = "Each mark is a member's fitness after a segment, over the epochs behind its weights."
    if copies(data.trials):
        text += (
            " Weights went along an arrow, to a member that gave up its own and went on from there."
        )
    return text


def _about_values(data: ReportData) -> str:
    if by_epoch(data.trials):
        return (
            "What each member was trained with, the stronger the shade the better it did among those as "
            "long under way. What stage finish takes is drawn on top."
        )
    return "What came of each value that was tried; the best training has a star."


def _values(data: ReportData) -> Markup:
    names = list(data.trials[0].values)
    draw = value_chart if by_epoch(data.trials) else values_by_fitness
    drawn = (figure(draw(data, name)) for name in names)
    return tag("div", figures(*drawn), class_="small")


def _legend(data: ReportData) -> Markup:
    dot = tag("circle", cx=14, cy=9, r=3.5, class_="mark candidate")
    items = [(dot, "a member" if by_epoch(data.trials) else "a training")]
    items.append((mark("winner", 14.0, 9.0), "the best"))
    if len(line(data.trials)) > 1:
        path = tag("path", d="M1 9H27", class_="curve best way")
        items.append((path, "how its weights came about"))
    if copies(data.trials):
        items.append((tag("path", d="M14 2V15M10 10l4 5l4 -5", class_="copied"), "weights copied"))
    if any(not math.isfinite(t.fitness) for t in data.trials):
        items.append((tag("path", d="M9 4l10 10m0 -10l-10 10", class_="failed"), "diverged"))
    size = {"viewBox": "0 0 28 18", "width": 28, "height": 18, "aria_hidden": "true"}
    return tag("ul", *(tag("li", tag("svg", s, **size), t) for s, t in items), class_="legend")


def rows(data: ReportData) -> list[tuple[str, tuple[str, ...]]]:
    """The table: epochs and values of each stretch of the schedule, then the ranges tried."""
    found = []
    for s in stretches(data.tuned):
        epochs = f"{s.first} to {s.last}" if s.last > s.first else str(s.first)
        found.append((epochs, tuple(number(v, 4) for v in s.values.values())))
    return found


def tried(data: ReportData) -> tuple[str, ...]:
    """The least and greatest value of each hyper-parameter that was trained with."""
    found = []
    for name in data.tuned:
        values = [t.values[name] for t in data.trials if name in t.values]
        known = [v for v in values if math.isfinite(v)]
        found.append(f"{number(min(known), 3)} to {number(max(known), 3)}" if known else "")
    return tuple(found)


def _table(data: ReportData) -> Markup:
    if not data.tuned:
        return Markup("")
    found = rows(data)
    table = fill("tuning.html", names=list(data.tuned), rows=found, tried=tried(data))
    if len(found) > _MANY:
        return tag("details", tag("summary", f"All {len(found)} steps of the schedule"), table)
    return table


SECTION = Section("tuning", "Tuning of hyper-parameters", _render)
