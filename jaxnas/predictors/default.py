"""The predictor that searches use unless told otherwise."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxnas.predictor import Candidates
from jaxnas.predictors.encodings import adjacency, normal_scores, proxy_ranks
from jaxnas.predictors.gaussian import Term, regress
from jaxnas.predictors.gp import constant
from jaxnas.predictors.regressor import Fitted, Regressor
from jaxnas.predictors.structure import paths, structure

SLOPE = 0.85
"""What a normal score of the label-free ranking is expected to say about one of the labels."""
NEAR = (0.5, 0.3)
"""Deviations of the priors of a term's scale and length, in the logarithm: little is learnt of them from
20 labels."""


@dataclass(frozen=True)
class Default(Regressor):
    """A Gaussian process on what the label-free ranking leaves unexplained.

    With p the ranking's normal scores and s those of the proxies,
    z = .85 p + w'(1, p, paths) + f(structure, s, p) + g(adjacency) + h(s) + noise. w has a Gaussian prior
    of mean 0; f, g and h are Gaussian processes with Matern 5/2 kernels; paths and structure are those of
    `jaxnas.predictors.structure`. All scales and lengths are fitted, under priors that 20 labels hardly
    move (`jaxnas.predictors.gaussian`). What is not there, ranking or proxies, is left out.
    """

    name: ClassVar[str] = "default"
    paper: ClassVar[str] = "jaxnas, docs/predictors.md"

    def learn(self, pool: Candidates, rows: np.ndarray, z: np.ndarray, *, seed: int) -> Fitted:
        """See `Regressor.learn`."""
        mean = np.zeros(len(pool))
        together = [structure(pool)]
        terms = [
            constant(len(pool)),
            Term(paths(pool), 0.25, spread=NEAR),
            Term(adjacency(pool), 0.2, float(np.sqrt(len(pool.space.decisions))), NEAR),
        ]
        if pool.scores:
            scores = proxy_ranks(pool) / np.sqrt(len(pool.scores))
            together.append(scores)
            terms.append(Term(scores, 0.3, 1.0, NEAR))
        if pool.prior is not None:
            ranked = normal_scores(pool.prior)[:, None]
            together.append(ranked / 2)
            terms.append(Term(ranked, 0.2, spread=NEAR))
            mean = SLOPE * ranked[:, 0]
        terms.append(Term(np.concatenate(together, axis=1), 0.4, 1.5, NEAR))
        return regress(terms, rows, z, mean, noise=0.3)
