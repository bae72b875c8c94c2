"""The ranking at a glance: every architecture's score against its size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from jaxnas.report.formats import number, si
from jaxnas.report.model import ReportData, TrainedCandidate, score_columns
from jaxnas.report.roles import BACK_TO_FRONT, legend, mark
from jaxnas.report.scatter import FEW, dots
from jaxnas.report.section import Section, figure, paragraph, wide_or_narrow
from jaxnas.report.svg import Axis, Frame, axis, tag


@dataclass(frozen=True)
class Points:
    """The architectures that can be drawn: `x` is `params`, or `rank` where that is not known."""

    x_name: str
    x: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    row: dict[str, int]


def _points(data: ReportData) -> Points:
    ranking = data.ranking
    x_name = "params" if "params" in ranking.columns else "rank"
    x, score, rank = (np.asarray(ranking[c], dtype=float) for c in (x_name, "score", "rank"))
    drawn = np.isfinite(score) & np.isfinite(x)
    row = {str(arch): k for k, arch in enumerate(np.asarray(ranking["arch"])[drawn])}
    return Points(x_name, x[drawn], score[drawn], rank[drawn], row)


def _render(data: ReportData) -> Markup | None:
    if not score_columns(data.ranking):
        return None
    points = _points(data)
    said = tag("p", _explanation(data), class_="lead")
    if not points.row:
        return said + paragraph("No architecture has a finite score, so there is nothing to draw.")
    marked = _marked(data, points)
    wide = _chart(data, points, marked, width=1080, n=9)
    narrow = _chart(data, points, marked, width=540, n=5)
    return said + figure(
        wide_or_narrow(wide, narrow),
        legend=legend(data, marked) if marked else "",
        caption=_caption(points),
    )


def _chart(
    data: ReportData, points: Points, marked: Sequence[TrainedCandidate], *, width: int, n: int
) -> Markup:
    label, write = ("parameters", si) if points.x_name == "params" else ("rank", number)
    x_axis = axis(label, points.x.tolist(), write=write, n=n)
    frame = Frame(x_axis, _score_axis(points), width=width, height=440)
    body = dots(frame, points.x, points.score) + _marks(data, frame, points, marked)
    return frame.draw(body, f"Score against {label} of {len(points.x):,} architectures")


def _score_axis(points: Points) -> Axis:
    best = points.score[points.rank.argmin()]
    direction = "higher" if best >= np.median(points.score) else "lower"
    return axis(f"score ({direction} is better)", points.score.tolist(), write=number)


def _explanation(data: ReportData) -> str:
    scores = np.asarray(data.ranking["score"], dtype=float)
    no_path = int(np.isneginf(scores).sum())
    failed = int((~np.isfinite(scores)).sum()) - no_path
    text = f"Each of {len(scores):,} architectures was scored without training it."
    if no_path:
        text += f" {no_path:,} scored −∞ (no path from input to output)."
    if failed:
        text += f" {failed:,} scored NaN (a numerical failure)."
    return text + (" They rank last and are not drawn." if failed or no_path else "")


def _caption(points: Points) -> str:
    shade = "The stronger the shade, the more architectures."
    if len(np.unique(points.x)) > FEW:
        return shade
    what = "size" if points.x_name == "params" else "rank"
    return f"{shade} Those of equal {what} are spread sideways, wider where there are more."


def _marked(data: ReportData, points: Points) -> list[TrainedCandidate]:
    """The trained architectures that are drawn, once in each role, the weightiest last."""
    once = {(data.role(c), c.arch): c for c in data.trained if c.arch in points.row}
    return sorted(once.values(), key=lambda c: BACK_TO_FRONT.index(data.role(c)))


def _marks(
    data: ReportData, frame: Frame, points: Points, marked: Sequence[TrainedCandidate]
) -> Markup:
    marks = []
    for run in marked:
        k = points.row[run.arch]
        x, score, rank = (float(column[k]) for column in (points.x, points.score, points.rank))
        title = f"{data.role(run)}: {run.arch}\nscore {number(score)}, rank {number(rank)}"
        marks.append(mark(data.role(run), *frame.at(x, score), title))
    return tag("g", *marks)


SECTION = Section("ranking", "Score against parameters", _render)
