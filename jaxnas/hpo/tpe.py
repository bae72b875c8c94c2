"""TPE: draws where good trials were dense and bad ones were not, through Optuna."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxnas.hpo.study import StudyTuner


@dataclass(frozen=True)
class Tpe(StudyTuner):
    """Optuna's `TPESampler`, densities over all parameters jointly; members under way count as bad.

    Args:
        storage: where the study is kept (`StudyTuner`).
        study: its name.
        startup: so many trials are drawn uniformly first.
    """

    name: ClassVar[str] = "tpe"
    paper: ClassVar[str] = (
        "Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011; Watanabe, "
        "arXiv:2304.11127; through Optuna"
    )
    startup: int = 10

    def sampler(self, optuna: Any, seed: int) -> Any:
        """The Optuna sampler, seeded."""
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=self.startup, multivariate=True, constant_liar=True
        )
