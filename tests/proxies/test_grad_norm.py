"""grad_norm against the gradient of one architecture's own network, in plain XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import Reference, by_name

from jaxnas.proxies.grad_norm import grad_norm
from jaxnas.scoring.per_architecture import score_per_architecture

ARCHS = np.array([[3, 4, 1, 2, 0, 3], [2, 3, 2, 3, 2, 3], *[[1, 0, 0, 4, 1, 1]] * 6], np.int32)


def reference(weights, arch, batch):
    """The norms of d loss / d kernel added up, convolution by convolution."""

    def loss(weights):
        logits = Reference(weights, arch, batch.images).logits
        chosen = jax.nn.log_softmax(logits)[jnp.arange(len(logits)), batch.labels]
        return -chosen.sum() / len(logits)

    gradients = jax.jit(jax.grad(loss))(weights)
    norms = [np.linalg.norm(g) for name, g in gradients.items() if name.endswith("kernel")]
    return float(np.sum(norms))


def test_against_one_architectures_own_gradient(tiny, variables, batch):
    scores = score_per_architecture(tiny, variables, ARCHS, batch, [grad_norm])["grad_norm"]
    expected = [reference(by_name(variables.params), arch, batch) for arch in ARCHS[:3]]
    np.testing.assert_allclose(scores[:3], expected, rtol=1e-4)


def test_weights_of_branches_not_taken_do_not_matter(tiny, variables, batch):
    def spoilt(path, leaf):
        # Row 2 has no convolution.
        return leaf * 100 + 1 if "edges" in jax.tree_util.keystr(path) else leaf

    params = jax.tree_util.tree_map_with_path(spoilt, variables.params)
    before, after = (
        score_per_architecture(tiny, v, ARCHS, batch, [grad_norm])["grad_norm"]
        for v in (variables, variables._replace(params=params))
    )
    assert after[2] == pytest.approx(before[2])
    assert after[0] != pytest.approx(before[0])
