"""The time-varying Gaussian process of PB2 (Bogunovic et al., 2016; Parker-Holder et al., 2020).

f_1 = g_1 and f_(t+1) = sqrt(1 - w) f_t + sqrt(w) g_(t+1) with independent g_t ~ GP(0, k), so that
cov(f_i(h), f_j(h')) = k(h, h') (1 - w)^(|i - j| / 2).
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

JITTER = 1e-8
STEPS = 40
"""Of L-BFGS."""


class Kernel(NamedTuple):
    """k(h, h') = variance exp(-|h - h'|^2 / (2 length^2)); forgetting: w; noise: a variance."""

    variance: float = 1.0
    length: float = 0.5
    forgetting: float = 0.1
    noise: float = 0.01


PRIOR = Kernel()
"""Medians of the hyper-parameters' log-normal priors."""
SPREAD = (1.0, 0.7, 1.0, 1.5)
"""Their standard deviations in the logarithm."""
BOUNDS = ((0.05, 20.0), (0.05, 3.0), (1e-3, 0.5), (1e-4, 1.0))
"""What the hyper-parameters may be; beyond w = .5 hardly anything is remembered."""


def covariance(
    kernel: Kernel, x: np.ndarray, t: np.ndarray, y: np.ndarray, s: np.ndarray
) -> np.ndarray:
    """`float64[n, m]` of points `x: [n, F]` at times `t: [n]` with `y: [m, F]` at `s: [m]`, no noise."""
    square = np.square(x[:, None, :] - y[None, :, :]).sum(axis=2)
    apart = np.abs(t[:, None] - s[None, :])
    space = kernel.variance * np.exp(-square / (2 * kernel.length**2))
    return space * (1 - kernel.forgetting) ** (apart / 2)


class Process(NamedTuple):
    """A posterior: the points it knows, and the factors of K + noise I."""

    kernel: Kernel
    x: np.ndarray
    t: np.ndarray
    factor: np.ndarray
    weights: np.ndarray

    def mean(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        """k_t(h)' (K_t + noise I)^-1 y, `float64[m]`."""
        return covariance(self.kernel, x, t, self.x, self.t) @ self.weights

    def deviation(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        """The root of k(h, h) - k_t(h)' (K_t + noise I)^-1 k_t(h), `float64[m]`: of f, without noise."""
        between = covariance(self.kernel, self.x, self.t, x, t)
        inner = solve_triangular(self.factor, between, lower=True)
        return np.sqrt(np.maximum(self.kernel.variance - np.square(inner).sum(axis=0), 0.0))


def condition(kernel: Kernel, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Process:
    """The posterior of values `y: [n]` at points `x: [n, F]` and times `t: [n]`."""
    whole = covariance(kernel, x, t, x, t) + (kernel.noise + JITTER) * np.eye(len(y))
    factor = cholesky(whole, lower=True)
    return Process(kernel, x, t, factor, cho_solve((factor, True), y))


def log_posterior(kernel: Kernel, x: np.ndarray, t: np.ndarray, y: np.ndarray) -> float:
    """The logarithm of the marginal likelihood and of the priors, constants left out."""
    process = condition(kernel, x, t, y)
    fit = -0.5 * y @ process.weights - np.log(np.diag(process.factor)).sum()
    off = (np.log(kernel) - np.log(PRIOR)) / np.array(SPREAD)
    return float(fit - 0.5 * off @ off)


def fit(x: np.ndarray, t: np.ndarray, y: np.ndarray) -> Kernel:
    """The kernel of the highest posterior density, by L-BFGS from the priors' medians."""
    bounds = np.log(np.array(BOUNDS))

    def loss(log: np.ndarray) -> float:
        return -log_posterior(Kernel(*np.exp(log)), x, t, y)

    start = np.log(np.array(PRIOR))
    found = minimize(loss, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
    return Kernel(*np.exp(np.clip(found.x, *bounds.T)).tolist())
