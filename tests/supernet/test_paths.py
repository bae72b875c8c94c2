"""Which paths a step takes: uniform, and strictly fair."""

import jax
import numpy as np
import pytest
from flax import nnx
from scipy.stats import chisquare

from jaxnas.errors import InputError
from jaxnas.module_space import ModuleSpace
from jaxnas.nn import Choice, Conv, GlobalAvgPool, Identity, Linear
from jaxnas.search_spaces import get_space
from jaxnas.spaces import Size
from jaxnas.supernet.fairnas import FairNAS
from jaxnas.supernet.source import Source
from jaxnas.supernet.train import TRAINERS

UNFREE = ("darts", "nasbench101")


class Uneven(nnx.Module):
    """Decisions of 2, 5 and 3 choices."""

    def __init__(self, size, classes, image_channels):
        c = size.channels
        self.stem = Conv(image_channels, c, 3)
        self.choices = nnx.List(
            Choice(f"d{n}", [Identity(), *(Conv(c, c, 1) for _ in range(n - 1))]) for n in (2, 5, 3)
        )
        self.head = nnx.List([GlobalAvgPool(), Linear(c, classes)])

    def __call__(self, x, ctx):
        x = self.stem(x, ctx)
        for layer in (*self.choices, *self.head):
            x = layer(x, ctx)
        return x


UNEVEN = ModuleSpace(Uneven, size=Size(2, (1,), 4))


def test_single_paths_are_uniform_over_what_connects(space):
    archs = TRAINERS["spos"].draw(Source(space), (), jax.random.key(0), 30_000)
    assert archs.shape == (30_000, 1, 6)
    archs = archs[:, 0]
    assert space.connected(archs).all()
    every = space.all()
    every = every[space.connected(every)]
    for d in range(6):
        expected = np.bincount(every[:, d], minlength=5) / len(every) * len(archs)
        assert chisquare(np.bincount(archs[:, d], minlength=5), expected).pvalue > 1e-3
    pair = np.bincount(archs[:, 0] * 5 + archs[:, 5], minlength=25)
    expected = np.bincount(every[:, 0] * 5 + every[:, 5], minlength=25) / len(every) * len(archs)
    assert chisquare(pair, expected).pvalue > 1e-3


def test_every_choice_once_a_step(space):
    archs = TRAINERS["fairnas"].draw(Source(space), (), jax.random.key(0), 400)
    assert archs.shape == (400, 5, 6)
    for d in range(6):
        assert (np.sort(archs[:, :, d], axis=1) == np.arange(5)).all()
    # Permutations are drawn for each decision by itself: each pair meets equally often.
    pairs = np.bincount((archs[..., 0] * 5 + archs[..., 1]).reshape(-1), minlength=25)
    assert chisquare(pairs).pvalue > 1e-3
    # ... and every permutation comes.
    orders = np.unique(archs[:, :, 2], axis=0, return_counts=True)[1]
    assert len(orders) > 100


def test_decisions_of_fewer_choices_string_permutations_together():
    archs = FairNAS().draw(Source(UNEVEN), (), jax.random.key(1), 3000)
    assert archs.shape == (3000, 5, 3)
    for d, c in enumerate((2, 5, 3)):
        counts = (archs[:, :, d, None] == np.arange(c)).sum(axis=1)
        assert counts.min() == 5 // c
        assert counts.max() == -(-5 // c)
        assert chisquare(counts.sum(axis=0)).pvalue > 1e-3


@pytest.mark.parametrize("name", UNFREE)
def test_fairness_is_refused_where_decisions_are_not_free(name):
    with pytest.raises(
        InputError, match=f"decisions of {name} are not free.*spos, random and enas"
    ):
        FairNAS().check(Source(get_space(name)))


def test_fairness_serves_free_decisions(space):
    FairNAS().check(Source(space))
    FairNAS().check(Source(UNEVEN))


@pytest.mark.parametrize("name", TRAINERS)
def test_what_is_proposed_is_distinct_and_there(name):
    source = Source(UNEVEN)
    trainer = TRAINERS[name]
    policy = trainer.init(source, jax.random.key(0))
    archs = trainer.propose(source, policy, jax.random.key(1), 20)
    assert len(np.unique(archs, axis=0)) == len(archs) == 20
    UNEVEN.check(archs)
    assert len(trainer.propose(source, policy, jax.random.key(1), 64)) <= 30
