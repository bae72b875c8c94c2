"""Networks as pure functions: how drawn, what a pass leaves alone, when two are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_close, assert_trees_equal, compilations

from jaxnas.spaces import Size

SMALL = Size(channels=4, cells=(1,), resolution=8)
ARCH = np.array([2, 3, 4, 1, 3, 2], np.int32)


def test_the_counter_of_compilations_counts():
    def doubled(x):
        return x * 2

    function = jax.jit(doubled)
    with compilations() as compiled:
        function(np.float32(1))
    assert len(compiled) == 1
    assert "doubled" in compiled[0]
    with compilations() as compiled:
        function(np.float32(2))
    assert compiled == []


class TestInit:
    def test_is_a_function_of_the_key(self, tiny, variables):
        assert_trees_equal(tiny.init(jax.random.key(0)), variables)
        other = tiny.init(jax.random.key(1))
        kernels = zip(jax.tree.leaves(other.params), jax.tree.leaves(variables.params), strict=True)
        assert all((a != b).any() for a, b in kernels if a.ndim > 1)

    def test_no_two_weights_are_alike(self, variables):
        kernels = [a.reshape(-1) for a in jax.tree.leaves(variables.params) if a.ndim > 1]
        weights = np.concatenate(kernels)
        assert len(np.unique(weights)) > 0.99 * len(weights)

    def test_weights_fill_their_intervals(self, space):
        network = space.network(Size(channels=16, cells=(1,), resolution=8), classes=10)
        params = network.init(jax.random.key(0)).params
        params = jax.tree.leaves(params, is_leaf=lambda v: isinstance(v, nnx.Variable))
        assert len(params) > 10
        for parameter in params:
            values = np.asarray(parameter.get_value()) - parameter.offset
            assert np.abs(values).max() <= parameter.bound
            if values.size > 200:
                assert np.abs(values).max() > 0.95 * parameter.bound
                assert abs(values.std() / parameter.bound - 3**-0.5) < 0.1
                assert abs(values.mean()) < 0.2 * parameter.bound

    def test_running_averages_begin_at_0_and_1(self, variables):
        flat, _ = jax.tree_util.tree_flatten_with_path(variables.statistics)
        assert flat
        for path, leaf in flat:
            expected = 1.0 if "variance" in jax.tree_util.keystr(path) else 0.0
            assert (leaf == expected).all()

    def test_a_second_one_compiles_nothing(self, tiny, variables):
        with compilations() as compiled:
            tiny.init(jax.random.key(7))
        assert compiled == []


@pytest.fixture(scope="module")
def plain(tiny, variables, batch):
    """Outputs without jit, by batch norm mode."""
    return {
        mode: tiny.apply(variables, ARCH, batch.images, batch_norm=mode)
        for mode in ("batch", "update", "running")
    }


class TestApply:
    @pytest.mark.parametrize("mode", ["batch", "update", "running"])
    def test_jit_agrees_with_plain(self, tiny, variables, batch, plain, mode):
        run = jax.jit(lambda v, x: tiny.apply(v, ARCH, x, batch_norm=mode))
        jitted = run(variables, batch.images)
        assert_trees_close(jitted, plain[mode], rtol=1e-4, atol=1e-5)
        assert jitted.logits.shape == (8, 3)
        assert jitted.logits.dtype == jnp.float32

    def test_the_callers_variables_are_left_as_they_were(self, tiny, variables, plain):
        assert_trees_equal(variables, tiny.init(jax.random.key(0)))

    def test_only_update_renews_the_statistics(self, variables, plain):
        assert_trees_equal(plain["batch"].statistics, variables.statistics)
        assert_trees_equal(plain["running"].statistics, variables.statistics)
        before = jax.tree.leaves(variables.statistics)
        after = jax.tree.leaves(plain["update"].statistics)
        changed = [bool((a != b).any()) for a, b in zip(after, before, strict=True)]
        # Mean and variance of the stem, the last batch norm and each of the four convolutions.
        assert sum(changed) == 2 * 6
        assert jax.tree.structure(plain["update"].statistics) == jax.tree.structure(
            variables.statistics
        )

    def test_update_computes_what_batch_does(self, plain):
        assert_trees_equal(plain["update"].logits, plain["batch"].logits)
        assert (plain["running"].logits != plain["batch"].logits).any()

    def test_renewed_statistics_serve_the_next_pass(self, tiny, variables, batch, plain):
        renewed = variables._replace(statistics=plain["update"].statistics)
        second = tiny.apply(renewed, ARCH, batch.images, batch_norm="running").logits
        assert (second != plain["running"].logits).any()

    def test_bound_module_holds_the_variables(self, tiny, variables):
        module = tiny.bound_module(variables)
        assert_trees_equal(nnx.state(module, nnx.Param), variables.params)


class TestIdentity:
    def test_networks_built_alike_are_the_same(self, space, tiny):
        again = space.network(SMALL, classes=3)
        assert again == tiny
        assert hash(again) == hash(tiny)

    @pytest.mark.parametrize(
        ("size", "classes", "image_channels"),
        [
            (Size(8, (1,), 8), 3, 3),
            (Size(4, (2,), 8), 3, 3),
            (Size(4, (1, 1), 8), 3, 3),
            (Size(4, (1,), 16), 3, 3),
            (SMALL, 4, 3),
            (SMALL, 3, 1),
        ],
    )
    def test_others_are_not(self, space, tiny, size, classes, image_channels):
        other = space.network(size, classes=classes, image_channels=image_channels)
        assert other != tiny
        assert tiny != "a network"

    def test_what_was_compiled_for_one_serves_the_next(self, space, tiny, variables, batch):
        run = jax.jit(lambda network, v, a, x: network.apply(v, a, x).logits, static_argnums=0)
        run(tiny, variables, ARCH, batch.images)
        again = space.network(SMALL, classes=3)
        with compilations() as compiled:
            run(again, variables, ARCH, batch.images)
        assert compiled == []
