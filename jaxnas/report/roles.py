"""How the trained architectures look in figures, legends and tables, by their role."""

import math
from collections import Counter
from collections.abc import Iterable

from markupsafe import Markup

from jaxnas.report.model import ReportData, TrainedCandidate
from jaxnas.report.svg import tag

NAMES = {
    "winner": ("winner", "winner"),
    "candidate": ("candidate", "candidates"),
    "largest": ("largest of the space", "largest of the space"),
    "random": ("drawn at random", "drawn at random"),
}
"""What each role is called, of one and of several."""

BACK_TO_FRONT = ("random", "candidate", "largest", "winner")
"""Order of drawing: what matters most is drawn last."""


def _polygon(x: float, y: float, radii: tuple[float, ...], turn: float) -> str:
    corners = (
        (x + r * math.sin(turn + k * math.tau / len(radii)), k, r) for k, r in enumerate(radii)
    )
    points = (
        f"{cx:.1f} {y - r * math.cos(turn + k * math.tau / len(radii)):.1f}" for cx, k, r in corners
    )
    return "M" + "L".join(points) + "Z"


def _shape(role: str, x: float, y: float) -> str:
    if role == "winner":
        return _polygon(x, y, (9.5, 4.2) * 5, 0.0)
    if role == "largest":
        return _polygon(x, y, (7.5,) * 4, math.pi / 4)
    if role == "random":
        return _polygon(x, y, (6.0,) * 4, 0.0)
    return f"M{x - 5:.1f} {y:.1f}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z"


def mark(role: str, x: float, y: float, title: str = "") -> Markup:
    """The role's mark at a place: star, circle, square or diamond. `title` shows on hovering."""
    children = (tag("title", title),) if title else ()
    return tag("path", *children, d=_shape(role, x, y), class_=f"mark {role}")


def legend(data: ReportData, shown: Iterable[TrainedCandidate], *, lines: bool = False) -> Markup:
    """An HTML legend of the roles among `shown`, with how many there are of each."""
    counts = Counter(data.role(c) for c in shown)
    items = [_item(role, counts[role], lines) for role in NAMES if counts[role]]
    return tag("ul", *items, class_="legend")


def _item(role: str, count: int, lines: bool) -> Markup:
    swatch = tag("path", d="M1 9H27", class_=f"curve {role}") if lines else mark(role, 14.0, 9.0)
    text = NAMES[role][count > 1] + (f" ({count})" if count > 1 else "")
    drawn = tag("svg", swatch, viewBox="0 0 28 18", width=28, height=18, aria_hidden="true")
    return tag("li", drawn, text)
