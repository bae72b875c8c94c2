"""Gaussian processes of normal scores."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_matrix, diags

from jaxnas.predictor import Candidates
from jaxnas.predictors.dags import dags, once, weisfeiler_lehman
from jaxnas.predictors.encodings import encode
from jaxnas.predictors.gaussian import Term, regress
from jaxnas.predictors.regressor import Fitted, Regressor


def constant(n: int) -> Term:
    """The unknown mean of the labels' normal scores over the pool."""
    return Term(np.ones((n, 1)), 0.5)


@dataclass(frozen=True)
class GP(Regressor):
    """A Gaussian process with a Matern 5/2 kernel and one length for all columns.

    Hyperparameters maximise the marginal likelihood times log-normal priors
    (`jaxnas.predictors.gaussian`), the length's with its median at the root mean squared distance of the
    pool from its mean.
    """

    name: ClassVar[str] = "gp"
    paper: ClassVar[str] = "Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006"

    encoding: str = "known"

    def learn(self, pool: Candidates, rows: np.ndarray, z: np.ndarray, *, seed: int) -> Fitted:
        """See `Regressor.learn`."""
        x = encode(self.encoding, pool)
        length = float(np.sqrt(x.var(axis=0).sum())) or 1.0
        terms = [constant(len(x)), Term(x, 1.0, length)]
        return regress(terms, rows, z, np.zeros(len(x)))


@dataclass(frozen=True)
class WeisfeilerLehmanGP(Regressor):
    """A Gaussian process whose kernel compares graphs by the labels of their neighbourhoods.

    k(G, G') = sum_h s_h^2 <phi_h(G), phi_h(G')> / (|phi_h(G)| |phi_h(G')|), with phi_h the counts of the
    labels after h rounds of Weisfeiler-Lehman refinement and s_h by the marginal likelihood.

    Args:
        depth: the number of rounds.
    """

    name: ClassVar[str] = "gp_wl"
    paper: ClassVar[str] = "Ru et al., NAS-BOWL, arXiv:2006.07556"

    depth: int = 2

    def learn(self, pool: Candidates, rows: np.ndarray, z: np.ndarray, *, seed: int) -> Fitted:
        """See `Regressor.learn`."""
        terms = [Term(counts, 0.7) for counts in _rounds(self.depth)(pool)]
        return regress(terms, rows, z, np.zeros(len(pool)), noise=0.3)


@cache
def _rounds(depth: int) -> Callable[[Candidates], list[csr_matrix]]:
    return once(lambda pool: [_of_norm_one(c) for c in weisfeiler_lehman(dags(pool), depth)])


def _of_norm_one(counts: csr_matrix) -> csr_matrix:
    squares = np.asarray(counts.multiply(counts).sum(axis=1)).reshape(-1)
    return csr_matrix(diags(1 / np.sqrt(np.maximum(squares, 1.0))) @ counts)
