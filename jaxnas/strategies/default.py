"""The strategy that searches use unless told otherwise."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.errors import InputError
from jaxnas.strategies.acquisition import (
    check_acquisition,
    expected_improvement,
    upper_confidence_bound,
)
from jaxnas.strategies.draws import merit
from jaxnas.strategies.residual import (
    Features,
    Labels,
    Process,
    appended,
    covariance,
    empty,
    features,
    fitted,
    posterior,
    scale_of,
    variance,
)
from jaxnas.strategy import Asked, Strategy, Task, Told

LABELS = 256
"""So many labels are learnt from at most; of more the oldest are forgotten."""
FIRST = 4
"""Hyperparameters are fitted at so many labels, and whenever there are half as many more; till then
candidates come by what is expected of them alone."""
FLOOR = 3.0
"""Labels further below their median than so many times what the best lies above it count as that."""
SCREENED = 128
"""Thompson sampling draws jointly over so many of the highest upper confidence bounds."""


class DefaultState(NamedTuple):
    """Labels as they were told, the process given them, who was asked `bool[C]`, and how many."""

    key: jax.Array
    labels: Labels
    process: Process
    seen: jax.Array
    told: jax.Array


@dataclass(frozen=True)
class Default(Strategy):
    """Bayesian optimisation that begins where the label-free ranking ends.

    A Gaussian process on the ranking's residual (`jaxnas.strategies.residual`) says what to expect of
    each class of equal functions. With no label it is the ranking itself, with no ranking a plain
    process. A batch is chosen one after another, each as if those before had turned out as expected. Who
    failed is not asked again, and teaches nothing else. Full trainings only.

    Args:
        acquisition: `ei`, `ucb` or `thompson`.
        kappa: of the upper confidence bound.
    """

    name: ClassVar[str] = "default"
    paper: ClassVar[str] = "jaxnas, docs/strategies.md"
    traced: ClassVar[bool] = True
    ranked: ClassVar[bool] = True
    acquisition: str = "ei"
    kappa: float = 1.0

    def __post_init__(self) -> None:
        check_acquisition(self.acquisition)
        if self.kappa < 0:
            raise InputError(f"kappa is {self.kappa}, expected at least 0.")

    def init(self, task: Task, key: jax.Array) -> DefaultState:
        """No labels."""
        room = min(task.budget, LABELS)
        none = jnp.zeros((), jnp.int32)
        labels = Labels(jnp.zeros(room, jnp.int32), jnp.zeros(room), none)
        seen = jnp.zeros(len(features(task).rows), bool)
        return DefaultState(key, labels, empty(task, room), seen, none)

    def ask(self, task: Task, state: DefaultState, n: int) -> Asked:
        """The `n` most promising, one after another; when all were asked, they come again."""
        known = features(task)
        labels, _ = standardised(state.labels)
        mean, _ = posterior(known, state.process, labels, scale_of(known, state.process, labels))
        best = jnp.where(present(labels), mean[labels.candidates], -jnp.inf).max()

        def one(carry: tuple[Process, jax.Array, jax.Array], key: jax.Array) -> tuple[Any, Any]:
            process, seen, best = carry
            left = variance(known, process.hyper) - process.explained
            promise = self._promise(known, process, mean, left, best, seen, key)
            # Before hyperparameters were fitted deviations mean little: the ranking's order, as far as
            # labels do not speak against it.
            promise = jnp.where(labels.held < FIRST, mean, promise)
            # Who was asked comes last; equals are told apart by chance.
            promise = jnp.where(seen, -jnp.inf, promise)
            equal = promise == promise.max()
            tie = jax.random.uniform(jax.random.fold_in(key, 1), mean.shape)
            found = jnp.argmax(jnp.where(equal, tie, -1))
            after = appended(known, process, found)
            return (after, seen.at[found].set(True), jnp.maximum(best, mean[found])), found

        keys = jax.random.split(jax.random.fold_in(state.key, state.told), n)
        start = (padded(state.process, n), state.seen, best)
        found = lax.scan(one, start, keys)[1]
        return Asked(jnp.asarray(known.rows)[found], jnp.full(n, task.full, jnp.int32))

    def tell(self, task: Task, state: DefaultState, asked: Asked, told: Told) -> DefaultState:
        """Labels are added; hyperparameters are fitted anew whenever there are half as many more."""
        known = features(task)
        candidates = jnp.asarray(known.of)[asked.rows]
        room = len(state.labels.fitness)

        def add(labels: Labels, new: tuple[jax.Array, jax.Array]) -> tuple[Labels, None]:
            place = jnp.where(new[1] > -jnp.inf, labels.held % room, room)
            return Labels(
                labels.candidates.at[place].set(new[0], mode="drop"),
                labels.fitness.at[place].set(new[1], mode="drop"),
                labels.held + (place < room),
            ), None

        labels = lax.scan(add, state.labels, (candidates, merit(told)))[0]
        process = _grown(known, state, labels)
        seen = state.seen.at[candidates].set(True)
        return DefaultState(state.key, labels, process, seen, state.told + len(asked.rows))

    def predict(
        self, task: Task, state: DefaultState, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean and standard deviation of a label, noise and all; None before there is a label."""
        if not int(state.labels.held):
            return None
        known = features(task)
        labels, centre = standardised(state.labels)
        scale = scale_of(known, state.process, labels)
        mean, std = posterior(known, state.process, labels, scale)
        std = jnp.sqrt(jnp.square(std) + jnp.square(state.process.hyper[2]))
        of = known.of[np.asarray(rows)]
        return np.asarray(mean * scale + centre)[of], np.asarray(std * scale)[of]

    def _promise(
        self,
        known: Features,
        process: Process,
        mean: jax.Array,
        left: jax.Array,
        best: jax.Array,
        seen: jax.Array,
        key: jax.Array,
    ) -> jax.Array:
        """The acquisition of each candidate, `float32[C]`."""
        std = jnp.sqrt(jnp.maximum(left, 1e-6))
        if self.acquisition == "ei":
            return expected_improvement(mean, std, best)
        if self.acquisition == "ucb":
            return upper_confidence_bound(mean, std, self.kappa)
        return _thompson(known, process, mean, std, seen, key)


