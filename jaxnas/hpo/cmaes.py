"""CMA-ES: a normal distribution that moves towards good full trainings, through Optuna."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

from jaxnas.errors import InputError
from jaxnas.hpo.study import StudyTuner


@dataclass(frozen=True)
class Cmaes(StudyTuner):
    """Optuna's `CmaEsSampler`; what has no order, or is not always active, is drawn uniformly.

    Args:
        storage: where the study is kept (`StudyTuner`).
        study: its name.
        generation: trials of a generation; 0: 4 + floor(3 ln P).
    """

    name: ClassVar[str] = "cmaes"
    paper: ClassVar[str] = (
        "Hansen, Ostermeier, Completely Derandomized Self-Adaptation in Evolution Strategies, 2001; "
        "Hansen, arXiv:1604.00772; through Optuna"
    )
    generation: int = 0

    def sampler(self, optuna: Any, seed: int) -> Any:
        """The Optuna sampler, seeded.

        Raises:
            InputError: the package cmaes is not installed.
        """
        if find_spec("cmaes") is None:
            raise InputError(
                "The tuner cmaes needs the package cmaes, which is not installed: "
                "pip install 'jaxnas[hpo]'."
            )
        return optuna.samplers.CmaEsSampler(
            seed=seed,
            popsize=self.generation or None,
            warn_independent_sampling=False,
            independent_sampler=optuna.samplers.RandomSampler(seed=seed),
        )
