"""Numbers as people read them."""

import math
import re
from typing import Any

from markupsafe import Markup

MISSING = "–"
_SPACE = "\N{NO-BREAK SPACE}"
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def si(value: float | None, digits: int = 3) -> str:
    """`1073466` as "1.07 M"."""
    if value is None or not math.isfinite(value):
        return number(value)
    for size, unit in _UNITS:
        # 999,950 must be "1 M" and not "1e+03 k"
        if abs(float(f"{value:.{digits}g}")) >= size:
            return f"{value / size:.{digits}g}{_SPACE}{unit}"
    return f"{value:.{digits}g}"


def percent(value: float | None, decimals: int = 2) -> str:
    """`.98333` as "98.33 %"."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{100 * value:.{decimals}f}{_SPACE}%"


def share(value: float) -> str:
    """`.975` as "97.5 %", for the ticks of an axis."""
    return f"{100 * value:g}{_SPACE}%"


def duration(seconds: float) -> str:
    """`192.3` as "3 min 12 s"; tenths below a minute."""
    if seconds < 59.95:
        return f"{seconds:.1f}{_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_SPACE}min {rest}{_SPACE}s"
    return f"{minutes // 60}{_SPACE}h {minutes % 60}{_SPACE}min"


def number(value: float | None, digits: int = 5) -> str:
    """A score: NaN and infinities by name, whole numbers with separators, else `digits` digits."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "NaN")
    if value == round(value) and abs(value) < 1e15:
        return f"{round(value):,}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def architecture(arch: Any) -> Markup:
    """An architecture's string, escaped, that breaks after a `+` sooner than between its parts."""
    parts = re.findall(r"[^+]*\+|[^+]+$", str(arch))
    inside = (re.split(r"(?<=[^|][|,:])(?=[^+|])", part) for part in parts)
    wrapped = (Markup("<wbr>").join(pieces) for pieces in inside)
    return Markup("").join(Markup('<span class="part">{}</span>').format(part) for part in wrapped)
