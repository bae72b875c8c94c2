"""How population based training changes hyper-parameters (arXiv:1711.09846, section 4.1)."""

import numpy as np

from jaxnas.hpo.space import Space
from jaxnas.language import FloatCat, IntCat
from jaxnas.language.intervals import Interval

TRIES = 100
"""Forbidden combinations are drawn again so often; then the row stays as it was."""


def explored(
    space: Space,
    rows: np.ndarray,
    rng: np.random.Generator,
    *,
    up: float = 1.2,
    down: float = 0.8,
    resample: float = 0.0,
) -> np.ndarray:
    """Rows `float64[n, P]` with every hyper-parameter perturbed or drawn anew, independently.

    With probability `resample`, and where it was inactive before, it is drawn from its whole range; else
    its value is multiplied by `up` or `down`, at even odds, and kept in its range. Whole numbers are
    rounded away from where they were, by 1 at least; a list of numbers moves one place up or down, and
    what has no order stays as it is.
    """
    found = rows.copy()
    left = np.arange(len(rows))
    for _ in range(TRIES):
        if not len(left):
            break
        drawn = _once(space, rows[left], rng, up, down, resample)
        good = space.allowed(drawn)
        found[left[good]] = drawn[good]
        left = left[~good]
    return found


def _once(
    space: Space,
    rows: np.ndarray,
    rng: np.random.Generator,
    up: float,
    down: float,
    resample: float,
) -> np.ndarray:
    anew = rng.random(rows.shape) < resample
    anew |= ~space.active(rows)
    drawn = rng.random(rows.shape)
    rising = rng.random(rows.shape) < 0.5
    values = space.decode(rows).values
    found = rows.copy()
    for i, parameter in enumerate(space.parameters):
        sign = np.where(rising[:, i], 1, -1)
        if isinstance(parameter, IntCat | FloatCat):
            order = np.argsort(parameter.all())
            place = np.minimum((rows[:, i] * len(order)).astype(int), len(order) - 1)
            moved = np.clip(np.argsort(order)[place] + sign, 0, len(order) - 1)
            found[:, i] = (order[moved] + 0.5) / len(order)
        elif isinstance(parameter, Interval):
            value = np.asarray(values[parameter.key], float)
            scaled = value * np.where(rising[:, i], up, down)
            if space.counts[i]:
                scaled = np.where(scaled > value, np.ceil(scaled), np.floor(scaled))
                scaled = np.where(scaled == value, value + sign, scaled).astype(np.int64)
            found[:, i : i + 1] = parameter.encode(np.clip(scaled, parameter.low, parameter.high))
    return space.canonical(np.where(anew, drawn, found))
