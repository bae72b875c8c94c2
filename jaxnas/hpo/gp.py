"""GP: expected improvement of a Gaussian process over full trainings, through Optuna and PyTorch."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

from jaxnas.errors import InputError
from jaxnas.hpo.study import StudyTuner


@dataclass(frozen=True)
class Gp(StudyTuner):
    """Optuna's `GPSampler`, which computes with PyTorch; what is not always active is drawn uniformly.

    Args:
        storage: where the study is kept (`StudyTuner`).
        study: its name.
        startup: so many trials are drawn uniformly first.
    """

    name: ClassVar[str] = "gp"
    paper: ClassVar[str] = (
        "Snoek, Larochelle, Adams, Practical Bayesian Optimization, arXiv:1206.2944; through Optuna"
    )
    startup: int = 10

    def sampler(self, optuna: Any, seed: int) -> Any:
        """The Optuna sampler, seeded.

        Raises:
            InputError: PyTorch is not installed.
        """
        if find_spec("torch") is None:
            raise InputError(
                "The tuner gp needs PyTorch, which Optuna's Gaussian process computes with: "
                "pip install torch."
            )
        return optuna.samplers.GPSampler(
            seed=seed,
            n_startup_trials=self.startup,
            warn_independent_sampling=False,
            independent_sampler=optuna.samplers.RandomSampler(seed=seed),
        )
