"""Extrapolation of learning curves."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxnas.errors import InputError
from jaxnas.predictor import Candidates
from jaxnas.predictors.encodings import encode, normal_scores
from jaxnas.predictors.gaussian import Term, regress
from jaxnas.predictors.gp import constant
from jaxnas.predictors.regressor import Fitted, Regressor


@dataclass(frozen=True)
class Curve(Regressor):
    """The end of a training from its beginning, by regression over architectures as in Peephole.

    What is read of a curve of E epochs is its last value, its sum (of accuracies, as SoTL sums training
    losses) and its rise over its second half, as normal scores over who was trained so far; the
    regression is a Gaussian process, linear and Matern 5/2. Who was not trained has 0 in all three and is
    known by a fourth column; `encoding` says what else is read of architectures.
    """

    name: ClassVar[str] = "curve"
    paper: ClassVar[str] = (
        "Ru et al., Speedy Performance Estimation for NAS (SoTL), arXiv:2006.04492; "
        "Deng et al., Peephole, arXiv:1712.03351"
    )

    encoding: str = "known"

    def learn(self, pool: Candidates, rows: np.ndarray, z: np.ndarray, *, seed: int) -> Fitted:
        """See `Regressor.learn`; `InputError` where candidates have no curves."""
        if pool.curves is None or not np.isfinite(pool.curves).any():
            raise InputError(
                "The predictor curve needs learning curves, and the candidates have none."
            )
        x, other = summaries(pool.curves), encode(self.encoding, pool)
        length = float(np.sqrt(other.var(axis=0).sum())) or 1.0
        terms = [constant(len(x)), Term(x, 0.5), Term(x, 0.3, 2.0), Term(other, 0.3, length)]
        return regress(terms, rows, z, np.zeros(len(x)))


def summaries(curves: np.ndarray) -> np.ndarray:
    """Last value, sum and late rise as normal scores, and who has no curve; `float64[N, 4]`.

    Curves may end at different epochs; the sum is the mean over those there are.
    """
    finite = np.isfinite(curves)
    there = np.flatnonzero(finite.any(axis=1))
    kept, known = np.where(finite, curves, 0.0)[there], finite[there]
    epochs = np.arange(curves.shape[1])
    last = np.where(known, epochs, -1).max(axis=1)
    end = kept[np.arange(len(there)), last]
    middle = kept[np.arange(len(there)), last // 2]
    found = np.zeros((len(curves), 4))
    found[:, 3] = 1.0
    for column, values in enumerate((end, kept.sum(axis=1) / known.sum(axis=1), end - middle)):
        found[there, column] = normal_scores(values)
    found[there, 3] = 0.0
    return found
