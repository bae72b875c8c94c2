"""Successive halving: many begin, one of eta is trained on at each rung."""

from dataclasses import dataclass
from typing import ClassVar

from jaxnas.errors import InputError
from jaxnas.hpo.brackets import Brackets
from jaxnas.hpo.rungs import RungState
from jaxnas.strategies.brackets import Bracket, rung_counts


@dataclass(frozen=True)
class SuccessiveHalving(Brackets):
    """`start` trials at the lowest rung, one of `eta` of them at the next, and so on; then anew.

    Args:
        start: how many begin; 0: as many as there are members.
    """

    name: ClassVar[str] = "successive_halving"
    paper: ClassVar[str] = (
        "Jamieson, Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, "
        "arXiv:1502.07943"
    )
    start: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start < 0:
            raise InputError(
                f"start is {self.start} trials, expected 1 or more, or 0: as many as members."
            )

    def plan(self, state: RungState) -> tuple[Bracket, ...]:
        """One bracket from the lowest rung."""
        begin = self.start or state.job.n
        return (Bracket(rung_counts(begin, state.merits.shape[1], self.eta), 0),)
