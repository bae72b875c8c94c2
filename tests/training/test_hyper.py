"""Hyper-parameters as rows: schedules by hand, and smaller batches against programs of that size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from candidates import ARCHS, CLOSE, HYPER, SEEDS, data, pick, train
from helpers import assert_trees_close, assert_trees_equal

from jaxnas.errors import InputError
from jaxnas.training.hyper import SCHEDULES, Hyper, cross_entropy, schedule
from jaxnas.training.layout import Layout

IMAGES = data(20)
"""2 steps of 8 images, or 5 of 4, or 10 of 2, each a whole epoch but the first."""


class TestSchedule:
    @pytest.mark.parametrize(
        ("shape", "warmup", "points"),
        [
            ("cosine", 0.0, {0: 1, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 1: 0}),
            ("cosine", 0.2, {0: 0, 0.1: 0.5, 0.2: 1, 0.4: 0.853553, 0.6: 0.5, 1: 0}),
            ("linear", 0.0, {0: 1, 0.25: 0.75, 0.5: 0.5, 1: 0}),
            ("linear", 0.5, {0.25: 0.5, 0.4: 0.8, 0.5: 1, 0.6: 0.8, 0.75: 0.5, 1: 0}),
            ("constant", 0.0, {0: 1, 0.3: 1, 1: 1}),
            ("constant", 0.4, {0: 0, 0.1: 0.25, 0.4: 1, 0.7: 1, 1: 1}),
            ("cosine", 1.0, {0: 0, 0.5: 0.5, 0.9: 0.9}),
        ],
    )
    def test_by_hand(self, shape, warmup, points):
        values = {"warmup": warmup, "schedule": SCHEDULES.index(shape), "learning_rate": 0.2}
        hyper = Hyper.constant(1, **values)
        own = jax.tree.map(lambda a: a[0], hyper)
        found = [float(schedule(own, jnp.float32(done))) for done in points]
        np.testing.assert_allclose(found, [0.2 * v for v in points.values()], atol=1e-6)

    def test_every_candidate_has_its_own_in_one_program(self):
        hyper = Hyper.constant(3, learning_rate=1.0, warmup=0.0)._replace(schedule=np.arange(3.0))
        found = jax.jit(jax.vmap(schedule, (0, None)))(hyper, 0.25)
        np.testing.assert_allclose(found, [0.853553, 0.75, 1], rtol=1e-5)

    def test_shapes_are_a_difference_in_training(self, tiny):
        hyper = Hyper.constant(3, learning_rate=0.1, warmup=0.0)._replace(schedule=np.arange(3.0))
        archs, seeds = ARCHS[[0, 0, 0]], SEEDS[[0, 0, 0, 0]]
        *_, (_, metrics) = train(tiny, hyper, archs=archs, seeds=seeds)
        assert len(set(metrics.train_loss.tolist())) == 3


class TestRows:
    def test_constant(self):
        hyper = Hyper.constant(2, warmup=0.25, drop_path=0.5, batch_share=0.5)
        assert all(v.shape == (2,) and v.dtype == np.float32 for v in jax.tree.leaves(hyper))
        named = {name: v.tolist() for name, v in hyper._asdict().items() if v is not None}
        assert named["warmup"] == [0.25, 0.25]
        assert named["drop_path"] == named["batch_share"] == [0.5, 0.5]
        assert named["dropout"] == named["flip"] == named["shift"] == named["cutout"] == [0, 0]
        assert Hyper.constant(1).batch_share == 1

    def test_own_values_take_the_place_of_given_ones_where_they_are_numbers(self):
        own = {"momentum": np.array([0.1, np.nan]), "cutout": np.array([np.nan, 3])}
        hyper = Hyper.constant(2, momentum=0.8).overridden(own)
        np.testing.assert_allclose(hyper.momentum, [0.1, 0.8])
        np.testing.assert_allclose(hyper.cutout, [0, 3])
        np.testing.assert_allclose(hyper.learning_rate, [0.1, 0.1])

    def test_rows_in_order(self):
        hyper = HYPER.rows([2, 0])
        np.testing.assert_allclose(hyper.learning_rate, [0.2, 0.05])
        np.testing.assert_allclose(hyper.warmup, [0.5, 0.0])
        assert hyper.drop_path == 0.0

    def test_a_number_for_all_is_one_each(self, tiny):
        one_for_all = HYPER._replace(momentum=0.5)
        one_each = HYPER._replace(momentum=np.full(3, 0.5))
        assert_trees_equal(train(tiny, one_for_all, epochs=1), train(tiny, one_each, epochs=1))


def test_smoothed_cross_entropy_by_hand():
    rng = np.random.default_rng(0)
    logits, y = rng.standard_normal((4, 3)), np.array([0, 2, 1, 1])
    losses = []
    for row, label in zip(logits, y, strict=True):
        logs = row - np.log(np.exp(row).sum())
        target = [0.7 + 0.1 if k == label else 0.1 for k in range(3)]
        losses.append(-np.dot(target, logs))
    found = cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(y), 0.3)
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-5)


SHARES = HYPER._replace(batch_share=np.array([0.5, 1.0, 0.25]))


@pytest.fixture(scope="module")
def shared(tiny):
    """One program of 8 images a step: batches of 4, 8 and 2."""
    return train(tiny, SHARES, images=IMAGES, batch_size=8, epochs=2)


class TestBatchShare:
    @pytest.mark.parametrize(("row", "batch_size"), [(0, 4), (1, 8), (2, 2)])
    def test_as_in_a_program_of_that_batch_size(self, tiny, shared, row, batch_size):
        """Losses, weights, averages and momentum: so the images too, in the same order."""
        whole = train(tiny, images=IMAGES, batch_size=batch_size, epochs=2)
        assert_trees_close(pick(shared, row), pick(whole, row), **CLOSE)

    def test_the_size_of_the_batch_is_a_difference(self, tiny, shared):
        whole = train(tiny, images=IMAGES, batch_size=8, epochs=2)
        assert_trees_equal(pick(shared, 1), pick(whole, 1))
        for row in (0, 2):
            for a, b in zip(shared, whole, strict=True):
                assert abs(a[1].train_loss[row] - b[1].train_loss[row]) > 1e-3

    def test_candidates_of_unequal_steps_in_one_chunk(self, tiny, shared):
        layout = Layout(2, tuple(jax.devices()[:1]))
        together = train(tiny, SHARES, images=IMAGES, batch_size=8, epochs=2, layout=layout)
        rows = (0, 1, 2)
        assert_trees_close(pick(together, *rows), pick(shared, *rows), **CLOSE)

    def test_a_third_is_whole_whatever_its_rounding(self, tiny):
        hyper = HYPER._replace(batch_share=1 / 3)
        thirds = train(tiny, hyper, images=IMAGES, batch_size=6, epochs=1)
        whole = train(tiny, images=IMAGES, batch_size=2, epochs=1)
        assert_trees_close(pick(thirds, 0, 1, 2), pick(whole, 0, 1, 2), **CLOSE)

    @pytest.mark.parametrize("share", [0.3, 0.75, 0.0, -0.5, 0.0625, 2.0, np.nan], ids=str)
    def test_no_whole_divisor_is_refused(self, tiny, share):
        hyper = HYPER._replace(batch_share=np.array([1.0, share, 1.0]))
        with pytest.raises(InputError) as refused:
            train(tiny, hyper, batch_size=8)
        assert str(refused.value) == (
            f"batch_share is {share:g} of 8 images, expected 1 over a whole number that divides 8."
        )
