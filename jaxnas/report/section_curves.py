"""How the trained candidates learned, beside the baselines."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from jaxnas.report.formats import duration, percent, share
from jaxnas.report.measure import is_accuracy, remark
from jaxnas.report.model import ReportData, TrainedCandidate
from jaxnas.report.roles import BACK_TO_FRONT, legend
from jaxnas.report.section import Section, figure, figures
from jaxnas.report.svg import Frame, axis, polyline, tag


def _render(data: ReportData) -> Markup | None:
    parts = []
    for shown, heading in ((data.at_budget(), ""), (data.beyond_budget(), "Trained longer")):
        drawn = [c for c in shown if c.epochs]
        if drawn:
            parts.append(tag("h3", heading) if heading else Markup(""))
            parts.append(_pair(data, drawn))
    return _about(data) + Markup("").join(parts) if parts else None


def _about(data: ReportData) -> Markup:
    return Markup("") if is_accuracy(data) else tag("p", remark(data), class_="lead")


def _pair(data: ReportData, shown: Sequence[TrainedCandidate]) -> Markup:
    drawn = sorted(shown, key=lambda c: BACK_TO_FRONT.index(data.role(c)))
    accuracy = _chart(data, drawn, "validation accuracy", [c.val_accuracy for c in drawn])
    loss = _chart(data, drawn, "training loss", [c.train_loss for c in drawn])
    diverged = sum(c.diverged for c in shown)
    note = f"{diverged} diverged: a line ends where it leaves the chart." if diverged else ""
    return legend(data, shown, lines=True) + figures(figure(accuracy), figure(loss, caption=note))


def _chart(
    data: ReportData,
    drawn: Sequence[TrainedCandidate],
    label: str,
    curves: Sequence[tuple[float, ...]],
) -> Markup:
    epochs = [float(e) for c in drawn for e in c.epochs]
    write = share if "accuracy" in label else "{:g}".format
    # a loss that exploded would leave no room for the others
    steady = [curve for run, curve in zip(drawn, curves, strict=True) if not run.diverged] or curves
    frame = Frame(
        axis("epoch", epochs, write="{:g}".format, integer=True, margin=0.02, n=8),
        axis(label, [v for curve in steady for v in curve], write=write),
    )
    lines = [_line(data, frame, run, curve) for run, curve in zip(drawn, curves, strict=True)]
    return frame.draw(Markup("").join(lines), f"{label} by epoch of {len(drawn)} trainings")


def _line(
    data: ReportData, frame: Frame, run: TrainedCandidate, curve: tuple[float, ...]
) -> Markup:
    """The line, and over it a wide transparent one that makes hovering easy."""
    path = polyline(
        [
            frame.at(e, v) if frame.y.low <= v <= frame.y.high else (math.nan, math.nan)
            for e, v in zip(run.epochs, curve, strict=True)
        ]
    )
    role = data.role(run)
    said = [role, run.arch, f"best validation accuracy {percent(run.best_val_accuracy)}"]
    said += [f"{duration(run.seconds)} of training"] if math.isfinite(run.seconds) else []
    title = tag("title", "\n".join([*said, *(["diverged"] if run.diverged else [])]))
    return tag(
        "g",
        title,
        tag("path", d=path, class_=f"curve {role}"),
        tag("path", d=path, class_="hover"),
    )


SECTION = Section("curves", "Training curves", _render)
