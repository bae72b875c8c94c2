"""Gaussian process regression with sums of kernels, hyperparameters by their posterior mode."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

STEPS = 50
"""Of L-BFGS, each one factorisation of the labels' kernel."""
MANY = 300
"""Labels that hyperparameters are fitted to at most; all of them are predicted from."""
CHUNK = 2048
"""Rows that are predicted in one go."""
JITTER = 1e-6
ROOT5 = np.sqrt(5.0)


@dataclass(frozen=True)
class Term:
    """A summand of the kernel over the pool's `features: [N, F]`.

    With `length` None it is linear, s^2 x'y; else Matern 5/2, s^2 (1 + a + a^2 / 3) exp(-a) with
    a = sqrt(5) |x - y| / l (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, 4.17).
    `scale` and `length` are the medians of log-normal priors of s and l, `spread` their standard
    deviations in the logarithm.
    """

    features: np.ndarray | csr_matrix
    scale: float
    length: float | None = None
    spread: tuple[float, float] = (1.0, 0.5)

    def start(self) -> list[float]:
        """Logarithms of the priors' medians."""
        return [np.log(self.scale), *([] if self.length is None else [np.log(self.length)])]

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Inner products, or distances, of rows of the pool."""
        x, y = self.features[a], self.features[b]
        product = x @ y.T
        dense = product.toarray() if isinstance(product, csr_matrix) else np.asarray(product)
        if self.length is None:
            return dense
        square = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)[None] - 2 * dense
        return np.sqrt(np.maximum(square, 0.0))

    def variance(self, rows: np.ndarray, log: np.ndarray) -> np.ndarray:
        """The kernel of each row with itself."""
        if self.length is not None:
            return np.full(len(rows), np.exp(2 * log[0]))
        x = self.features[rows]
        squares = x.multiply(x) if isinstance(x, csr_matrix) else np.square(x)
        return np.exp(2 * log[0]) * np.asarray(squares.sum(axis=1)).reshape(-1)

    def kernel(self, between: np.ndarray, log: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """The kernel, and its derivatives by the logarithms of its hyperparameters."""
        size = np.exp(2 * log[0])
        if self.length is None:
            return size * between, [2 * size * between]
        a = ROOT5 * between / np.exp(log[1])
        falling = size * np.exp(-a)
        kernel = (1 + a + a * a / 3) * falling
        return kernel, [2 * kernel, falling * (a * a / 3) * (1 + a)]


@dataclass(frozen=True)
class Posterior:
    """A Gaussian process given its labels: z = mean + sum of terms + noise."""

    terms: Sequence[Term]
    rows: np.ndarray
    mean: np.ndarray
    """Prior mean of the pool, `float64[N]`."""
    log: np.ndarray
    """Logarithms of the hyperparameters: those of each term, and the noise's standard deviation."""
    factor: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of a label, noise and all, at rows of the pool."""
        parts = [self._of(rows[i : i + CHUNK]) for i in range(0, max(len(rows), 1), CHUNK)]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cross, own = np.zeros((len(rows), len(self.rows))), np.zeros(len(rows))
        for term, log in _by_term(self.terms, self.log):
            cross += term.kernel(term.between(rows, self.rows), log)[0]
            own += term.variance(rows, log)
        known = solve_triangular(self.factor, cross.T, lower=True)
        variance = own - np.square(known).sum(axis=0) + np.exp(2 * self.log[-1])
        return self.mean[rows] + cross @ self.weights, np.sqrt(np.maximum(variance, JITTER))


def regress(
    terms: Sequence[Term],
    rows: np.ndarray,
    z: np.ndarray,
    mean: np.ndarray,
    *,
    noise: float = 0.4,
    noise_spread: float = 0.5,
) -> Posterior:
    """The process with the hyperparameters that maximise marginal likelihood times their priors.

    log p(z) = -1/2 (r' K^-1 r + log |K| + n log 2 pi), r = z - mean, whose gradient by a hyperparameter t
    is 1/2 tr((K^-1 r r' K^-1 - K^-1) dK/dt). Of more labels than `MANY`, as many decide, evenly spaced.
    """
    start = np.array([*(v for term in terms for v in term.start()), np.log(noise)])
    width = [w for term in terms for w in term.spread[: len(term.start())]]
    width = np.array([*width, noise_spread])
    rest = z - mean[rows]
    some = np.linspace(0, len(rows) - 1, min(len(rows), MANY)).astype(np.int64)
    between = [term.between(rows[some], rows[some]) for term in terms]
    best = _mode(terms, between, rest[some], start, width)
    between = [term.between(rows, rows) for term in terms]
    factor = cholesky(_kernel(terms, between, best)[0], lower=True)
    return Posterior(terms, rows, mean, best, factor, cho_solve((factor, True), rest))


def _mode(
    terms: Sequence[Term],
    between: Sequence[np.ndarray],
    rest: np.ndarray,
    start: np.ndarray,
    width: np.ndarray,
) -> np.ndarray:
    """The logarithms of the hyperparameters that are most probable, given `rest` = z - mean."""

    def loss(log: np.ndarray) -> tuple[float, np.ndarray]:
        kernel, slopes = _kernel(terms, between, log)
        factor = cholesky(kernel, lower=True)
        inverse = cho_solve((factor, True), np.eye(len(rest)))
        weights = inverse @ rest
        gain = np.outer(weights, weights) - inverse
        gradient = [0.5 * np.vdot(gain, slope) for slope in slopes]
        gradient.append(np.exp(2 * log[-1]) * np.trace(gain))
        away = (log - start) / width
        fits = 0.5 * rest @ weights + np.log(np.diag(factor)).sum()
        return fits + 0.5 * away @ away, away / width - np.array(gradient)

    options = {"maxiter": STEPS}
    return minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x


def _kernel(
    terms: Sequence[Term], between: Sequence[np.ndarray], log: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    total = np.diag(np.full(len(between[0]), np.exp(2 * log[-1]) + JITTER))
    slopes: list[np.ndarray] = []
    for (term, own), distances in zip(_by_term(terms, log), between, strict=True):
        kernel, more = term.kernel(distances, own)
        total += kernel
        slopes += more
    return total, slopes


def _by_term(terms: Sequence[Term], log: np.ndarray) -> list[tuple[Term, np.ndarray]]:
    sizes = np.cumsum([0, *(len(term.start()) for term in terms)])
    return [(term, log[a:b]) for term, a, b in zip(terms, sizes, sizes[1:], strict=False)]
