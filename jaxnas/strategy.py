"""What a search strategy is: who is trained next, given what came of those before."""

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from jaxnas.errors import InputError
from jaxnas.predictor import Candidates


@dataclass(frozen=True, eq=False)
class Task:
    """What a search is about.

    Tasks are told apart by identity, so that a program may be compiled for one.

    Args:
        pool: the architectures there are to choose from, with what is known of them without training:
            a whole space where it can be listed, else a ranked sample. Members go by their row.
        budget: how many full trainings are planned; rungs and temperatures may be laid out by it.
        fidelities: epochs that a training may last, ascending; the last is a full one.
        costs: of each member `float[N, C]`, less is better (parameters, multiply-adds, latency):
            further objectives; None: fitness is the only one.
        limits: the most that each cost may be, infinity where there is no limit; None: none has one.

    Raises:
        InputError: nothing to choose from, a budget below 1, fidelities that do not ascend, costs of
            another shape or not finite, or limits that no member meets (how near the nearest comes).
    """

    pool: Candidates
    budget: int
    fidelities: tuple[int, ...] = (1,)
    costs: Any = None
    limits: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not len(self.pool):
            raise InputError("There is no architecture to choose from.")
        if self.budget < 1:
            raise InputError(f"The budget is {self.budget} trainings, expected at least 1.")
        rising = all(a < b for a, b in zip((0, *self.fidelities), self.fidelities, strict=False))
        if not self.fidelities or not rising:
            raise InputError(
                f"Fidelities are {self.fidelities}, expected ascending numbers of epochs."
            )
        costs = self.cost_table
        if len(costs) != len(self.pool) or not np.isfinite(costs).all():
            raise InputError(
                f"Costs have shape {costs.shape}, expected finite numbers for each member."
            )
        if self.limits is not None and len(self.limits) != costs.shape[1]:
            raise InputError(f"There are {len(self.limits)} limits for {costs.shape[1]} costs.")
        if self.violations.min() > 0:
            nearest = int(self.violations.argmin())
            raise InputError(
                f"None of {len(self.pool):,} architectures meets the limits {self.limits}; the nearest "
                f"costs {tuple(costs[nearest].tolist())}."
            )

    @cached_property
    def cost_table(self) -> np.ndarray:
        """The costs, `float64[N, C]`; C is 0 where there are none."""
        return (
            np.zeros((len(self.pool), 0)) if self.costs is None else np.asarray(self.costs, float)
        )

    @cached_property
    def violations(self) -> np.ndarray:
        """By how much each member breaks its limits, `float64[N]`.

        That is the sum over costs c with a limit l of max(0, c / l - 1), 0 where all are kept.
        """
        if self.limits is None:
            return np.zeros(len(self.pool))
        limits = np.asarray(self.limits, float)
        if (limits <= 0).any():
            raise InputError(f"Limits are {self.limits}, expected positive numbers.")
        return np.maximum(self.cost_table / limits - 1, 0).sum(axis=1)

    @property
    def full(self) -> int:
        """The index of the highest fidelity."""
        return len(self.fidelities) - 1


class Asked(NamedTuple):
    """A batch of trainings: rows of the pool `int32[n]`, each at a fidelity `int32[n]`, an index."""

    rows: jax.Array
    fidelity: jax.Array


class Told(NamedTuple):
    """What came of a batch: fitness `float32[n]`; `failed: bool[n]`, whose fitness means nothing."""

    fitness: jax.Array
    failed: jax.Array


class Strategy(abc.ABC):
    """Pure: states are pytrees that are never changed, and asking twice gives the same."""

    name: ClassVar[str]
    paper: ClassVar[str]
    """The reference."""
    traced: ClassVar[bool]
    """Whether all may be traced by JAX, task and `n` fixed: simulations then run thousands at once."""
    ranked: ClassVar[bool] = False
    """Whether it needs the label-free ranking or scores, whose seconds then count."""
    multi_fidelity: ClassVar[bool] = False
    """Whether it asks for trainings below the highest fidelity."""

    @abc.abstractmethod
    def init(self, task: Task, key: jax.Array) -> Any:
        """The state before anything was trained; the key is consumed."""

    @abc.abstractmethod
    def ask(self, task: Task, state: Any, n: int) -> Asked:
        """The next `n` trainings."""

    @abc.abstractmethod
    def tell(self, task: Task, state: Any, asked: Asked, told: Told) -> Any:
        """The state after these trainings."""

    def predict(
        self, task: Task, state: Any, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean and standard deviation that it expects of members `rows: int64[n]`; None: it does not."""
        return None
