"""Hyperband: brackets of successive halving, from many short trainings to few long ones."""

from dataclasses import dataclass
from typing import ClassVar

from jaxnas.hpo.brackets import Brackets
from jaxnas.hpo.rungs import RungState
from jaxnas.strategies.brackets import Bracket
from jaxnas.strategies.hyperband import hyperband_brackets


@dataclass(frozen=True)
class Hyperband(Brackets):
    """Brackets s = s_max ... 0 of n = ceil((s_max + 1) / (s + 1) eta^s) trials, over and over."""

    name: ClassVar[str] = "hyperband"
    paper: ClassVar[str] = "Li et al., Hyperband, arXiv:1603.06560"

    def plan(self, state: RungState) -> tuple[Bracket, ...]:
        """The paper's."""
        return hyperband_brackets(state.merits.shape[1], self.eta)
