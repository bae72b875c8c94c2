"""The densities of good and bad configurations that BOHB and BOSS draw by (arXiv:1807.01774, 3.2)."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from jaxnas.hpo.space import Space

LEAST = 1e-3
"""No bandwidth is smaller."""
FLOOR = 1e-32


class Density(NamedTuple):
    """A product kernel at `points: float64[m, P]` with `widths: float64[P]`.

    Ordered parameters: normal, cut off at 0 and 1. Those without order, of `counts` values: the same
    value with 1 - width, any other with width / (count - 1) (Aitchison, Aitken, 1976).
    """

    points: np.ndarray
    widths: np.ndarray
    counts: np.ndarray


def density(space: Space, points: np.ndarray) -> Density:
    """Of rows, with bandwidths of 1.06 sigma m^(-1 / (4 + P)), the normal reference, at least `LEAST`."""
    m, p = points.shape
    widths = 1.06 * points.std(axis=0) * m ** (-1 / (4 + p))
    counts = np.where(space.unordered, space.counts, 0)
    most = np.where(counts > 1, 1 - 1 / np.maximum(counts, 1), np.inf)
    return Density(points, np.clip(widths, LEAST, most), counts)


def evaluate(model: Density, rows: np.ndarray) -> np.ndarray:
    """The density at rows, `float64[n]`."""
    product = np.ones((len(rows), len(model.points)))
    for i, (width, count) in enumerate(zip(model.widths, model.counts, strict=True)):
        x, at = rows[:, i][:, None], model.points[:, i][None]
        if count:
            others = width / max(count - 1, 1)
            product *= np.where(np.abs(x - at) < 0.5 / count, 1 - width, others)
        else:
            mass = ndtr((1 - at) / width) - ndtr(-at / width)
            normal = np.exp(-0.5 * ((x - at) / width) ** 2) / (width * np.sqrt(2 * np.pi))
            product *= normal / mass
    return product.mean(axis=1)


def draw(model: Density, rng: np.random.Generator, n: int, factor: float) -> np.ndarray:
    """Rows `float64[n, P]` of the density with `factor` times its bandwidths."""
    centres = model.points[rng.integers(len(model.points), size=n)]
    rows = centres.copy()
    for i, (width, count) in enumerate(zip(model.widths, model.counts, strict=True)):
        if count:
            other = rng.random(n) < min(factor * width, 1.0)
            rows[other, i] = (rng.integers(count, size=int(other.sum())) + 0.5) / count
        else:
            rows[:, i] = _cut_normal(centres[:, i], factor * width, rng)
    return rows


def _cut_normal(centre: np.ndarray, width: float, rng: np.random.Generator) -> np.ndarray:
    """Normal draws, those outside 0 to 1 drawn again, a few times, then clipped."""
    found = centre + width * rng.standard_normal(len(centre))
    for _ in range(20):
        outside = (found < 0) | (found > 1)
        if not outside.any():
            break
        found[outside] = centre[outside] + width * rng.standard_normal(int(outside.sum()))
    return np.clip(found, 0, 1)


class Guide(NamedTuple):
    """How many are drawn how: BOHB's random fraction, quantile, candidates and bandwidth factor."""

    random: float = 1 / 3
    quantile: float = 0.15
    candidates: int = 64
    factor: float = 3.0


def split(
    space: Space, rows: np.ndarray, merits: np.ndarray, quantile: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """The good and the bad of rows with a merit each; None: too few.

    With N_min = P + 1: N_min + 2 rows are needed, max(N_min, floor(q N)) are good and
    max(N_min, N - N_good) are bad, the latter from the worst upwards.
    """
    least = space.dimensions + 1
    if len(rows) < least + 2:
        return None
    order = np.argsort(-merits, kind="stable")
    good = max(least, int(quantile * len(rows)))
    bad = max(least, len(rows) - good)
    return rows[order[:good]], rows[order[-bad:]]


def imputed(space: Space, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows with a value in place of what is inactive: that of an active row among them, else a uniform
    draw. The placeholder of an inactive parameter says nothing about where good values are."""
    found, active = rows.copy(), space.active(rows)
    for i in np.flatnonzero(~active.all(axis=0)):
        absent, known = ~active[:, i], rows[active[:, i], i]
        n = int(absent.sum())
        found[absent, i] = known[rng.integers(len(known), size=n)] if len(known) else rng.random(n)
    return found


def guided(
    space: Space, merits: np.ndarray, rows: np.ndarray, rng: np.random.Generator, guide: Guide
) -> np.ndarray:
    """One row: at random, or of `candidates` drawn from the good the one with the highest l(x) / g(x).

    `merits: float64[T, K]` by rung, NaN where not known. The highest rung with enough of them counts.
    """
    if rng.random() < guide.random:
        return space.sample(rng, 1)[0]
    for rung in reversed(range(merits.shape[1])):
        known = ~np.isnan(merits[:, rung])
        parts = split(space, rows[known], merits[known, rung], guide.quantile)
        if parts is not None:
            good, bad = (density(space, imputed(space, part, rng)) for part in parts)
            drawn = space.canonical(draw(good, rng, guide.candidates, guide.factor))
            drawn = drawn[space.allowed(drawn)]
            if len(drawn):
                ratio = evaluate(good, drawn) / np.maximum(evaluate(bad, drawn), FLOOR)
                return drawn[np.argmax(ratio)]
    return space.sample(rng, 1)[0]
