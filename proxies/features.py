"""How much a network's feature maps differ between channels, from one forward pass: MeCo, NEAR."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.nn.context import SumTap
from jaxnas.proxy import ForwardProxy


@dataclass(frozen=True)
class SmallestEigenvalue(SumTap):
    """The smallest eigenvalue of the correlation of a map's channels, summed over convolutions."""

    kinds: frozenset[str] = frozenset({"affine"})

    def init(self, batch: int) -> jax.Array:
        """0."""
        return jnp.float32(0)

    def contribution(
        self, kind: str, value: jax.Array, active: jax.Array | None = None
    ) -> jax.Array:
        """Of the first image's map, `[B, ..., C]`; 0 where there are not at least two positions.

        A channel that is the same everywhere is correlated with nothing, itself included, so that the
        eigenvalue is 0, as it is where there are at least as many channels as positions.
        """
        if value.ndim < 3:
            return jnp.float32(0) * jnp.sum(value.astype(jnp.float32))
        channels = value[0].reshape(-1, value.shape[-1]).astype(jnp.float32)
        positions = len(channels)
        centred = channels - channels.mean(0, keepdims=True)
        norms = jnp.sqrt(jnp.square(centred).sum(0))
        # What rounding leaves of a constant channel is no variation.
        constant = norms <= 1e-6 * positions**0.5 * jnp.abs(channels).max(0)
        unit = centred / jnp.where(constant, 1, norms)[None]
        correlation = jnp.matmul(unit.T, unit, precision=lax.Precision.HIGHEST)
        there = jnp.ones(channels.shape[1]) if active is None else active
        # Of a channel that is not there: 1 on the diagonal, never the smallest, as they average 1.
        correlation += jnp.diag(1 - there.astype(jnp.float32))
        smallest = jnp.linalg.eigvalsh(correlation)[0]
        deficient = jnp.any(constant & (there > 0)) | (there.sum() >= positions)
        return jnp.where(deficient, 0 * smallest, jnp.maximum(smallest, 0))


@dataclass(frozen=True)
class EffectiveRanks(SumTap):
    """The effective ranks of what enters and what leaves a ReLU, summed over ReLUs."""

    kinds: frozenset[str] = frozenset({"pre_activation"})

    def init(self, batch: int) -> jax.Array:
        """0."""
        return jnp.float32(0)

    def contribution(
        self, kind: str, value: jax.Array, active: jax.Array | None = None
    ) -> jax.Array:
        """Of one ReLU with inputs `[B, ..., C]`: of as many rows (position by position, image by
        image) as there are channels, no more."""
        width = value.shape[-1]
        rows = value.reshape(-1, width)[:width].astype(jnp.float32)
        if active is not None:
            # Zero rows and columns leave the other singular values as they are.
            there = active.astype(jnp.float32)
            rows = rows * there[: len(rows), None] * there[None]
        return effective_rank(rows) + effective_rank(jax.nn.relu(rows))


def effective_rank(matrix: jax.Array) -> jax.Array:
    """exp(-sum_i p_i ln p_i), p the singular values divided by their sum; 0 for a matrix of zeros.

    Roy and Vetterli, The Effective Rank, EUSIPCO 2007. Between 1 and the rank.
    """
    values = jnp.linalg.svd(matrix, compute_uv=False)
    total = values.sum()
    p = values / jnp.where(total == 0, 1, total)
    entropy = jnp.where(p == 0, 0, -p * jnp.log(jnp.where(p == 0, 1, p))).sum()
    return jnp.where(total == 0, 0, jnp.exp(entropy))


meco = ForwardProxy(
    name="meco",
    paper="Jiang et al., MeCo: Zero-Shot NAS with One Data and Single Forward Pass, NeurIPS 2023",
    formula="sum over convolutions of the smallest eigenvalue of the channels' correlation matrix",
    protocol="the maps of the batch's first image",
    tap=SmallestEigenvalue(),
    finish=lambda total: total,
)

near = ForwardProxy(
    name="near",
    paper="Husistein, Reiher and Eckhoff, NEAR: A Training-Free Pre-Estimator, arXiv:2408.08776",
    formula="sum over ReLUs of erank(inputs) + erank(outputs), erank = exp(entropy of s / sum s)",
    protocol="as many positions as a map has channels, the first image's first",
    tap=EffectiveRanks(),
    finish=lambda total: total,
)
