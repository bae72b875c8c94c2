"""CARS-style continuous evolution: parents are trained on while children join; fast learners stay."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxnas.strategies.domination import crowding, fronts
from jaxnas.strategies.genetic import Genetic, GeneticState, Group, Merits, objectives
from jaxnas.strategy import Task


@dataclass(frozen=True)
class Cars(Genetic):
    """CARS' protected selection over the task's fidelities.

    Of each generation of 2 P trainings the first P train each parent on by one fidelity (a child takes
    the place of one at the highest), the others are children at the lowest. Survivors are chosen by two
    sortings at once, of (fitness, costs) and of (growth of fitness an epoch, costs): an architecture's
    front is the better of its two, so that large networks, which learn slowly, are not lost early. CARS
    inherits weights from one super-net; here each training is one of the task's. With one fidelity it
    is NSGA-II with twice as many young.
    """

    name: ClassVar[str] = "cars"
    paper: ClassVar[str] = (
        "Yang et al., CARS: Continuous Evolution for Efficient NAS, arXiv:1909.04977"
    )
    multi_fidelity: ClassVar[bool] = True

    @property
    def young(self) -> int:
        """Parents trained on, and children."""
        return 2 * self.population

    def lowest(self, task: Task) -> int:
        """Children begin at the lowest fidelity."""
        return 0

    def continued(
        self, task: Task, state: GeneticState, turn: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Each parent once, the first half of a generation."""
        place = jnp.minimum(turn, self.population - 1)
        parents = state.parents
        fine = parents.there[place] & (parents.merits[place] > -jnp.inf)
        return place, fine & (turn < self.population) & (parents.fidelity[place] < task.full)

    def order(self, task: Task, group: Group) -> Merits:
        """By the better of the two fronts, then by crowding in fitness and costs."""
        low, broken = objectives(task, group, group.merits)
        front = jnp.minimum(
            fronts(low, broken), fronts(objectives(task, group, group.growth)[0], broken)
        )
        return Merits(front, crowding(low, front))
