"""NSGA-II: evolution towards the Pareto front of fitness and costs."""

from dataclasses import dataclass
from typing import ClassVar

from jaxnas.strategies.domination import crowding, fronts
from jaxnas.strategies.genetic import Genetic, Group, Merits, objectives
from jaxnas.strategy import Task


@dataclass(frozen=True)
class Nsga2(Genetic):
    """Full trainings only; domination is constrained by the task's limits. Decisions are categorical, so
    that crossover is uniform and a mutation draws anew, in place of the paper's on real numbers."""

    name: ClassVar[str] = "nsga2"
    paper: ClassVar[str] = (
        "Deb, Pratap, Agarwal, Meyarivan, A fast and elitist multiobjective genetic algorithm: NSGA-II, "
        "IEEE Transactions on Evolutionary Computation 6(2), 2002"
    )

    def order(self, task: Task, group: Group) -> Merits:
        """By fitness and costs."""
        low, broken = objectives(task, group, group.merits)
        front = fronts(low, broken)
        return Merits(front, crowding(low, front))
