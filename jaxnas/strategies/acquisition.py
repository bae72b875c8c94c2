"""How promising a candidate is, by the mean and standard deviation of what is expected of it."""

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from jaxnas.errors import unknown

ACQUISITIONS = ("ei", "ucb", "thompson")


def check_acquisition(name: str) -> None:
    """`InputError` where there is no such acquisition."""
    if name not in ACQUISITIONS:
        raise unknown("acquisition", name, ACQUISITIONS)


def expected_improvement(mean: jax.Array, std: jax.Array, best: jax.Array) -> jax.Array:
    """E max(f - best, 0) of f ~ N(mean, std^2), elementwise: (m - b) Phi(u) + s phi(u), u = (m - b) / s.

    Mockus, 1975; Jones, Schonlau, Welch, Journal of Global Optimization 13, 1998.
    """
    std = jnp.maximum(std, 1e-9)
    u = (mean - best) / std
    return std * (u * norm.cdf(u) + norm.pdf(u))


def upper_confidence_bound(mean: jax.Array, std: jax.Array, kappa: float) -> jax.Array:
    """mean + kappa std, elementwise (Srinivas et al., arXiv:0912.3995)."""
    return mean + kappa * std


def independent_thompson(key: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """A draw of N(mean, std^2) for each, independently (White et al., BANANAS, arXiv:1910.11858)."""
    return mean + std * jax.random.normal(key, mean.shape, mean.dtype)
