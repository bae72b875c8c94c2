"""Hyperband: successive halving with several compromises between many candidates and long trainings."""

from dataclasses import dataclass
from typing import ClassVar

from jaxnas.strategies.brackets import Bracket, Halving, rung_counts
from jaxnas.strategy import Task


@dataclass(frozen=True)
class Hyperband(Halving):
    """Brackets s = s_max ... 0 of n = ceil((s_max + 1) / (s + 1) eta^s) members, s rungs below the top.

    s_max + 1 is the number of the task's fidelities, which stand for the paper's R eta^-s epochs; where
    they are not eta times each other, its brackets do not cost the same.
    """

    name: ClassVar[str] = "hyperband"
    paper: ClassVar[str] = "Li et al., Hyperband, arXiv:1603.06560"

    def brackets(self, task: Task) -> tuple[Bracket, ...]:
        """The paper's, from the lowest fidelity to the highest."""
        return hyperband_brackets(task.full + 1, self.eta)


def hyperband_brackets(rungs: int, eta: int) -> tuple[Bracket, ...]:
    """The brackets over so many rungs, s = `rungs` - 1 ... 0 (arXiv:1603.06560, algorithm 1)."""
    most = rungs - 1
    found = []
    for s in range(most, -1, -1):
        n = -(-(most + 1) * eta**s // (s + 1))
        found.append(Bracket(rung_counts(n, s + 1, eta), most - s))
    return tuple(found)
