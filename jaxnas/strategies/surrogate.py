"""What strategies on a predictor of the registry have in common; they run in Python, ask by ask."""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError, unknown
from jaxnas.predictor import Model, Predictor
from jaxnas.predictors import ENCODINGS, PREDICTORS
from jaxnas.strategies.draws import merit
from jaxnas.strategies.listed import best_first
from jaxnas.strategies.members import Members, members
from jaxnas.strategy import Asked, Strategy, Task, Told


class History(NamedTuple):
    """Whom the search begins with `int32[N]`, and all that was told.

    `rows: int32[n]` and `merits: float32[n]`, -inf for who failed.
    """

    key: jax.Array
    first: np.ndarray
    rows: np.ndarray
    merits: np.ndarray


@dataclass(frozen=True)
class Surrogate(Strategy):
    """Full trainings only; nobody is trained twice while there are others.

    Args:
        predictor: a name of `jaxnas.predictors.PREDICTORS`.
        encoding: of the architectures, as in `adjacency+ranks`, for predictors that take one; empty: the
            predictor's own.
        initial: so many random members come first, a batch never reaching beyond them.
    """

    traced: ClassVar[bool] = False
    predictor: str = "gp"
    encoding: str = ""
    initial: int = 10

    def __post_init__(self) -> None:
        if self.predictor not in PREDICTORS:
            raise unknown("predictor", self.predictor, PREDICTORS)
        for part in self.encoding.split("+") if self.encoding else ():
            if part not in ENCODINGS:
                raise unknown("encoding", part, ENCODINGS)
        if self.encoding and not hasattr(PREDICTORS[self.predictor], "encoding"):
            raise InputError(f"{self.predictor} has an encoding of its own; got {self.encoding}.")
        if self.initial < 1:
            raise InputError(f"initial is {self.initial}, expected at least 1.")

    @abc.abstractmethod
    def chosen(self, task: Task, state: History, n: int) -> Iterable[int]:
        """Rows of the pool, best first, `n` or fewer, none of a class that was told."""

    def model(self) -> Predictor:
        """The predictor and its settings."""
        kind: Any = PREDICTORS[self.predictor]
        return dataclasses.replace(kind, encoding=self.encoding) if self.encoding else kind

    def init(self, task: Task, key: jax.Array) -> History:
        """A random order, one of each class before others."""
        draw, key = jax.random.split(key)
        order = np.asarray(jax.random.permutation(draw, len(task.pool)), np.int32)
        classes = members(task).classes[order]
        first = np.zeros(len(order), bool)
        first[np.unique(classes, return_index=True)[1]] = True
        order = order[np.argsort(~first, kind="stable")]
        return History(key, order, np.zeros(0, np.int32), np.zeros(0, np.float32))

    def ask(self, task: Task, state: History, n: int) -> Asked:
        """The first random members, then the chosen; where those are too few, random ones."""
        wanted: list[int] = []
        left = self.initial - len(state.rows)
        if left <= 0 and np.isfinite(state.merits).any():
            wanted = [int(row) for row in self.chosen(task, state, n)]
        classes = members(task).classes
        gone = np.zeros(members(task).kinds, bool)
        gone[classes[np.concatenate([state.rows, wanted]).astype(np.int64)]] = True
        later = state.first[np.argsort(gone[classes[state.first]], kind="stable")]
        rows = np.concatenate([wanted, np.resize(later, max(0, n - len(wanted)))])[:n]
        level = np.full(n, task.full, np.int32)
        return Asked(jnp.asarray(rows, "int32"), jnp.asarray(level))

    def tell(self, task: Task, state: History, asked: Asked, told: Told) -> History:
        """Noted."""
        rows = np.concatenate([state.rows, np.asarray(asked.rows, np.int32)])
        merits = np.concatenate([state.merits, np.asarray(merit(told))])
        return state._replace(rows=rows, merits=merits)

    def fitted(self, task: Task, state: History, lies: Sequence[tuple[int, float]] = ()) -> Model:
        """The predictor given all labels, and lies about further rows."""
        fine = np.isfinite(state.merits)
        rows = np.concatenate([state.rows[fine], [row for row, _ in lies]]).astype(np.int64)
        fitness = np.concatenate([state.merits[fine], [lie for _, lie in lies]])
        # With lies the seed stays: only what they say is to make a difference.
        seed = int(jax.random.randint(state.key, (), 0, 2**30)) + len(state.rows)
        return self.model().fit(task.pool, rows, fitness.astype(np.float64), seed=seed)

    def predict(
        self, task: Task, state: History, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The predictor's mean and standard deviation; None before there is a label."""
        if not np.isfinite(state.merits).any():
            return None
        return self.fitted(task, state).predict(np.asarray(rows, np.int64))


def rng_of(state: History) -> np.random.Generator:
    """The draws of the next ask."""
    words = np.asarray(jax.random.key_data(state.key)).tolist()
    return np.random.default_rng([*words, len(state.rows)])


def unseen_rows(pool: Members, state: History) -> np.ndarray:
    """The first member of each class that was not told, `int64[n]`."""
    first = np.unique(pool.classes, return_index=True)[1]
    seen = np.isin(pool.classes[first], pool.classes[state.rows])
    return np.sort(first[~seen])


def mutants(
    pool: Members, state: History, rng: np.random.Generator, parents: int, n: int, steps: int = 1
) -> np.ndarray:
    """About `n` mutants of the best `parents` members, each of another class and none told, `int64[m]`.

    Parents take turns; a mutant is 1 to `steps` random steps away, one decision each.
    """
    best = best_first(state.merits)[: min(parents, int(np.isfinite(state.merits).sum()))]
    rows = np.resize(state.rows[best], n).astype(np.int64)
    length = rng.integers(1, steps + 1, n)
    for step in range(steps):
        place = (rng.random((n, 1)) < pool.chances[rows]).argmax(axis=1)
        new = pool.neighbours[rows, place]
        rows = np.where((new >= 0) & (step < length), new, rows)
    rows = rows[~np.isin(pool.classes[rows], pool.classes[state.rows])]
    return rows[np.sort(np.unique(pool.classes[rows], return_index=True)[1])]


def bounded(rows: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """At most `n` of them, drawn without repetition."""
    return rows if len(rows) <= n else rows[np.sort(rng.choice(len(rows), n, replace=False))]


def evaluated(
    promise: Callable[[jax.Array, jax.Array], jax.Array],
    mean: np.ndarray,
    std: np.ndarray,
    size: int,
) -> np.ndarray:
    """`promise(mean, std)`, on `size` places, so that other numbers of candidates compile nothing."""
    filled = [np.resize(a.astype(np.float32), max(size, len(a))) for a in (mean, std)]
    return np.asarray(promise(*map(jnp.asarray, filled)))[: len(mean)]


def highest(values: Any, n: int) -> np.ndarray:
    """Places of the `n` highest, highest first."""
    return best_first(np.asarray(values))[:n]
