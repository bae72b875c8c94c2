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


@pytest.mark.parametrize("name", SPACES)
def test_one_forward_pass_adds_up_the_gradients_of_all_weights(name):
    """Biases, ReLU6, GELU and maxima included; attention and squeeze-and-excite say that they cannot."""
    space = get_space(name)
    archs = space.sample(jax.random.key(1), 2)
    kinds = space.shape_classes(archs)
    network = small_network(space, kind=int(kinds[0]))
    variables = network.init(jax.random.key(0))
    variables = variables._replace(params=jax.tree.map(jnp.abs, variables.params))
    ones = jnp.ones((1, 8, 8, 3))
    for row in space.rows(archs)[kinds == kinds[0]]:

        def total(params, row=row):
            given = variables._replace(params=params)
            return network.apply(given, row, ones, batch_norm="none").logits.sum()

        flow = network.flow(variables, row, ones)
        if flow is None:
            assert name in ("autoformer", "mobilenet")
            continue
        pairs = zip(
            *map(jax.tree.leaves, (variables.params, jax.grad(total)(variables.params))),
            strict=True,
        )
        expected = sum(float(jnp.abs(w * g).sum()) for w, g in pairs if w.ndim > 1)
        assert flow.array * jnp.exp(flow.log) == pytest.approx(expected, rel=1e-4)
