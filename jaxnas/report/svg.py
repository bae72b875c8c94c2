"""Charts in plain SVG: elements, axes with ticks, marks. Colours come from the page's CSS."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from markupsafe import Markup

_TICKS = 6


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """`<name attributes>children</name>`, all escaped unless `Markup`.

    `_` in the attributes' names stands for `-`, and a trailing one is dropped (`class_`). Numbers
    are written with at most one decimal.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _plain(value))
        for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, Markup("").join(children))


def _plain(value: object) -> str:
    return f"{round(value, 1):g}" if isinstance(value, float) else str(value)


def nice_ticks(low: float, high: float, n: int = _TICKS, *, integer: bool = False) -> list[float]:
    """At most `n` + 1 round numbers in the range, whole ones if `integer`.

    They are multiples of a step of 1, 2, 2.5 or 5 times a power of ten.
    """
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / n))
    multiples = (1, 2, 5, 10) if integer else (1, 2, 2.5, 5, 10)
    power = max(power, 1.0) if integer else power
    step = next(power * m for m in multiples if span / (power * m) <= n)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    decimals = 2 - math.floor(math.log10(step))
    return [float(round(k * step, decimals)) for k in range(first, last + 1)]


def log_ticks(low: float, high: float, n: int = _TICKS) -> list[float]:
    """Powers of ten in a range of positive numbers, with their multiples where few lie in it.

    At most `n` + 1; a range with less than two of them has the ticks of a linear one.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for multiples in ((1, 2, 5), (1, 3), (1,)):
        exact = (float(f"{m}e{k}") for k in range(first, last + 1) for m in multiples)
        ticks = [t for t in exact if low <= t <= high]
        if len(ticks) <= n + 1:
            break
    # of many decades every second, third, ...
    ticks = ticks[:: math.ceil(len(ticks) / (n + 1)) or 1]
    return ticks if len(ticks) > 1 else nice_ticks(low, high, n)


@dataclass(frozen=True)
class Axis:
    """One axis: its range, its ticks, how they are written, and whether it is logarithmic."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    write: Callable[[float], str]
    log: bool = False

    def place[T: (float, np.ndarray)](self, value: T) -> T:
        """Where `value` lies between the ends, 0 to 1."""
        if self.log:
            return cast("T", np.log(value / self.low) / math.log(self.high / self.low))
        return (value - self.low) / (self.high - self.low)


def axis(
    label: str,
    values: Sequence[float],
    *,
    write: Callable[[float], str],
    integer: bool = False,
    margin: float = 0.04,
    n: int = _TICKS,
) -> Axis:
    """An axis that holds all finite `values` with a `margin` (a share of their range) around."""
    finite = [float(v) for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
        half = abs(low) / 10 or 0.5
        low, high = low - half, high + half
    pad = margin * (high - low)
    low, high = low - pad, high + pad
    return Axis(label, low, high, tuple(nice_ticks(low, high, n, integer=integer)), write)


def log_axis(
    label: str,
    values: Sequence[float],
    *,
    write: Callable[[float], str],
    margin: float = 0.04,
    n: int = _TICKS,
) -> Axis:
    """A logarithmic axis that holds all `values`, which are positive where they are finite."""
    linear = axis(
        label, [math.log(v) for v in values if math.isfinite(v)], write=write, margin=margin
    )
    low, high = math.exp(linear.low), math.exp(linear.high)
    return Axis(label, low, high, tuple(log_ticks(low, high, n)), write, log=True)


@dataclass(frozen=True)
class Frame:
    """The plotting area of a chart of `width` x `height` units, between its two axes."""

    x: Axis
    y: Axis
    width: int = 540
    height: int = 350
    left: int = 64
    right: int = 16
    top: int = 34
    bottom: int = 58

    def at[T: (float, np.ndarray)](self, x: T, y: T) -> tuple[T, T]:
        """The position of a pair of values, in units of the SVG."""
        inner_width = self.width - self.left - self.right
        inner_height = self.height - self.top - self.bottom
        return (
            self.left + inner_width * self.x.place(x),
            self.top + inner_height * (1 - self.y.place(y)),
        )

    def draw(self, body: Markup, description: str) -> Markup:
        """The whole chart with `body` between grid and labels, as an `<svg>`."""
        return tag(
            "svg",
            self._grid(),
            body,
            class_="plot",
            viewBox=f"0 0 {self.width} {self.height}",
            role="img",
            aria_label=description,
        )

    def _grid(self) -> Markup:
        base, end = self.height - self.bottom, self.width - self.right
        parts = []
        for tick in self.y.ticks:
            y = self.at(self.x.low, tick)[1]
            parts.append(tag("path", d=f"M{self.left} {y:.1f}H{end}", class_="grid"))
            parts.append(tag("text", self.y.write(tick), x=self.left - 9, y=y + 4, class_="tick y"))
        for tick in self.x.ticks:
            x = self.at(tick, self.y.low)[0]
            parts.append(tag("path", d=f"M{x:.1f} {base}v5", class_="axis"))
            parts.append(tag("text", self.x.write(tick), x=x, y=base + 21, class_="tick x"))
        parts.append(tag("path", d=f"M{self.left} {base}H{end}", class_="axis"))
        parts.append(tag("text", self.y.label, x=2, y=15, class_="label"))
        parts.append(tag("text", self.x.label, x=end, y=self.height - 8, class_="label end"))
        return Markup("").join(parts)


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """Path data through `points`, broken where a coordinate is not finite."""
    parts, pen_down = [], False
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            parts.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
            pen_down = True
        else:
            pen_down = False
    return "".join(parts)
