"""What the finished network takes for what: the confusion matrix of test images, recall by class."""

import math

from markupsafe import Markup

from jaxnas.report.answers import NONE, Found, answers, confused, recalls
from jaxnas.report.formats import number, percent
from jaxnas.report.heat_map import FEW, heat_map
from jaxnas.report.model import Judged, ReportData
from jaxnas.report.section import Section, figure, fill
from jaxnas.report.svg import tag

_PAIRS = 10
_LOWEST = 20


def _render(data: ReportData) -> Markup | None:
    if data.judged is None or not len(data.judged.y):
        return None
    judged = data.judged
    found = recalls(judged)
    parts = [
        tag("p", _explanation(judged, found), class_="lead"),
        fill(
            "confusion.html",
            drawing=figure(heat_map(judged), caption=_caption(judged)),
            found=_listed(found),
            every=found if len(found) > FEW else [],
            lowest=len(found) > FEW,
            pairs=_pairs(judged) if len(found) > _PAIRS else [],
        ),
    ]
    return Markup("").join(parts)


def _explanation(judged: Judged, found: list[Found]) -> str:
    n, right = len(judged.y), sum(f.found for f in found)
    drawn = f", drawn from {judged.total:,}," if judged.places is not None else ""
    text = (
        f"Of {n:,} {judged.split} images{drawn} {right:,} ({percent(right / n)}) are given their "
    )
    text += "class."
    known = [f.recall for f in found if f.images]
    text += f" The mean over classes is {percent(math.fsum(known) / len(known))}."
    none = int((answers(judged) == NONE).sum())
    return text + (f" {none:,} have no answer: probabilities are no numbers." if none else "")


def _caption(judged: Judged) -> str:
    text = (
        "A row is a class, a column what its images were taken for. Shades are shares of the row, darker "
        "than in proportion where they are small."
    )
    if len(judged.class_names) > FEW:
        text += " Classes go by their numbers, from 0."
    return text


def _listed(found: list[Found]) -> list[Found]:
    """All classes, or of many those that are found least."""
    if len(found) <= FEW:
        return found
    return sorted((f for f in found if f.images), key=lambda f: f.recall)[:_LOWEST]


def _pairs(judged: Judged) -> list[tuple[str, str, str, str]]:
    """Label, answer, how often, and of the label's images that share."""
    names, found = judged.class_names, recalls(judged)
    return [
        (names[i], names[j], number(n), percent(n / found[i].images, 1))
        for i, j, n in confused(judged, _PAIRS)
    ]


SECTION = Section("confusion", "Confusion of classes", _render)
