"""Random forests of normal scores."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxnas.predictor import Candidates
from jaxnas.predictors.encodings import encode
from jaxnas.predictors.regressor import Fitted, Regressor


@dataclass(frozen=True)
class RandomForest(Regressor):
    """Mean and standard deviation over trees grown on bootstrap samples (scikit-learn's).

    The deviation is that of the trees, which knows nothing of the labels' noise.

    Args:
        encoding: of the architectures.
        trees: how many.
        share: of the columns, among which each split is sought.
    """

    name: ClassVar[str] = "random_forest"
    paper: ClassVar[str] = "Breiman, Random Forests, Machine Learning 45, 2001"
    calibrated: ClassVar[bool] = False

    encoding: str = "known"
    trees: int = 200
    share: float = 1 / 3

    def learn(self, pool: Candidates, rows: np.ndarray, z: np.ndarray, *, seed: int) -> Fitted:
        """See `Regressor.learn`."""
        from sklearn.ensemble import (
            RandomForestRegressor,  # two seconds that most searches do not need
        )

        x = encode(self.encoding, pool).astype(np.float32)
        forest = RandomForestRegressor(self.trees, max_features=self.share, random_state=seed)
        forest.fit(x[rows], z)

        def fitted(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            each = np.stack([tree.predict(x[asked]) for tree in forest.estimators_])
            return each.mean(axis=0), each.std(axis=0)

        return fitted
