"""A confusion matrix as a drawing, of 2 classes or of hundreds."""

import math

import numpy as np
from markupsafe import Markup

from jaxnas.report.answers import confusion
from jaxnas.report.formats import number, percent
from jaxnas.report.model import Judged
from jaxnas.report.svg import nice_ticks, tag

FEW = 24
"""Up to so many classes have their names beside the matrix; beyond, their numbers stand there."""

_WIDTH = 540
_SHADES = 5
_LONGEST = 11
_CHARACTER = 9.2
_DIGIT = 9.9
"""Units that letters and digits take at most, where the page is narrow and they are larger."""


def shade(share: float) -> int:
    """0 to 4, by the square root of a share above 0: one mistake of a hundred must be seen."""
    return min(int(_SHADES * math.sqrt(share)), _SHADES - 1)


def heat_map(judged: Judged) -> Markup:
    """The matrix: right answers in one colour, mistakes in another, numbers where they fit."""
    counts = confusion(judged)
    totals = np.maximum(np.bincount(judged.y, minlength=len(counts)), 1)
    if len(counts) <= FEW:
        body, height = _few(counts, totals, judged.class_names)
    else:
        body, height = _many(counts, totals)
    return tag(
        "svg",
        body,
        class_="plot confusion",
        viewBox=f"0 0 {_WIDTH} {height:g}",
        role="img",
        aria_label=f"Confusion matrix of {len(judged.y)} images and {len(counts)} classes",
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _few(counts: np.ndarray, totals: np.ndarray, names: tuple[str, ...]) -> tuple[Markup, float]:
    """A square with a title for each pair of classes."""
    longest = max(len(_short(name)) for name in names) * _CHARACTER
    left = max(longest + 14, 96.0)
    cell = min((_WIDTH - left - 4) / len(names), 104.0)
    upright = longest > cell - 4
    top = max(longest + 12 if upright else 26.0, 46.0)
    parts = _corner(left, top)
    for k, name in enumerate(names):
        middle = (k + 0.5) * cell
        whole = tag("title", name)
        x, y = left + middle, top + middle
        across = {"transform": f"translate({x + 4:.1f} {top - 8:g}) rotate(-90)"}
        above = across if upright else {"x": x, "y": top - 8, "text_anchor": "middle"}
        parts.append(tag("text", whole, _short(name), class_="class", **above))
        parts.append(tag("text", whole, _short(name), x=left - 9, y=y + 4.5, class_="class row"))
    for i, j in np.ndindex(*counts.shape):
        parts.append(_cell(counts, totals, names, (i, j), (left, top, cell)))
    return Markup("").join(parts), top + len(names) * cell + 4


def _corner(left: float, top: float, lift: float = 0.0) -> list[Markup]:
    return [
        tag("text", "taken for →", x=left - 9, y=top - 27 - lift, class_="label row"),
        tag("text", "class ↓", x=left - 9, y=top - 8 - lift, class_="label row"),
    ]


def _cell(
    counts: np.ndarray,
    totals: np.ndarray,
    names: tuple[str, ...],
    pair: tuple[int, int],
    place: tuple[float, float, float],
) -> Markup:
    (i, j), (left, top, cell) = pair, place
    count = int(counts[pair])
    x, y = left + j * cell, top + i * cell
    share = count / int(totals[i])
    kind = f"{'right' if i == j else 'wrong'}-{shade(share)}" if count else "nothing"
    square = tag("rect", x=x, y=y, width=cell, height=cell, class_=f"square {kind}")
    if not count:
        return square
    title = f"{names[i]} taken for {names[j]}: {number(count)} ({percent(share, 1)})"
    written = number(count)
    parts = [tag("title", title), square]
    if len(written) * _DIGIT <= cell:
        middle = {"x": x + cell / 2, "y": y + cell / 2 + 4.5}
        parts.append(tag("text", written, class_="value", **middle))
    return tag("g", *parts)


def _many(counts: np.ndarray, totals: np.ndarray) -> tuple[Markup, float]:
    """One path for each shade, which takes as many bytes as there are pairs that occur."""
    n = len(counts)
    left, top = 96.0, 56.0
    cell = (_WIDTH - left - 4) / n
    side = n * cell
    parts = [
        *_corner(left, top, lift=10.0),
        tag("rect", x=left, y=top, width=side, height=side, class_="ground"),
    ]
    for t in nice_ticks(0, n - 1, 8, integer=True):
        middle = (t + 0.5) * cell
        for dx, dy, kind in ((middle, -8.0, "column"), (-9.0, middle + 4.5, "row")):
            parts.append(tag("text", f"{t:g}", x=left + dx, y=top + dy, class_=f"class {kind}"))
    paths: dict[str, str] = {}
    for i, j in np.argwhere(counts):
        kind = f"{'right' if i == j else 'wrong'}-{shade(float(counts[i, j] / totals[i]))}"
        corner = f"M{left + j * cell:.1f} {top + i * cell:.1f}"
        paths[kind] = paths.get(kind, "") + f"{corner}h{cell:.2f}v{cell:.2f}h-{cell:.2f}z"
    parts += [tag("path", d=d, class_=kind) for kind, d in paths.items()]
    return tag("g", *parts, class_="dense"), top + side + 4
