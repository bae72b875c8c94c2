"""Boosted trees of normal scores."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from jaxnas.predictor import Candidates
from jaxnas.predictors.encodings import encode
from jaxnas.predictors.regressor import Fitted, Regressor


@dataclass(frozen=True)
class Boosting(Regressor):
    """Mean and standard deviation over boosted trees, each fitted to a bootstrap sample of the labels.

    F_m = F_(m-1) + eta h_m, with h_m a tree fitted to the gradient of the squared loss. xgboost's
    where it is installed, else scikit-learn's `HistGradientBoostingRegressor`. The deviation is that of
    the members, which knows nothing of the labels' noise.

    Args:
        encoding: of the architectures.
        members: how many ensembles of trees.
        trees: of each.
        rate: eta.
        depth: of a tree at most.
    """

    name: ClassVar[str] = "boosting"
    paper: ClassVar[str] = "Chen and Guestrin, XGBoost, arXiv:1603.02754"
    calibrated: ClassVar[bool] = False

    encoding: str = "known"
    members: int = 5
    trees: int = 150
    rate: float = 0.08
    depth: int = 4

    def learn(self, pool: Candidates, rows: np.ndarray, z: np.ndarray, *, seed: int) -> Fitted:
        """See `Regressor.learn`."""
        x = encode(self.encoding, pool).astype(np.float32)
        rng = np.random.default_rng(seed)
        models = []
        for member in range(self.members):
            drawn = rng.integers(0, len(rows), len(rows))
            model = self._model((seed * self.members + member) % 2**31)  # what both libraries take
            with one_thread():
                models.append(model.fit(x[rows[drawn]], z[drawn]))

        def fitted(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            with one_thread():
                each = np.stack([model.predict(x[asked]) for model in models])
            return each.mean(axis=0), each.std(axis=0)

        return fitted

    def _model(self, seed: int) -> Any:
        if find_spec("xgboost"):
            from xgboost import XGBRegressor  # pyright: ignore[reportMissingImports]

            return XGBRegressor(
                n_estimators=self.trees,
                learning_rate=self.rate,
                max_depth=self.depth,
                subsample=0.8,
                colsample_bytree=0.5,
                random_state=seed,
                n_jobs=1,
            )
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor(
            max_iter=self.trees,
            learning_rate=self.rate,
            max_depth=self.depth,
            min_samples_leaf=3,
            early_stopping=False,  # pyright: ignore
            max_features=0.5,
            random_state=seed,
        )


def one_thread() -> Any:
    """A context in which scikit-learn's trees keep to one thread: on so few labels more only wait."""
    return threadpool_limits(1, user_api="openmp")
