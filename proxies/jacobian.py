"""How alike the gradients of a network's outputs with respect to different images are."""

import jax
import jax.numpy as jnp

from jaxnas.proxies.spectrum import singular_values
from jaxnas.proxy import GradientProxy, Passes

K = 1e-5
"""What both scores add before they take a logarithm or a reciprocal."""

MANY_CLASSES = 100
"""With more classes than these EPE-NAS compares the classes' sums instead of adding them up."""


def _directions(passes: Passes) -> tuple[jax.Array, jax.Array]:
    """The images' gradients as centred unit vectors `[B, H W C]`, and whether each can be one.

    The products of two are their correlation. A gradient that is the same everywhere has none.
    """
    rows = passes.image_gradients
    rows = rows.reshape(rows.shape[0], -1)
    # Scaled first: the squares of a deep network's gradients would leave float32's range.
    largest = jnp.abs(rows).max(axis=1, keepdims=True)
    rows = rows / jnp.where(largest == 0, 1.0, largest)
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return rows / jnp.where(length == 0, 1.0, length), length[:, 0] != 0


def _jacov(passes: Passes) -> jax.Array:
    """`-sum_i ln(v_i + k) + 1 / (v_i + k)`, v the eigenvalues of the correlations between images.

    Correlated are the rows of J = d (sum of all logits) / d image, `[B, H W C]`, with the batch's own
    statistics in batch norm; k = 1e-5. At most -B (1 + k), where no image's gradient resembles
    another's. The eigenvalues are squares of singular values, so that they are never below 0 and the
    small ones, which the score hangs on, are as precise as the gradients.

    -inf where an image has no correlation, its gradient being the same everywhere: the paper's formula
    is undefined there, as for an architecture that connects nothing.
    """
    rows, there = _directions(passes)
    v = jnp.square(singular_values([rows])) + K
    return _where_defined(there, -jnp.sum(jnp.log(v) + 1 / v))


def _epe_nas(passes: Passes) -> jax.Array:
    """`sum_c |e_c|`, `e_c = sum_ij ln(|r_ij| + k)` over the images i, j of class c; k = 1e-5.

    r are the correlations of `jacov`. For more than 100 classes (of the network, not of the batch) as
    the authors have it, `sum_cd |e_c / n_c - e_d / n_d| / C`, with n_c the images of a class and C the
    classes that the batch has.

    -inf where an image has no correlation (see `jacov`).
    """
    rows, there = _directions(passes)
    alike = jnp.abs(jnp.matmul(rows, rows.T, precision="highest"))
    # Of an image with itself exactly 1, which is all there is to a class with one image.
    alike = jnp.where(jnp.eye(len(rows), dtype=bool), 1.0, alike)
    classes = passes.logits.shape[1]
    members = jax.nn.one_hot(passes.labels, classes)
    each = jnp.sum(members * (jnp.log(alike + K) @ members), axis=0)
    if classes <= MANY_CLASSES:
        score = jnp.abs(each).sum()
    else:
        images = members.sum(axis=0)
        seen = images > 0
        mean = each / jnp.maximum(images, 1)
        apart = jnp.abs(mean[:, None] - mean[None, :])
        score = jnp.sum(apart, where=seen[:, None] & seen[None, :]) / seen.sum()
    return _where_defined(there, score)


def _where_defined(there: jax.Array, score: jax.Array) -> jax.Array:
    # What is not a number does not hide behind a row that is constant.
    return jnp.where(there.all() | jnp.isnan(score), score, -jnp.inf)


jacov = GradientProxy(
    name="jacov",
    paper="Mellor et al., Neural Architecture Search without Training (v1), arXiv:2006.04647v1",
    formula="-sum of ln(v + k) + 1 / (v + k), v eigenvalues of the images' gradients' correlations",
    needs=("forward", "image_gradient"),
    score=_jacov,
)

epe_nas = GradientProxy(
    name="epe_nas",
    paper="Lopes et al., EPE-NAS: Efficient Performance Estimation Without Training, arXiv:2102.08099",
    formula="sum over classes of |sum of ln(|r| + k)|, r correlations of its images' gradients",
    needs_labels=True,
    needs=("forward", "image_gradient"),
    score=_epe_nas,
)
