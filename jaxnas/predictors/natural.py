"""Natural gradient boosting of normal scores."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

import numpy as np

from jaxnas.errors import InputError
from jaxnas.predictor import Candidates
from jaxnas.predictors.encodings import encode
from jaxnas.predictors.regressor import Fitted, Regressor


@dataclass(frozen=True)
class NGBoost(Regressor):
    """Boosting of both parameters of N(mu(x), sigma(x)^2) along the natural gradient of -log p(z | x).

    Its deviations are of the training labels' fit, and too small where labels are few.

    Args:
        encoding: of the architectures.
        trees: boosting steps.
        rate: their size.
    """

    name: ClassVar[str] = "ngboost"
    paper: ClassVar[str] = "Duan et al., NGBoost, arXiv:1910.03225"
    calibrated: ClassVar[bool] = False

    encoding: str = "known"
    trees: int = 100
    rate: float = 0.04

    def learn(self, pool: Candidates, rows: np.ndarray, z: np.ndarray, *, seed: int) -> Fitted:
        """See `Regressor.learn`; `InputError` where the package is not installed."""
        if not find_spec("ngboost"):
            raise InputError(
                "The predictor ngboost needs the package ngboost, which is not installed: "
                "pip install 'jaxnas[predictors]'."
            )
        from ngboost import NGBRegressor  # pyright: ignore[reportMissingImports]
        from sklearn.tree import DecisionTreeRegressor

        x = encode(self.encoding, pool)
        if np.ptp(z) == 0:  # no distribution can be fitted to one value
            return lambda asked: (np.full(len(asked), z[0]), np.ones(len(asked)))
        # The package's own default, which leaves the trees' seed to NumPy's global state.
        tree = DecisionTreeRegressor(max_depth=3, random_state=seed)
        model = NGBRegressor(
            Base=tree,
            n_estimators=self.trees,
            learning_rate=self.rate,
            col_sample=0.5,
            random_state=seed,
            verbose=False,
        ).fit(x[rows], z)

        def fitted(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = model.pred_dist(x[asked])
            return found.params["loc"], found.params["scale"]

        return fitted
