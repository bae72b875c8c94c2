"""Hyper-parameters of an epoch's own against trainings joined, and trainings that end early."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from candidates import ARCHS, HYPER, SEEDS, pick, train
from helpers import assert_trees_equal, compilations

from jaxnas.errors import InputError
from jaxnas.training.fidelity import stale
from jaxnas.training.population import EpochMetrics, init_population

EPOCHS = 3
FACTORS = np.array([[1.0, 1.0, 1.0], [0.5, 2.0, 0.0], [0.1, 1.0, 3.0]])
"""By epoch: what the learning rates of three candidates are multiplied by."""


def own_rates(epoch, hyper):
    return hyper._replace(learning_rate=HYPER.learning_rate * FACTORS[epoch])


@pytest.fixture(scope="module")
def plain(tiny):
    return train(tiny)


@pytest.fixture(scope="module")
def found(tiny):
    return train(tiny, HYPER, hyper_at=own_rates)


class TestHyperAt:
    def test_as_trainings_of_an_epoch_each_joined(self, tiny, found):
        population, joined = init_population(tiny, SEEDS, ARCHS), []
        for epoch in range(EPOCHS):
            piece = train(tiny, own_rates(epoch, HYPER), population=population, start_epoch=epoch)
            joined.append(piece[0])
            population = jax.tree.map(jnp.asarray, piece[0][0])
        assert_trees_equal(found, joined)

    def test_is_noticed(self, found, plain):
        assert_trees_equal(found[0], plain[0])
        for mine, usual in zip(found[1:], plain[1:], strict=True):
            assert (mine[1].val_loss != usual[1].val_loss).all()

    def test_resumed_as_undisturbed(self, tiny, found):
        before = jax.tree.map(jnp.asarray, found[0][0])
        resumed = train(tiny, HYPER, hyper_at=own_rates, population=before, start_epoch=1)
        assert_trees_equal(resumed, found[1:])

    def test_one_program_with_what_any_epoch_needs(self, tiny, found):
        """Nothing new for other rates; where but the last epoch drops features, one for all."""
        with compilations() as compiled:
            train(tiny, HYPER, hyper_at=lambda e, h: own_rates(2 - e, h))
        assert compiled == []
        with compilations() as compiled:
            last = train(
                tiny, HYPER, hyper_at=lambda e, h: h._replace(dropout=np.full(3, 0.5 * (e == 2)))
            )
        assert [name for name in compiled if "train" in name] == ["jit(train_epoch)"]
        assert np.isfinite(last[-1][1].train_loss).all()

    def test_a_bad_epoch_is_refused_before_any_is_trained(self, tiny):
        heard = []
        with pytest.raises(InputError, match=r"batch_share is 0\.3 of 4 images"):
            train(
                tiny,
                HYPER,
                hyper_at=lambda e, h: h._replace(batch_share=0.3 if e == 2 else 1.0),
                survivors=lambda e, m: heard.append(e),
            )
        assert heard == []


def curves(*values):
    return [EpochMetrics(*(np.array([v]) for v in (1.0, 1.0, 0.0, value))) for value in values]


class TestEnd:
    def test_once_nobody_is_left(self, tiny, plain):
        left = np.array([[1, 0, 1], [0, 0, 0]], bool)
        found = train(tiny, HYPER, survivors=lambda epoch, metrics: left[epoch - 1])
        assert len(found) == 2
        assert_trees_equal(found[0], plain[0])
        assert_trees_equal(pick(found, 0, 2), pick(plain[:2], 0, 2))
        assert_trees_equal(pick(found[1:], 1)[0][0], pick(plain, 1)[0][0])
        assert np.isnan(found[1][1].val_metric[1])

    def test_not_while_somebody_is(self, tiny, plain):
        found = train(tiny, HYPER, survivors=lambda epoch, metrics: np.array([False, True, False]))
        assert len(found) == EPOCHS
        assert_trees_equal(pick(found, 1), pick(plain, 1))

    @pytest.mark.parametrize(
        ("patience", "values", "expected"),
        [
            (0, [0.5, 0.4, 0.3, 0.2], False),
            (1, [], False),
            (1, [0.5], False),
            (1, [0.5, 0.6], False),
            (1, [0.5, 0.5], True),
            (2, [0.5, 0.4], False),
            (2, [0.5, 0.4, 0.5], True),
            (2, [0.5, 0.6, 0.4], False),
            (2, [0.5, 0.6, 0.4, 0.6], True),
            (2, [0.5, 0.4, 0.6], False),
            (3, [0.1, 0.9, 0.2, 0.3], False),
            (3, [0.1, 0.9, 0.2, 0.3, 0.4], True),
        ],
    )
    def test_stale(self, patience, values, expected):
        assert stale(curves(*values), patience) is expected
