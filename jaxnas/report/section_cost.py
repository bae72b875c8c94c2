"""What accuracy costs: the candidates beside the largest network and random ones, equal budget."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from jaxnas.report.formats import duration, percent, share, si
from jaxnas.report.measure import remark
from jaxnas.report.model import ReportData, TrainedCandidate
from jaxnas.report.roles import BACK_TO_FRONT, NAMES, legend, mark
from jaxnas.report.section import Section, figure, figures
from jaxnas.report.svg import Frame, axis, tag

_COSTS = {
    "macs": ("multiply-adds of one image", si),
    "seconds": ("seconds of training", "{:g}".format),
}


def _render(data: ReportData) -> Markup | None:
    shown = [c for c in data.at_budget() if not c.diverged and math.isfinite(c.best_val_accuracy)]
    if not shown:
        return None
    charts = (figure(_chart(data, shown, cost)) for cost in _COSTS)
    said = tag("p", _comparison(data, shown), class_="lead")
    return said + legend(data, shown) + figures(*charts)


def _comparison(data: ReportData, shown: Sequence[TrainedCandidate]) -> str:
    """The best validation accuracies by role, in a sentence."""
    by_role = {role: [c.best_val_accuracy for c in shown if data.role(c) == role] for role in NAMES}
    tried = by_role["winner"] + by_role["candidate"]
    parts = [f"{percent(max(tried))} the best of {_kind(data, len(tried))}"] if tried else []
    if largest := by_role["largest"]:
        parts.append(f"{percent(max(largest))} the largest of the space")
    if drawn := by_role["random"]:
        mean = percent(math.fsum(drawn) / len(drawn))
        parts.append(
            f"{mean} the mean of {len(drawn)} drawn at random (best {percent(max(drawn))})"
        )
    epochs = f"{data.budget} epoch{'s' * (data.budget != 1)}"
    text = f"Best validation accuracy within {epochs} of training: " + "; ".join(parts) + "."
    left_out = len(data.trained) - len(shown)
    if left_out:
        text += f" {left_out} trained longer or diverged, and not drawn here."
    return f"{text} {remark(data)}".strip()


def _kind(data: ReportData, n: int) -> str:
    """Why the candidates were trained."""
    if data.decisions:
        return f"{n} that the strategy asked for"
    return f"{n} candidate{'s' * (n != 1)}" if data.curves else f"{n} ranked first"


def _chart(data: ReportData, shown: Sequence[TrainedCandidate], cost: str) -> Markup:
    label, write = _COSTS[cost]
    drawn = [c for c in shown if math.isfinite(getattr(c, cost))]
    drawn.sort(key=lambda c: BACK_TO_FRONT.index(data.role(c)))
    frame = Frame(
        axis(label, [getattr(c, cost) for c in drawn], write=write, margin=0.06),
        axis(
            "best validation accuracy",
            [c.best_val_accuracy for c in drawn],
            write=share,
            margin=0.08,
        ),
    )
    marks = [
        mark(data.role(c), *frame.at(getattr(c, cost), c.best_val_accuracy), _title(data, c))
        for c in drawn
    ]
    return frame.draw(Markup("").join(marks), f"Best validation accuracy against {label}")


def _title(data: ReportData, run: TrainedCandidate) -> str:
    costs = f"{si(run.params)} parameters, {si(run.macs)} multiply-adds, {duration(run.seconds)}"
    return f"{data.role(run)}: {run.arch}\n{percent(run.best_val_accuracy)}; {costs}"


SECTION = Section("cost", "Cost against accuracy", _render)
