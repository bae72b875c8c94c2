"""Singular values of wide matrices, in float32 and by matrix products alone."""

from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp

EPSILON = float(jnp.finfo(jnp.float32).eps)


def singular_values(parts: Sequence[jax.Array]) -> jax.Array:
    """The singular values `float32[n]`, largest first, of `[n, m]` that is given in parts `[n, m_i]`.

    Meant for few long rows. The Gram matrix alone would lose all singular values below about 3e-4
    of the largest to rounding. So it serves only to turn and scale the rows until they are nearly
    orthonormal; the Gram matrix of these is well conditioned, and what it says is turned back. That
    leaves an error of about 1e-7 of the largest, as a singular value decomposition would, without
    copying or factorising what is long.
    """
    gram = _gram(parts)
    values, vectors = jnp.linalg.eigh(gram)
    lengths = jnp.sqrt(jnp.maximum(values, len(gram) * EPSILON * values[-1]))
    lengths = jnp.where(lengths == 0, 1.0, lengths)
    turn = vectors / lengths[None, :]
    again = _gram([_product(turn.T, part) for part in parts])
    values, vectors = jnp.linalg.eigh(again)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]
    return jnp.linalg.svd(lengths[:, None] * root, compute_uv=False)


def _gram(parts: Sequence[jax.Array]) -> jax.Array:
    return reduce(jnp.add, (_product(part, part.T) for part in parts))


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
