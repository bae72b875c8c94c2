"""Passes with a scale set apart (`jaxnas.nn.scaled`), in every space of homogeneous layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_space_contract import small_network

from jaxnas.nn import scaled
from jaxnas.search_spaces import SPACES, get_space

OTHERS = ("autoformer", "mlp", "mobilenet")
"""With attention, GELU, ReLU6 or squeeze-and-excite."""


@pytest.mark.parametrize("name", [n for n in SPACES if n not in OTHERS])
def test_where_the_scale_is_set_apart_makes_no_difference(name, monkeypatch):
    """Values that skip blocks and sums of many are included."""
    space = get_space(name)
    archs = space.sample(jax.random.key(1), 3)
    kinds = space.shape_classes(archs)
    network = small_network(space, kind=int(kinds[0]))
    # Without biases.
    params = jax.tree.map(
        lambda p: abs(p) if p.ndim > 1 else 0 * p, network.init(jax.random.key(0)).params
    )
    variables = network.init(jax.random.key(0))._replace(params=params)
    images = jnp.ones((1, 8, 8, 3))
    rows = space.rows(archs)[kinds == kinds[0]]
    logs = []
    for row in rows:
        plain = network.apply(variables, row, images, batch_norm="none").logits
        for large in (1e13, 1e-3):
            monkeypatch.setattr(scaled, "LARGE", large)
            got, log = network.apply_scaled(variables, row, images, batch_norm="none")
            np.testing.assert_allclose(got * jnp.exp(log), plain, rtol=1e-4)
            logs.append(float(log))
    assert max(logs[::2]) == 0 < max(logs[1::2])
