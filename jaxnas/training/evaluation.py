"""Loss and accuracy of a whole population on images that it is not trained on."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from scipy import special

from jaxnas.network import Network, Variables
from jaxnas.training.layout import Layout, padded, spread, to_host
from jaxnas.training.metrics import get_metric

EVALUATION_BATCH = 128


def evaluate_population(
    network: Network,
    variables: Variables,
    archs: np.ndarray,
    x: jax.Array,
    y: jax.Array,
    *,
    which: np.ndarray | None = None,
    layout: Layout | None = None,
    metric: str = "accuracy",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean cross-entropy, accuracy and `metric` of each candidate by running averages, `[N]`.

    Every leaf of `variables` has the capacity, at least N, as its first axis. `which: bool[N]` says who
    is looked at, the others' values are NaN; None: everybody. `layout` is that of
    `jaxnas.training.population.train_population`.
    """
    return evaluate_pieces(
        network,
        variables,
        archs,
        [batched(x, y)],
        len(x),
        which=which,
        layout=layout,
        metric=metric,
    )


def evaluate_pieces(
    network: Network,
    variables: Variables,
    archs: np.ndarray,
    pieces: Iterable[tuple[jax.Array, jax.Array]],
    size: int,
    *,
    which: np.ndarray | None,
    layout: Layout | None,
    metric: str = "accuracy",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`evaluate_population` on `size` images, which come `batched` in pieces of one shape."""
    n, capacity = len(archs), len(jax.tree.leaves(variables)[0])
    layout = Layout.fitting(capacity) if layout is None else layout
    there = np.zeros(capacity, bool)
    there[:n] = True if which is None else which
    judge = get_metric(metric)
    rows, sums = padded(archs, capacity), np.zeros((capacity, 2))
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    for images, labels in pieces:
        if metric == "accuracy":
            sums += to_host(_evaluate(network, layout, variables, rows, there, images, labels))
            continue
        logits = to_host(_logits(network, layout, variables, rows, there, images))
        seen.append((logits.reshape(capacity, -1, network.classes), np.ravel(labels)))
    if metric == "accuracy":
        loss, correct = np.where(there[:, None], sums, np.nan)[:n].T / size
        return loss, correct, correct.copy()
    y = np.concatenate([labels for _, labels in seen])
    logits = np.concatenate([part for part, _ in seen], axis=1)[:, y >= 0]
    return _judged(logits[:n].astype(np.float64), y[y >= 0], judge, there[:n])


def _judged(
    logits: np.ndarray, y: np.ndarray, judge: Callable[..., float], there: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss, accuracy and metric of `logits: [N, n, classes]`; logits that are no numbers are wrong."""
    found = np.full((3, len(logits)), np.nan)
    for row in np.flatnonzero(there):
        with np.errstate(invalid="ignore"):  # infinity less itself is no number, and wrong
            log_p = special.log_softmax(logits[row], axis=-1)
        losses = -log_p[np.arange(len(y)), y]
        known = np.isfinite(losses)
        right = float(((log_p.argmax(-1) == y) & known).mean())
        found[:, row] = losses.mean(), right, judge(y, np.exp(log_p)) if known.all() else 0.0
    loss, accuracy, metric = found
    return loss, accuracy, metric


def predict_population(
    network: Network,
    variables: Variables,
    archs: np.ndarray,
    x: jax.Array,
    *,
    layout: Layout | None = None,
) -> np.ndarray:
    """Class probabilities of images `x: [n, H, W, C]` by each candidate, `float64[N, n, classes]`."""
    capacity = len(jax.tree.leaves(variables)[0])
    layout = Layout.fitting(capacity) if layout is None else layout
    there = np.arange(capacity) < len(archs)
    images, _ = batched(x, jnp.zeros(len(x), jnp.int32))
    rows = padded(archs, capacity)
    logits = to_host(_logits(network, layout, variables, rows, there, images))
    flat = logits.reshape(capacity, -1, network.classes)[: len(archs), : len(x)]
    return special.softmax(flat.astype(np.float64), axis=-1)


def batched(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """In batches of one size, `[k, B, H, W, C]` and `[k, B]`; what fills up the last has label -1."""
    short = -len(x) % EVALUATION_BATCH
    images = jnp.pad(x, ((0, short), (0, 0), (0, 0), (0, 0)))
    labels = jnp.pad(y, (0, short), constant_values=-1)
    shape = (-1, EVALUATION_BATCH)
    return images.reshape(*shape, *x.shape[1:]), labels.reshape(shape)


def sums_over_batches(
    network: Network, variables: Variables, arch: jax.Array, images: jax.Array, labels: jax.Array
) -> jax.Array:
    """The summed loss and the number of right answers of one architecture on `batched` images, `[2]`."""

    def batch(sums: jax.Array, inputs: Any) -> Any:
        x, y = inputs
        logits = network.apply(variables, arch, x, batch_norm="running").logits
        known = y >= 0
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.abs(y))
        # NaN logits have an argmax too: they are no answer.
        right = (logits.argmax(-1) == y) & known & jnp.isfinite(losses)
        return sums + jnp.stack([jnp.sum(losses * known), jnp.sum(right)]), None

    total, _ = lax.scan(batch, jnp.zeros(2), (images, labels))
    return total


@partial(jax.jit, static_argnames=("network", "layout"))
def _evaluate(
    network: Network,
    layout: Layout,
    variables: Variables,
    archs: jax.Array,
    there: jax.Array,
    images: jax.Array,
    labels: jax.Array,
) -> jax.Array:
    """Summed losses and numbers of right answers on `batched` images, `[N, 2]`."""

    def one(nothing: jax.Array, member: Any, data: Any) -> jax.Array:
        own, arch = member
        return sums_over_batches(network, own, arch, *data)

    nothing = jnp.zeros((archs.shape[0], 2))
    return spread(one, layout, nothing, (variables, archs), (images, labels), there)


@partial(jax.jit, static_argnames=("network", "layout"))
def _logits(
    network: Network,
    layout: Layout,
    variables: Variables,
    archs: jax.Array,
    there: jax.Array,
    images: jax.Array,
) -> jax.Array:
    """Logits on `batched` images, `[N, k, B, classes]`."""

    def one(nothing: jax.Array, member: Any, images: Any) -> jax.Array:
        own, arch = member

        def batch(x: jax.Array) -> jax.Array:
            return network.apply(own, arch, x, batch_norm="running").logits.astype(jnp.float32)

        return lax.map(batch, images)

    nothing = jnp.zeros((archs.shape[0], *images.shape[:2], network.classes))
    return spread(one, layout, nothing, (variables, archs), images, there)
