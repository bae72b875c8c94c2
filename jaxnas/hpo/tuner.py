"""What a tuner is: who copies whose weights and is trained with which hyper-parameters next.

A trial is a member of a running population, so that copying weights is a gather along its first axis.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np

from jaxnas.errors import InputError
from jaxnas.hpo.space import Space


class Segment(NamedTuple):
    """What N members do next, together.

    copy: `int32[N]`, whose weights a member begins with; itself: it goes on; -1: it begins anew.
    hyper: `float64[N, P]`, rows of the space.
    which: `bool[N]`, who is trained; whatever is said of the others means nothing but `copy`.
    units: how long each of them is trained.
    """

    copy: np.ndarray
    hyper: np.ndarray
    which: np.ndarray
    units: int

    @property
    def cost(self) -> int:
        """Candidate-units: `units` for each member that is trained."""
        return int(self.which.sum()) * self.units


class Trials(Protocol):
    """A population that can be trained; `state` is whatever it likes, and may be used up by a call."""

    def init(self, seeds: np.ndarray) -> Any:
        """N fresh members, `seeds: uint32[N]`."""
        ...

    def train(
        self, state: Any, values: Mapping[str, np.ndarray], which: np.ndarray, units: int
    ) -> Any:
        """The members `which: bool[N]` trained for `units` with `values[name]: float32[N]`."""
        ...

    def evaluate(self, state: Any) -> np.ndarray:
        """Fitness `float[N]`, more is better; NaN: diverged."""
        ...

    def gather(self, state: Any, rows: np.ndarray, seeds: np.ndarray) -> Any:
        """Member i begins with the weights of member `rows[i]`, or anew from `seeds[i]` if that is -1."""
        ...


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class Job:
    """What is tuned: a space, by `n` members, each trained for at most `units`.

    `first: float64[k, P]` are rows to begin with, what is known to be good; None: there are none.

    Raises:
        InputError: no members, or no units; rows to begin with that the space does not have, or more than
            members.
    """

    space: Space
    n: int
    units: int
    first: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"There are {self.n} members, expected at least 1.")
        if self.units < 1:
            raise InputError(f"A training lasts {self.units} units, expected at least 1.")
        if self.first is not None:
            self._check_first(np.asarray(self.first))

    def _check_first(self, first: np.ndarray) -> None:
        if first.ndim != 2 or first.shape[1] != self.space.dimensions:
            raise InputError(
                f"Rows to begin with have shape {first.shape}, expected [k, {self.space.dimensions}]."
            )
        if len(first) > self.n:
            raise InputError(f"There are {len(first)} rows to begin with, for {self.n} members.")
        if not self.space.allowed(first).all():
            raise InputError("A row to begin with has a combination that the space forbids.")

    def begin(self, drawn: np.ndarray) -> np.ndarray:
        """`drawn` rows, the first of which give way to `first`."""
        if self.first is None:
            return drawn
        return np.concatenate([self.first[: len(drawn)], drawn[len(self.first) :]])


class Tuner(abc.ABC):
    """Pure: states are pytrees of NumPy arrays that are never changed, and asking twice gives the same.

    All that is drawn comes from the key, so that the fitness told so far leads to the same state again.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    """The reference."""
    fresh: ClassVar[bool] = False
    """Whether all members begin anew in every segment, so that earlier weights are never needed."""

    @abc.abstractmethod
    def init(
        self,
        space: Space,
        n: int,
        units: int,
        key: jax.Array,
        *,
        first: np.ndarray | None = None,
    ) -> Any:
        """The state before anything was trained; the key is consumed.

        Args:
            space: what there is to choose.
            n: members of the population, all of which may be trained in one segment.
            units: what a full training of one member is.
            key: a `jax.random.key`.
            first: rows to begin with, `float64[k, P]`.
        """

    @abc.abstractmethod
    def ask(self, state: Any) -> Segment | None:
        """What is to be done next; None: nothing more."""

    @abc.abstractmethod
    def tell(self, state: Any, fitness: np.ndarray) -> Any:
        """The state after the segment that `ask(state)` gives, `fitness: float[N]`.

        NaN of a member that was trained means that it diverged.
        """

    def record(self, state: Any, segment: Segment, fitness: np.ndarray) -> None:
        """Keep a last segment that only some of those members were trained in that `ask(state)` gives.

        `tell` keeps whole ones. Most tuners keep nothing.
        """
        return

    def told_before(self, state: Any) -> list[np.ndarray]:
        """What was told in a run with the same key that was interrupted, where a tuner keeps it."""
        return []


def seed_of(key: jax.Array) -> np.ndarray:
    """`uint32[2]` of a random key, which NumPy's generators are seeded with; consumes the key."""
    return np.asarray(jax.random.key_data(key), np.uint32).reshape(-1)


def generator(seed: np.ndarray, *place: int) -> np.random.Generator:
    """The generator that belongs to a place in a tuner's course; the same each time."""
    return np.random.default_rng([*map(int, seed), *place])


def checked_fitness(segment: Segment, fitness: np.ndarray) -> np.ndarray:
    """`float64[N]` of what was told, NaN for members that were not trained.

    Raises:
        InputError: another number of members.
    """
    fitness = np.array(fitness, float)
    if fitness.shape != segment.which.shape:
        raise InputError(
            f"Fitness has shape {fitness.shape}, expected one number for each of "
            f"{len(segment.which)} members."
        )
    return np.where(segment.which, fitness, np.nan)


def trained_fitness(segment: Segment, fitness: np.ndarray) -> np.ndarray:
    """The same, -inf for members that diverged."""
    fitness = checked_fitness(segment, fitness)
    return np.where(segment.which & np.isnan(fitness), -np.inf, fitness)
