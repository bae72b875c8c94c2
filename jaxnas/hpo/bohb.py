"""BOHB: Hyperband whose new trials are drawn where good ones were dense and bad ones were not."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxnas.errors import InputError
from jaxnas.hpo.hyperband import Hyperband
from jaxnas.hpo.kde import Guide, guided
from jaxnas.hpo.rungs import RungState


@dataclass(frozen=True)
class Bohb(Hyperband):
    """Hyperband; a new trial maximises l(x) / g(x) among draws from l with wider bands.

    l and g are kernel densities of the best `quantile` and of the others, at the highest rung that has
    at least P + 3 merits (`jaxnas.hpo.kde`); before there is one, and with probability
    `random_fraction`, it is drawn uniformly.

    Args:
        eta: one of so many is trained on.
        least: units of the lowest rung.
        random_fraction: share of new trials drawn uniformly.
        quantile: share of trials that count as good.
        candidates: draws from l that are compared.
        bandwidth: by which l's bands are wider for drawing.
    """

    name: ClassVar[str] = "bohb"
    paper: ClassVar[str] = "Falkner, Klein, Hutter, BOHB, arXiv:1807.01774"
    random_fraction: float = 1 / 3
    quantile: float = 0.15
    candidates: int = 64
    bandwidth: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (
            ("random_fraction", 0, 1),
            ("quantile", 0, 1),
            ("bandwidth", 0, 1e9),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} is {value}, expected {low} to {high:g}.")
        if self.candidates < 1:
            raise InputError(f"candidates is {self.candidates}, expected at least 1.")

    def propose(self, state: RungState, rng: np.random.Generator, count: int) -> np.ndarray:
        """New rows, each by the densities."""
        guide = Guide(self.random_fraction, self.quantile, self.candidates, self.bandwidth)
        space = state.job.space
        return np.stack([guided(space, state.merits, state.rows, rng, guide) for _ in range(count)])
