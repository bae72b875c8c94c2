"""What candidates are worth with the weights of a super-net.

A super-net has no running averages that suit any one path, so each candidate's batch norm is given
statistics of its own: the mean over calibration batches, training images, of the batch's mean and
unbiased variance (Guo et al., arXiv:1904.00420, section 3.4; PyTorch's `momentum=None`). Then it is
evaluated on validation images with these.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxnas.errors import InputError
from jaxnas.network import Network, Variables
from jaxnas.nn.layers import BatchNorm
from jaxnas.training.evaluation import batched, sums_over_batches


class Inherited(NamedTuple):
    """By inherited weights, `float64[N]` each: mean cross-entropy and accuracy."""

    loss: np.ndarray
    accuracy: np.ndarray


def calibration_batches(
    x: jax.Array, *, images: int = 512, batch_size: int = 256, seed: int = 0
) -> jax.Array:
    """`[k, batch_size, H, W, C]`: training images drawn without replacement, in whole batches.

    Raises:
        InputError: fewer images than a batch.
    """
    images = min(images, len(x))
    if images < batch_size or batch_size < 1:
        raise InputError(
            f"Calibration by batches of {batch_size} images has only {images}; ask for smaller batches."
        )
    k = images // batch_size
    chosen = np.random.default_rng(seed).permutation(len(x))[: k * batch_size]
    return jnp.asarray(x)[chosen].reshape(k, batch_size, *x.shape[1:])


def recalibrated(
    network: Network, variables: Variables, arch: jax.Array | np.ndarray, batches: jax.Array
) -> Variables:
    """`variables` with the batch norm statistics of `arch: int32[P]`.

    Those of `batches: [k, B, H, W, C]`, the mean over batches; those of branches not taken are 0.
    """
    empty = variables._replace(statistics=jax.tree.map(jnp.zeros_like, variables.statistics))

    def one(total: Any, images: jax.Array) -> Any:
        moved = network.apply(empty, arch, images, batch_norm="update").statistics
        return jax.tree.map(jnp.add, total, moved), None

    total, _ = lax.scan(one, empty.statistics, batches)
    # Averages that begin with 0 move to momentum times the batch's own.
    leaves, tree = jax.tree.flatten(total)
    scales = [1 / (len(batches) * m) for m in _momenta(network, variables.statistics)]
    mean = [leaf * scale for leaf, scale in zip(leaves, scales, strict=True)]
    return variables._replace(statistics=jax.tree.unflatten(tree, mean))


def _momenta(network: Network, statistics: Any) -> list[float]:
    """The momentum of the batch norm that each leaf of the statistics belongs to."""
    nodes = nnx.iter_graph(network.module)
    momentum = {path: node.momentum for path, node in nodes if isinstance(node, BatchNorm)}
    return [momentum[path[:-1]] for path, _ in nnx.to_flat_state(statistics)]


def evaluate_inherited(
    network: Network,
    variables: Variables,
    archs: np.ndarray,
    x: jax.Array,
    y: jax.Array,
    *,
    calibration: jax.Array,
    chunk: int = 64,
    finished: Inherited | None = None,
    on_chunk: Callable[[int, int, Inherited], None] = lambda done, all_, found: None,
) -> Inherited:
    """Loss and accuracy of many architectures on images `x: [n, H, W, C]` with labels `y: int32[n]`.

    `archs: int32[N, P]` are rows that the network reads (`space.rows`); equal rows are evaluated once, so
    that pruned ones make 9,445 of all 15,625 of NAS-Bench-201. One compiled program evaluates `chunk`
    distinct rows at a time; `on_chunk(done, of, found)` is called with how many of how many distinct rows
    are done and the last chunk's results. Joined they are what `finished` takes, to go on with.

    Args:
        calibration: `[k, B, H, W, C]` training images, as `calibration_batches` makes them.
    """
    distinct, where = np.unique(np.asarray(archs, np.int32), axis=0, return_inverse=True)
    done = 0 if finished is None else len(finished.loss)
    if done > len(distinct):
        raise InputError(f"{done:,} rows are said to be finished, but there are {len(distinct):,}.")
    parts = [np.zeros((2, 0)) if finished is None else np.stack(finished)]
    images, labels = batched(x, y)
    for start in range(done, len(distinct), chunk):
        rows = distinct[start : start + chunk]
        padded = np.zeros((chunk, distinct.shape[1]), np.int32)
        padded[: len(rows)] = rows
        sums = _evaluate(
            network, variables, padded, np.int32(len(rows)), calibration, images, labels
        )
        parts.append(np.asarray(sums, np.float64)[:, : len(rows)] / len(x))
        on_chunk(start + len(rows), len(distinct), Inherited(*parts[-1]))
    loss, accuracy = np.concatenate(parts, axis=1)[:, where.reshape(-1)]
    return Inherited(loss, accuracy)


@partial(jax.jit, static_argnames="network")
def _evaluate(
    network: Network,
    variables: Variables,
    rows: jax.Array,
    count: jax.Array,
    calibration: jax.Array,
    images: jax.Array,
    labels: jax.Array,
) -> jax.Array:
    """Summed losses and numbers of right answers of the first `count` rows, `[2, N]`."""

    def one(i: jax.Array, sums: jax.Array) -> jax.Array:
        own = recalibrated(network, variables, rows[i], calibration)

        total = sums_over_batches(network, own, rows[i], images, labels)
        return sums.at[:, i].set(total)

    return lax.fori_loop(0, count, one, jnp.zeros((2, rows.shape[0])))
