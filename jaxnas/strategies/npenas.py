"""NPENAS: evolution whose offspring a predictor screens."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxnas.errors import InputError
from jaxnas.strategies.members import members
from jaxnas.strategies.surrogate import History, Surrogate, highest, mutants, rng_of
from jaxnas.strategy import Task


@dataclass(frozen=True)
class Npenas(Surrogate):
    """Of many offspring of the best those with the highest predicted mean are trained (NPENAS-NP).

    The paper's predictor is a graph network on directed graphs, `gnn`; it trains ten at a time out of 100
    offspring.

    Args:
        predictor: any of the registry.
        parents: so many of the best have offspring.
        offspring: of one ask.
        steps: mutations of one offspring at most, their number drawn uniformly.
    """

    name: ClassVar[str] = "npenas"
    paper: ClassVar[str] = (
        "Wei, Niu, Tang, Wang, Hu, Liang, NPENAS: Neural Predictor Guided Evolution for Neural "
        "Architecture Search, arXiv:2003.12857"
    )
    predictor: str = "gnn"
    parents: int = 10
    offspring: int = 100
    steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.parents, self.offspring, self.steps) < 1:
            raise InputError(
                f"{self.parents} parents, {self.offspring} offspring and {self.steps} mutations: "
                "expected at least 1 of each."
            )

    def chosen(self, task: Task, state: History, n: int) -> np.ndarray:
        """The offspring of the highest mean."""
        drawn = max(self.offspring, 4 * n)
        rows = mutants(members(task), state, rng_of(state), self.parents, drawn, self.steps)
        if not len(rows):
            return rows
        return rows[highest(self.fitted(task, state).predict(rows)[0], n)]
