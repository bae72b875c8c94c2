"""Population based training: losing members copy weights and hyper-parameters, and change the latter."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxnas.errors import InputError
from jaxnas.hpo.explore import explored
from jaxnas.hpo.population import PopulationState, PopulationTuner


@dataclass(frozen=True)
class Pbt(PopulationTuner):
    """Exploring by perturbation: `jaxnas.hpo.explore`.

    Args:
        interval: units between two exchanges; 0: a tenth of a full training.
        exploit: truncation, binary_tournament or t_test (`jaxnas.hpo.exploit`).
        share: of the members, whom truncation replaces.
        up: a value is multiplied by this,
        down: or by this.
        resample: the chance that a hyper-parameter is drawn anew instead.
    """

    name: ClassVar[str] = "pbt"
    paper: ClassVar[str] = (
        "Jaderberg et al., Population Based Training of Neural Networks, arXiv:1711.09846"
    )
    up: float = 1.2
    down: float = 0.8
    resample: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.resample <= 1:
            raise InputError(f"resample is {self.resample:g}, expected 0 to 1.")
        if min(self.up, self.down) <= 0:
            raise InputError(f"Values are multiplied by {self.up:g} or {self.down:g}: not above 0.")

    def explore(
        self,
        state: PopulationState,
        rows: np.ndarray,
        changed: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Perturbed or drawn anew."""
        return explored(
            state.job.space,
            rows[changed],
            rng,
            up=self.up,
            down=self.down,
            resample=self.resample,
        )
