"""How many linear regions of a network of ReLUs the inputs of a small batch fall into (TE-NAS).

Chen, Gong and Wang, Neural Architecture Search on ImageNet in Four GPU Hours, arXiv:2102.11535.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.proxies.relu_overlap import PRE_ACTIVATION, first_of_its_kind
from jaxnas.proxy import Batch, ForwardProxy

PATCH = 3
"""The side of the squares that linear regions are counted with, as in TE-NAS."""


def patches(batch: Batch) -> jax.Array:
    """The images cut into squares of `PATCH` pixels, `[B (H // PATCH) (W // PATCH), PATCH, PATCH, C]`.

    What is left over at the right and at the bottom is not used; images smaller than a square are
    one themselves.
    """
    b, h, w, c = batch.images.shape
    tall, wide = min(PATCH, h), min(PATCH, w)
    rows, columns = h // tall, w // wide
    images = batch.images[:, : rows * tall, : columns * wide]
    cut = images.reshape(b, rows, tall, columns, wide, c).swapaxes(2, 3)
    return cut.reshape(-1, tall, wide, c)


class Fingerprints(NamedTuple):
    """`codes: uint32[n, 2]`, 64 bits of each input's activation pattern; `failed` as in `Patterns`."""

    codes: jax.Array
    failed: jax.Array


@dataclass(frozen=True)
class RegionCodes:
    """A fingerprint of the pattern of ReLUs' first channel, over the whole network, of each input.

    One channel, as TE-NAS builds its networks one channel wide: with all of them no two inputs would
    share a region. Two patterns that differ share a fingerprint with a chance of 2^-64.
    """

    kinds: frozenset[str] = PRE_ACTIVATION

    def init(self, batch: int) -> Fingerprints:
        """Empty patterns."""
        return Fingerprints(jnp.zeros((batch, 2), jnp.uint32), jnp.float32(0))

    def contribution(
        self, kind: str, value: jax.Array, active: jax.Array | None = None
    ) -> Fingerprints:
        """Of one ReLU with inputs `[B, ..., C]`; every width has a first channel."""
        on = (value[..., 0] > 0).reshape(len(value), -1, 1)
        factors = _mixed(jnp.arange(2 * on.shape[1], dtype=jnp.uint32)).reshape(1, -1, 2)
        codes = jnp.sum(jnp.where(on, factors, 0), axis=1, dtype=jnp.uint32)
        return Fingerprints(codes, jnp.where(jnp.any(jnp.isnan(value)), jnp.float32(jnp.nan), 0))

    def fold(self, carry: Fingerprints, contribution: Fingerprints) -> Fingerprints:
        """The fingerprint of both patterns, in this order."""
        codes = _mixed(carry.codes * jnp.uint32(0x9E3779B1) + contribution.codes)
        return Fingerprints(codes, carry.failed + contribution.failed)


def _mixed(x: jax.Array) -> jax.Array:
    """A fixed permutation of `uint32` without visible structure (the finaliser of MurmurHash3)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return x


def distinct_codes(fingerprints: Fingerprints) -> jax.Array:
    """How many different patterns the inputs have, `float32[]`."""
    words = jnp.stack(lax.sort(tuple(fingerprints.codes.T), num_keys=2))
    return jnp.sum(first_of_its_kind(words)).astype(jnp.float32) + fingerprints.failed


linear_regions = ForwardProxy(
    name="linear_regions",
    paper="Chen et al., Neural Architecture Search on ImageNet in Four GPU Hours, arXiv:2102.11535",
    formula="number of distinct activation patterns, over the whole network, of many small inputs",
    protocol=f"squares of {PATCH}x{PATCH} pixels cut from the images; the first channel of each ReLU",
    tap=RegionCodes(),
    finish=distinct_codes,
    inputs=patches,
)
