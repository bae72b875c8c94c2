"""The four scores of AZ-NAS: what each block does to the features, and to a gradient.

Lee and Ham, AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search, arXiv:2403.19232.

They are computed on Gaussian noise in place of images, batch norm with the statistics of that batch, on
the network's own initialisation: the authors draw kernels of deviation sqrt(2 / fan-in), which the batch
norm behind nearly every convolution takes out again. `F_0` is the stem's output and `F_i` that of the
i-th block; blocks that a depth choice leaves out are not there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.passes import noise_of
from jaxnas.proxy import CountProxy, ForwardProxy, GradientProxy, Passes

type Arrays = list[jax.Array]

PAPER = "Lee and Ham, AZ-NAS, arXiv:2403.19232"
PROTOCOL = "Gaussian noise in place of images"
SIGNS_STREAM = 0xA2
"""Keeps Rademacher vectors apart from what else comes from the batch's key."""


class Entropies(NamedTuple):
    """Of the blocks so far: how many, the sum of their entropies, the last, and the least rise."""

    blocks: jax.Array
    total: jax.Array
    last: jax.Array
    rise: jax.Array


@dataclass(frozen=True)
class BlockEntropies:
    """Folds the entropy of each value between blocks into `Entropies`."""

    kinds: frozenset[str] = frozenset({"block"})

    def init(self, batch: int) -> Entropies:
        """No block yet; the least of no rises is infinite."""
        zero = jnp.zeros((), jnp.float32)
        return Entropies(zero, zero, zero, zero + jnp.inf)

    def contribution(
        self, kind: str, value: jax.Array, active: jax.Array | None = None
    ) -> jax.Array:
        """The entropy of one value."""
        return feature_entropy(value)

    def fold(self, carry: Entropies, contribution: jax.Array) -> Entropies:
        """One block more; a rise from or to -inf is -inf."""
        rise = contribution - carry.last
        nothing = jnp.isneginf(contribution) | jnp.isneginf(carry.last)
        rise = jnp.minimum(carry.rise, jnp.where(nothing, -jnp.inf, rise))
        return Entropies(
            carry.blocks + 1,
            carry.total + contribution,
            contribution,
            jnp.where(carry.blocks == 0, carry.rise, rise),
        )


def feature_entropy(features: jax.Array) -> jax.Array:
    """H = -sum_k p_k ln(p_k + 1e-8), p the eigenvalues of the channels' covariance over their sum.

    `features: [B, ..., C]`, every position a sample. Channels of nothing but zeros, such as masked ones,
    add nothing. -inf for features that are constant altogether, where p is undefined.
    """
    x = features.reshape(-1, features.shape[-1]).astype(jnp.float32)
    x = x - x.mean(0, keepdims=True)
    covariance = jnp.matmul(x.T, x, precision="highest") / len(x)
    # None is negative but by rounding.
    eigenvalues = jnp.maximum(jnp.linalg.eigvalsh(covariance), 0)
    total = eigenvalues.sum()
    p = eigenvalues / jnp.where(total == 0, 1, total)
    return jnp.where(total == 0, -jnp.inf, -jnp.sum(p * jnp.log(p + 1e-8)))


def _progressivity(entropies: Entropies) -> jax.Array:
    """The least rise; -inf for a stem without blocks, where there is none."""
    return jnp.where(entropies.blocks > 1, entropies.rise, -jnp.inf)


def rademacher(key: jax.Array, shapes: list[tuple[int, ...]]) -> list[jax.Array]:
    """A vector of -1 and +1 for each shape, `float32`."""
    keys = jax.random.split(jax.random.fold_in(key, SIGNS_STREAM), max(len(shapes), 1))
    return [
        jax.random.rademacher(k, shape, jnp.float32)
        for k, shape in zip(keys[: len(shapes)], shapes, strict=True)
    ]


def _trainability(passes: Passes) -> jax.Array:
    """Mean over blocks of 2 - s_i - 1 / (s_i + 1e-6), best where s_i = 1.

    s_i is the largest singular value of v_i' r_i over the number of positions, r_i being a Rademacher
    vector of the shape of F_i and v_i = (d F_i / d F_{i-1})' r_i. Where resolution drops, the cells of
    v_i that make one of F_i's count as channels. As in the authors' code, a block that is the identity
    (v_i = r_i) scores -inf; one that makes nothing has s_i = 0 and scores -999998. Without blocks: -inf.

    Channels of F_i that are 0 throughout, masked ones among them, get no vector. A block that also reads
    the value before the last (DARTS) is differentiated by both, of which the second adds noise that is
    independent of r and averages out.
    """
    dtype = passes.batch.images.dtype
    images = noise_of(passes.batch).astype(dtype)
    values, present, pull = _cut(passes, images)
    if not present:
        return jnp.full((), -jnp.inf)
    vectors = rademacher(passes.batch.random_key, [v.shape for v in values[1:]])
    vectors = [r * _there(v) for r, v in zip(vectors, values[1:], strict=True)]
    arrived = pull([r.astype(dtype) for r in vectors])
    scores = [_isometry(v, r) for v, r in zip(arrived, vectors, strict=True)]
    total = jnp.sum(jnp.stack([jnp.where(p, s, 0) for p, s in zip(present, scores, strict=True)]))
    blocks = jnp.sum(jnp.stack(present))
    return jnp.where(blocks > 0, total / jnp.maximum(blocks, 1), -jnp.inf)