def standardised(labels: Labels) -> tuple[Labels, jax.Array]:
    """Labels without their mean, the lowest raised to a floor, and that mean `float32[]`."""
    there = present(labels)
    median = jnp.nanmedian(jnp.where(there, labels.fitness, jnp.nan))
    best = jnp.where(there, labels.fitness, -jnp.inf).max()
    raised = jnp.maximum(labels.fitness, median - FLOOR * (best - median))
    centre = jnp.where(there, raised, 0).sum() / jnp.maximum(there.sum(), 1)
    return labels._replace(fitness=jnp.where(there, raised - centre, 0)), centre


def present(labels: Labels) -> jax.Array:
    """Which places hold a label, `bool[L]`."""
    return jnp.arange(len(labels.fitness)) < labels.held


def padded(process: Process, n: int) -> Process:
    """Room for `n` more labels."""
    size = len(process.factor)
    factor = jnp.eye(size + n, dtype=jnp.float32).at[:size, :size].set(process.factor)
    known = jnp.zeros((size + n, process.known.shape[1]), jnp.float32)
    return process._replace(factor=factor, known=known.at[:size].set(process.known))


def _grown(known: Features, state: DefaultState, labels: Labels) -> Process:
    """The process given these labels: grown by the new ones, or anew where hyperparameters changed."""
    room = len(labels.fitness)
    before, after = state.labels.held, labels.held
    steps = jnp.asarray(_steps(room))
    due = (steps <= before).sum() < (steps <= after).sum()
    anew = due | ((after > room) & (after > before))
    standard, _ = standardised(labels)
    hyper = fitted(known, standard, state.process.hyper, due)

    def blank(now: tuple[Process, jax.Array]) -> tuple[Process, jax.Array]:
        nothing = jax.tree.map(jnp.zeros_like, now[0])
        return nothing._replace(factor=jnp.eye(room), hyper=hyper), jnp.asarray(False)

    start = lax.while_loop(lambda now: now[1], blank, (state.process, anew))[0]
    return lax.while_loop(
        lambda now: now.held < jnp.minimum(after, room),
        lambda now: appended(known, now, labels.candidates[now.held]),
        start,
    )


def _steps(room: int) -> list[int]:
    """Numbers of labels at which hyperparameters are fitted."""
    found = [FIRST]
    while found[-1] < room:
        found.append(found[-1] + max(1, found[-1] // 2))
    return found


def _thompson(
    known: Features,
    process: Process,
    mean: jax.Array,
    std: jax.Array,
    seen: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """A joint draw over the `SCREENED` most promising that were not asked, -inf elsewhere."""
    bound = jnp.where(seen, -jnp.inf, upper_confidence_bound(mean, std, 2.0))
    some = lax.top_k(bound, min(SCREENED, len(mean)))[1]
    own = process.known[:, some]
    left = covariance(known, process.hyper, some, some) - own.T @ own
    factor = jnp.linalg.cholesky(left + 1e-3 * jnp.eye(len(some)))
    drawn = mean[some] + factor @ jax.random.normal(key, some.shape)
    return jnp.full_like(mean, -jnp.inf).at[some].set(drawn)
