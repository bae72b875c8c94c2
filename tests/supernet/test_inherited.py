"""Evaluation by inherited weights against NumPy, and warm starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_close, assert_trees_equal, compilations
from reference import Reference, by_name

from jaxnas.errors import InputError
from jaxnas.nn import BatchNorm
from jaxnas.search_spaces import get_space
from jaxnas.spaces import Size
from jaxnas.supernet.inherited import (
    Inherited,
    calibration_batches,
    evaluate_inherited,
    recalibrated,
)
from jaxnas.supernet.inherited_shared import evaluate_shared
from jaxnas.supernet.warm import inherit
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import TrainingData, train_population

ARCHS = np.array([[3, 4, 1, 2, 0, 3], [2, 1, 2, 3, 1, 4], [3, 4, 1, 2, 0, 3], [1, 0, 3, 4, 2, 1]])
DISTINCT = 3


def images(n, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    # Each class is bright in a channel of its own.
    x = 0.7 + rng.standard_normal((n, 8, 8, 3)) + np.eye(3)[y][:, None, None]
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


X, Y = images(12, 0)
X_VAL, Y_VAL = images(300, 1)
BATCHES = calibration_batches(X, images=12, batch_size=4)


class Running(Reference):
    """Batch norm by given statistics."""

    def __init__(self, weights, arch, images, given):
        self.given = given
        super().__init__(weights, arch, images)

    def batch_norm(self, name, x):
        one = (1, 1, 1, -1)
        scale, bias = (self.weights[f"{name}.{k}"].reshape(one) for k in ("scale", "bias"))
        mean, variance = (self.given[f"{name}.{k}"].reshape(one) for k in ("mean", "variance"))
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias


@pytest.fixture(scope="module")
def trained(tiny):
    """Weights whose batch norms do something, and averages that are wrong for every path."""
    variables = tiny.init(jax.random.key(3))

    def noisy(path, leaf):
        noise = 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape)
        # No class may win by its bias alone, whatever the image.
        return (
            jnp.zeros_like(leaf) if "classifier" in str(path) and leaf.ndim == 1 else leaf + noise
        )

    params = jax.tree_util.tree_map_with_path(noisy, variables.params)
    return variables._replace(
        params=params, statistics=jax.tree.map(lambda a: a + 7, variables.statistics)
    )


def slow_statistics(params, arch):
    """The mean over batches of each batch's mean and unbiased variance."""
    seen = [Reference(by_name(params), arch, batch).statistics for batch in BATCHES]
    return {name: np.mean([np.asarray(s[name], np.float64) for s in seen], 0) for name in seen[0]}


def slow_evaluation(params, arch):
    given = {k: jnp.asarray(v, jnp.float32) for k, v in slow_statistics(params, arch).items()}
    logits = np.asarray(Running(by_name(params), arch, X_VAL, given).logits, np.float64)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    y = np.asarray(Y_VAL)
    return -log_p[np.arange(len(y)), y].mean(), (logits.argmax(1) == y).mean()


def evaluate(network, variables, archs=ARCHS, **settings):
    return evaluate_inherited(
        network, variables, archs, X_VAL, Y_VAL, calibration=BATCHES, chunk=2, **settings
    )


def test_calibration_images_are_training_images_once_each():
    flat = np.asarray(BATCHES).reshape(12, -1)
    assert BATCHES.shape == (3, 4, 8, 8, 3)
    known = np.asarray(X).reshape(12, -1)
    assert sorted(map(tuple, flat)) == sorted(map(tuple, known))
    with pytest.raises(InputError, match="batches of 256 images has only 12"):
        calibration_batches(X)


