"""Population based bandits: PBT whose hyper-parameters come from a time-varying Gaussian process."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from jaxnas.errors import InputError
from jaxnas.hpo.gaussian import Process, condition, fit
from jaxnas.hpo.population import PopulationState, PopulationTuner
from jaxnas.hpo.space import Space
from jaxnas.hpo.tuner import Segment

DRAWS = 1024
"""Points of the space that the acquisition is looked up at."""
LOCAL = ((256, 0.1), (256, 0.03), (256, 0.01))
"""Then so many normal draws around the best of them, with these standard deviations."""
CLIP = 2.0
"""Standardised improvements are clipped at so many standard deviations, as in the authors' code."""


class Improvements(NamedTuple):
    """What the members learnt: rows `float64[M, P]`, times `[M]`, gains per unit `[M]`, -inf: diverged.

    `begun: bool[M]` marks gains of a member's first segment, of which only differences are known.
    """

    rows: np.ndarray
    times: np.ndarray
    gains: np.ndarray
    begun: np.ndarray


@dataclass(frozen=True)
class Pb2(PopulationTuner):
    """PBT, exploring by GP-UCB over improvements f_t(h) = (fitness_t - fitness_(t-1)) / units.

    The members that copied get, one after another, argmax_h mu(h) + sqrt(beta) sigma(h) at the next
    time. mu is the posterior mean of `jaxnas.hpo.gaussian`, given the improvements so far; sigma is
    computed as if those who go on, and those chosen before, had been observed at that time already,
    which needs no value of theirs (hallucinated observations; Desautels et al., 2014). beta =
    c1 log(c2 M) of M observations, 0 where that is negative. Time counts segments of a population.

    Fitness before the first segment is not known, but the same for all: first improvements are taken
    relative to their mean, which is set to that of the others.

    Args:
        interval: as in `Pbt`.
        exploit: as in `Pbt`.
        share: as in `Pbt`.
        c1: of beta,
        c2: of beta; both as in the authors' code.
        window: the process is given the last so many improvements.
    """

    name: ClassVar[str] = "pb2"
    paper: ClassVar[str] = (
        "Parker-Holder, Nguyen, Roberts, Provably Efficient Online Hyperparameter Optimization with "
        "Population-Based Bandits, arXiv:2002.02518"
    )
    c1: float = 0.2
    c2: float = 0.4
    window: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1 or self.c1 < 0 or self.c2 <= 0:
            raise InputError(
                f"window is {self.window}, c1 {self.c1:g}, c2 {self.c2:g}; expected a window of at "
                "least 1 and positive numbers."
            )

    def remember(
        self, state: PopulationState | None, segment: Segment | None, fitness: np.ndarray
    ) -> Improvements:
        """The improvements of a segment beside those before it; a new population forgets them."""
        if state is None or segment is None:
            return Improvements(np.zeros((0, 0)), np.zeros(0), np.zeros(0), np.zeros(0, bool))
        turn = int(state.told) % len(self.lengths(state.job.units))
        begun = segment.copy < 0
        before = np.where(begun, 0.0, state.recent[segment.copy, -1])
        with np.errstate(invalid="ignore"):
            gains = (fitness - before) / segment.units
        gains = np.where(np.isnan(gains), -np.inf, gains)
        own = Improvements(segment.hyper, np.full(len(gains), float(turn)), gains, begun)
        if turn == 0:
            return own
        return Improvements(*map(np.concatenate, zip(state.memory, own, strict=True)))

    def explore(
        self,
        state: PopulationState,
        rows: np.ndarray,
        changed: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """GP-UCB, one member after another."""
        space, memory = state.job.space, state.memory
        known = Improvements(*(part[-self.window :] for part in memory))
        y = standardised(known)
        x = space.features(known.rows)
        now = float(int(state.told) % len(self.lengths(state.job.units)))
        kernel = fit(x, known.times, y)
        process = condition(kernel, x, known.times, y)
        beta = max(0.0, self.c1 * np.log(self.c2 * len(y)))
        pending = rows[~changed]
        found = []
        for row in rows[changed]:
            batch = hallucinated(process, space.features(pending), now)
            chosen = _argmax(space, process, batch, now, beta, row, rng)
            found.append(chosen)
            pending = np.concatenate([pending, chosen[None]])
        return np.stack(found)


def standardised(known: Improvements) -> np.ndarray:
    """Improvements of mean 0 and deviation 1, clipped at 2; who diverged has -2."""
    finite = np.isfinite(known.gains)
    gains = np.where(finite, known.gains, 0.0)
    first, later = finite & known.begun, finite & ~known.begun
    level = gains[later].mean() if later.any() else 0.0
    if first.any():
        gains[first] += level - gains[first].mean()
    mean, deviation = (gains[finite].mean(), gains[finite].std()) if finite.any() else (0.0, 1.0)
    y = np.clip((gains - mean) / (deviation + 1e-8), -CLIP, CLIP)
    return np.where(finite, y, -CLIP)


def hallucinated(process: Process, x: np.ndarray, time: float) -> Process:
    """The process whose deviation takes `x: [m, F]` at `time` as observed; its mean means nothing."""
    times = np.concatenate([process.t, np.full(len(x), time)])
    points = np.concatenate([process.x, x])
    return condition(process.kernel, points, times, np.zeros(len(times)))


def _argmax(
    space: Space,
    process: Process,
    batch: Process,
    time: float,
    beta: float,
    row: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """The row with the highest mu + sqrt(beta) sigma found, `float64[P]`."""

    def best(rows: np.ndarray) -> tuple[np.ndarray, float]:
        x, t = space.features(rows), np.full(len(rows), time)
        value = process.mean(x, t) + np.sqrt(beta) * batch.deviation(x, t)
        return rows[np.argmax(value)], float(value.max())

    found, most = best(np.concatenate([space.sample(rng, DRAWS), row[None]]))
    for count, deviation in LOCAL:
        near = np.clip(found + deviation * rng.standard_normal((count, len(found))), 0, 1)
        near = space.canonical(near)
        near = near[space.allowed(near)]
        if len(near) and (better := best(near))[1] > most:
            found, most = better
    return found