def _there(value: jax.Array) -> jax.Array:
    """1 for channels that are somewhere other than 0, NaN where one is; `[1, ..., 1, C]`."""
    axes = tuple(range(value.ndim - 1))
    return jnp.sign(jnp.max(jnp.abs(value.astype(jnp.float32)), axis=axes, keepdims=True))


def _cut(
    passes: Passes, images: jax.Array
) -> tuple[Arrays, Arrays, Callable[[Sequence[jax.Array]], Arrays]]:
    """The values between blocks, which blocks are there, and the pullback of all blocks at once.

    The pullback takes a vector for each value but the stem's, through the block before it.
    """

    def run(cuts: Arrays | None) -> tuple[Arrays, tuple[Arrays, Arrays]]:
        outputs = passes.network.apply(passes.variables, passes.arch, images, cuts=cuts)
        blocks = outputs.blocks
        values = [block.value for block in blocks]
        there = [jnp.asarray(True) if b.present is None else b.present for b in blocks[1:]]
        return values[1:], (values, there)

    shapes, _ = jax.eval_shape(lambda: run(None)[1])
    zeros = [jnp.zeros(s.shape, s.dtype) for s in shapes]
    _, pull, (values, present) = jax.vjp(run, zeros, has_aux=True)
    return values, present, lambda vectors: pull(vectors)[0][:-1]


def _isometry(arrived: jax.Array, vector: jax.Array) -> jax.Array:
    """2 - s - 1 / (s + 1e-6) of one block; see `_trainability`."""
    arrived = arrived.astype(jnp.float32)
    r = vector.reshape(-1, vector.shape[-1])
    v = _at_positions_of(vector, arrived)
    cross = jnp.matmul(v.T, r, precision="highest") / len(r)
    if cross.shape[0] < cross.shape[1]:
        cross = cross.T
    gram = jnp.matmul(cross.T, cross, precision="highest")
    s = jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(gram)[-1], 0))
    score = 2 - s - 1 / (s + 1e-6)
    if arrived.shape != vector.shape:
        return score
    identity = jnp.all(arrived == vector) & jnp.any(vector != 0)
    return jnp.where(identity, -jnp.inf, score)


def _at_positions_of(vector: jax.Array, arrived: jax.Array) -> jax.Array:
    """`arrived` as rows, one for each position of `vector`; the cells that share one are channels."""
    if arrived.shape[:-1] == vector.shape[:-1] or vector.ndim != 4:
        return arrived.reshape(vector[..., 0].size, -1)
    b, h, w, _ = vector.shape
    rows, columns = (-(-arrived.shape[i] // n) for i, n in ((1, h), (2, w)))
    after = [(0, h * rows - arrived.shape[1]), (0, w * columns - arrived.shape[2])]
    cells = jnp.pad(arrived, [(0, 0), *after, (0, 0)]).reshape(b, h, rows, w, columns, -1)
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(b * h * w, -1)


az_expressivity = ForwardProxy(
    name="az_expressivity",
    paper=PAPER,
    formula="sum over blocks of the entropy H_i of their features' principal components",
    protocol=PROTOCOL,
    inputs=noise_of,
    tap=BlockEntropies(),
    finish=lambda entropies: entropies.total,
)

az_progressivity = ForwardProxy(
    name="az_progressivity",
    paper=PAPER,
    formula="min over blocks of H_i - H_{i-1}",
    protocol=PROTOCOL,
    inputs=noise_of,
    tap=BlockEntropies(),
    finish=_progressivity,
)

az_trainability = GradientProxy(
    name="az_trainability",
    paper=PAPER,
    formula="mean over blocks of 2 - s_i - 1 / (s_i + 1e-6), s_i = |v_i' r_i|_2 / positions",
    protocol=PROTOCOL,
    needs=("forward", "a vector through each block"),
    reads_blocks=True,
    score=_trainability,
)

az_complexity = CountProxy(
    name="az_complexity",
    paper=PAPER,
    formula="multiply-adds of convolutions and linear layers, one image",
    count=lambda network, archs: network.count(archs).macs,
)