@pytest.mark.parametrize("arch", ARCHS[:2])
def test_statistics_are_the_mean_over_calibration_batches(tiny, trained, arch):
    slow = slow_statistics(trained.params, arch)
    found = jax.jit(recalibrated, static_argnums=0)(tiny, trained, arch, BATCHES)
    assert_trees_equal(found.params, trained.params)
    own = by_name(found.statistics)
    for name, expected in slow.items():
        np.testing.assert_allclose(own[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)
    assert not any(np.asarray(own[name]).any() for name in set(own) - set(slow))


def test_each_batch_norm_has_its_own_momentum(space):
    network = space.network(Size(channels=2, cells=(1,), resolution=4), classes=2)
    norms = [m for _, m in nnx.iter_modules(network.module) if isinstance(m, BatchNorm)]
    for i, norm in enumerate(norms):
        norm.momentum = 0.05 * (i + 1)
    rebuilt = type(network)(network.module, 4, 3, 2)
    variables, batches = rebuilt.init(jax.random.key(0)), BATCHES[:, :, :4, :4]
    arch = np.full(6, 3, np.int32)
    found = by_name(recalibrated(rebuilt, variables, arch, batches).statistics)
    weights = by_name(variables.params)
    seen = [Reference(weights, arch, batch).statistics for batch in batches]
    for name in seen[0]:
        expected = np.mean([s[name] for s in seen], 0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_loss_and_accuracy_against_numpy(tiny, trained):
    found = evaluate(tiny, trained)
    for i, arch in enumerate(ARCHS):
        loss, accuracy = slow_evaluation(trained.params, arch)
        assert found.loss[i] == pytest.approx(loss, rel=1e-4)
        assert found.accuracy[i] == pytest.approx(accuracy, abs=1e-6)
    assert len(set(found.loss)) == DISTINCT
    assert len(set(found.accuracy)) > 1


def test_equal_rows_are_evaluated_once_and_what_is_finished_is_not_again(tiny, trained):
    calls = []
    whole = evaluate(tiny, trained, on_chunk=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(2, DISTINCT), (3, DISTINCT)]
    again = []
    marked = Inherited(calls[0][2].loss + 100, calls[0][2].accuracy)
    resumed = evaluate(tiny, trained, finished=marked, on_chunk=lambda *call: again.append(call))
    assert [call[:2] for call in again] == [(3, DISTINCT)]
    # Two of the distinct rows, three of all, are what was handed in.
    kept = np.isclose(resumed.loss, whole.loss + 100)
    np.testing.assert_array_equal(resumed.loss[~kept], whole.loss[~kept])
    assert len(np.unique(ARCHS[kept], axis=0)) == 2
    np.testing.assert_array_equal(resumed.accuracy, whole.accuracy)


def test_other_architectures_compile_nothing(tiny, trained):
    evaluate(tiny, trained)
    with compilations() as compiled:
        evaluate(tiny, trained, np.array([[4, 4, 4, 3, 3, 3], [0, 3, 0, 1, 0, 1]]))
    assert compiled == []


class TestWarmStart:
    SEEDS = np.array([1, 2, 3, 4], np.uint32)

    def test_candidates_compute_what_their_paths_do(self, tiny, trained):
        population = inherit(tiny, trained, ARCHS, seeds=self.SEEDS)
        assert not any(np.asarray(a).any() for a in jax.tree.leaves(population.optimizer))
        for i, arch in enumerate(ARCHS):
            own = jax.tree.map(lambda a, i=i: a[i], population.variables)
            got = tiny.apply(own, arch, X).logits
            np.testing.assert_array_equal(got, tiny.apply(trained, arch, X).logits)

    def test_masked_widths_too(self):
        space = get_space("nats_size")
        size = Size(channels=8, cells=(1, 1, 1), resolution=8)
        network = space.network(size, classes=3)
        assert network.elastic
        variables = network.init(jax.random.key(0))
        rows = space.rows(space.sample(jax.random.key(1), 2))
        population = inherit(network, variables, rows, seeds=self.SEEDS[:2])
        apply = jax.jit(lambda v, row: network.apply(v, row, X).logits)
        for i, row in enumerate(rows):
            own = jax.tree.map(lambda a, i=i: a[i], population.variables)
            np.testing.assert_array_equal(apply(own, row), apply(variables, row))

    def test_calibrated_candidates_are_worth_what_they_inherit(self, tiny, trained):
        population = inherit(tiny, trained, ARCHS, seeds=self.SEEDS, calibration=BATCHES)
        loss, accuracy, _ = evaluate_population(tiny, population.variables, ARCHS, X_VAL, Y_VAL)
        found = evaluate(tiny, trained)
        np.testing.assert_allclose(loss, found.loss, rtol=1e-4)
        np.testing.assert_allclose(accuracy, found.accuracy, atol=1e-6)

    def test_population_training_goes_on_from_there(self, tiny, trained):
        population = inherit(tiny, trained, ARCHS, seeds=self.SEEDS)
        before = jax.tree.map(np.array, population.variables.params)
        after = train_population(
            tiny,
            ARCHS,
            Hyper.constant(4, learning_rate=1e-6, weight_decay=0.0),
            TrainingData(X, Y, X_VAL, Y_VAL),
            epochs=1,
            batch_size=4,
            population=population,
        )
        assert_trees_close(after.variables.params, before, rtol=1e-3, atol=1e-3)
        moved = jax.tree.map(lambda a, b: (a != b).any(), after.variables.params, before)
        assert any(jax.tree.leaves(moved))


class TestShared:
    def test_against_each_path_by_itself(self, tiny, trained):
        found = evaluate_shared(tiny, trained, ARCHS, X_VAL, Y_VAL, group=2)
        y = np.asarray(Y_VAL)
        for i, arch in enumerate(ARCHS):
            logits = Reference(by_name(trained.params), arch, X_VAL).logits
            log_p = np.asarray(jax.nn.log_softmax(logits))
            assert found.loss[i] == pytest.approx(-log_p[np.arange(300), y].mean(), rel=1e-4)
            assert found.accuracy[i] == pytest.approx((log_p.argmax(1) == y).mean(), abs=1e-6)
        assert len(set(found.loss)) == DISTINCT

    def test_masked_widths_are_refused(self):
        space = get_space("nats_size")
        network = space.network(Size(channels=8, cells=(1, 1, 1), resolution=8), classes=3)
        variables = network.init(jax.random.key(0))
        rows = space.rows(space.sample(jax.random.key(1), 2))
        with pytest.raises(InputError, match="shares no values"):
            evaluate_shared(network, variables, rows, X, Y)
