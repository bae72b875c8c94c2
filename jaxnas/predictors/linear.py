"""Linear models of normal scores."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxnas.predictor import Candidates
from jaxnas.predictors.encodings import encode
from jaxnas.predictors.regressor import Fitted, Regressor


@dataclass(frozen=True)
class Ridge(Regressor):
    """Ridge regression: w = (X'X + n lambda I)^-1 X'z, X centred over the labels.

    Its deviation is one number, the root of the mean squared leave-one-out residual,
    z_i - zhat_i over 1 - H_ii with H = X (X'X + n lambda I)^-1 X' + 1/n.

    Args:
        encoding: of the architectures.
        penalty: lambda.
    """

    name: ClassVar[str] = "ridge"
    paper: ClassVar[str] = "Hoerl and Kennard, Ridge Regression, Technometrics 12, 1970"

    encoding: str = "known"
    penalty: float = 0.1

    def learn(self, pool: Candidates, rows: np.ndarray, z: np.ndarray, *, seed: int) -> Fitted:
        """See `Regressor.learn`."""
        x = encode(self.encoding, pool)
        centre, level, n = x[rows].mean(axis=0), z.mean(), len(rows)
        given = x[rows] - centre
        # The kernel form: labels are fewer than columns.
        kernel = given @ given.T
        smooth = np.linalg.solve(kernel + n * self.penalty * np.eye(n), kernel).T
        weights = given.T @ np.linalg.solve(kernel + n * self.penalty * np.eye(n), z - level)
        left = 1 - np.diag(smooth) - 1 / n
        residual = (z - level - given @ weights) / np.maximum(left, 1e-6)
        # One label leaves nothing to compare with: normal scores have deviation 1.
        std = float(np.sqrt(np.mean(residual**2))) if n > 1 else 1.0

        def fitted(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return level + (x[asked] - centre) @ weights, np.full(len(asked), std)

        return fitted


@dataclass(frozen=True)
class BayesianLinear(Regressor):
    """Bayesian linear regression, both precisions by the evidence (scikit-learn's `BayesianRidge`).

    p(z | x) = N(m'x, x'Sx + 1/alpha), with S = (lambda I + alpha X'X)^-1 and m = alpha S X'z.
    """

    name: ClassVar[str] = "bayesian_linear"
    paper: ClassVar[str] = "MacKay, Bayesian Interpolation, Neural Computation 4, 1992"

    encoding: str = "known"

    def learn(self, pool: Candidates, rows: np.ndarray, z: np.ndarray, *, seed: int) -> Fitted:
        """See `Regressor.learn`."""
        x = encode(self.encoding, pool)
        if len(rows) < 2:
            return lambda asked: (np.full(len(asked), z.mean()), np.ones(len(asked)))
        from sklearn.linear_model import BayesianRidge  # as in `forest`

        model = BayesianRidge().fit(x[rows], z)
        return lambda asked: model.predict(x[asked], return_std=True)
