"""Successive halving over the task's fidelities."""

import bisect
from dataclasses import dataclass
from typing import ClassVar

from jaxnas.strategies.brackets import Bracket, Halving, rung_counts
from jaxnas.strategy import Task


@dataclass(frozen=True)
class SuccessiveHalving(Halving):
    """`n` at the lowest fidelity, one of `eta` of them at the next, and so on to the highest.

    Args:
        n: how many begin; 0: as many as a round that takes the whole budget has.
    """

    name: ClassVar[str] = "successive_halving"
    paper: ClassVar[str] = (
        "Jamieson, Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, "
        "arXiv:1502.07943"
    )
    n: int = 0

    def brackets(self, task: Task) -> tuple[Bracket, ...]:
        """One bracket from the lowest fidelity."""
        if self.n:
            return (Bracket(self._counts(task, self.n), 0),)
        every = range(1, len(task.pool) + 1)
        limit = task.budget * task.fidelities[-1]
        n = max(1, bisect.bisect_right(every, limit, key=lambda n: self._spent(task, n)))
        return (Bracket(self._counts(task, n), 0),)

    def _counts(self, task: Task, n: int) -> tuple[int, ...]:
        return rung_counts(n, len(task.fidelities), self.eta)

    def _spent(self, task: Task, n: int) -> int:
        """Epochs of a round."""
        pairs = zip(self._counts(task, n), task.fidelities, strict=False)
        return sum(count * epochs for count, epochs in pairs)
