"""Widths that architectures choose: masks, sizes, and that 8 channels inside 16 are 8 channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_close, narrowed

from jaxnas.errors import InputError
from jaxnas.network import Network
from jaxnas.nn import (
    BatchNorm,
    Choice,
    Conv,
    GlobalAvgPool,
    Identity,
    Linear,
    ReLU,
    Sequential,
    Width,
    Zero,
)
from jaxnas.proxies import get_proxies
from jaxnas.proxy import Batch
from jaxnas.scoring.per_architecture import score_per_architecture

IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((6, 8, 8, 3)), jnp.float32)
BATCH = Batch(IMAGES, jnp.arange(6, dtype=jnp.int32) % 3)


class Net(nnx.Module):
    """Two convolutions of widths `a` and `b`, a depthwise one between, and a block that may be there."""

    def __init__(self, a, b):
        self.first = Sequential(Conv(3, a, 3), BatchNorm(a), ReLU())
        groups = a.largest if isinstance(a, Width) else a
        self.deep = Sequential(Conv(a, a, 3, groups=groups), BatchNorm(a), ReLU())
        self.second = Sequential(Conv(a, b, 1, bias=True), BatchNorm(b), ReLU())
        extra = Sequential(Conv(b, b, 3), BatchNorm(b), ReLU())
        self.block = Choice(2, [Identity(), extra])
        self.head = Sequential(GlobalAvgPool(), Linear(b, 3))

    def __call__(self, x, ctx):
        """Logits."""
        for part in (self.first, self.deep, self.second, self.block, self.head):
            x = part(x, ctx)
        return x


A, B = (4, 8, 16), (6, 12)
ELASTIC = Network(Net(Width(0, A), Width(1, B)), 8, 3, 3)
ROWS = np.array([[0, 0, 0], [1, 1, 1], [2, 0, 1], [0, 1, 1], [2, 1, 0]], np.int32)


def narrow(row, variables):
    """The network of the row's widths built alone, with the first channels of the wide one's."""
    network = Network(Net(A[row[0]], B[row[1]]), 8, 3, 3)
    return network, narrowed(network, variables)


@pytest.fixture(scope="module")
def variables():
    fresh = ELASTIC.init(jax.random.key(0))
    noise = np.random.default_rng(1)
    # Batch norm's shifts are 0 at initialisation, where a masked channel would not show.
    return jax.tree.map(
        lambda a: a + 0.3 * jnp.asarray(noise.standard_normal(a.shape), a.dtype) ** 2, fresh
    )


@pytest.mark.parametrize("batch_norm", ["batch", "running"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_masked_channels_take_no_part(row, batch_norm, variables):
    network, own = narrow(row, variables)
    arch = np.array([0, 0, row[2]], np.int32)
    expected = network.apply(own, arch, IMAGES, batch_norm=batch_norm).logits
    got = jax.jit(lambda r: ELASTIC.apply(variables, r, IMAGES, batch_norm=batch_norm).logits)(row)
    assert_trees_close(got, expected, rtol=1e-4, atol=1e-5)


def test_masked_channels_do_not_score(variables):
    proxies = get_proxies(
        ["naswot", "swap", "linear_regions", "meco", "near", "depth", "grad_norm", "params", "macs"]
    )
    for row in ROWS:
        fitted = ELASTIC.specialise(variables, row)
        network, own = narrow(row, fitted)
        arch = np.array([[0, 0, row[2]]], np.int32)
        expected = score_per_architecture(network, own, arch, BATCH, proxies)
        got = score_per_architecture(ELASTIC, variables, row[None], BATCH, proxies)
        assert_trees_close(got, expected, rtol=1e-4)


def test_initial_weights_have_the_deviation_of_the_own_fan_in():
    fresh = ELASTIC.init(jax.random.key(3))
    for row in ROWS:
        fitted = ELASTIC.specialise(fresh, row)
        network, own = narrow(row, fitted)
        kernels = [k for k in jax.tree.leaves(own.params) if k.ndim > 1]
        alone = [k for k in jax.tree.leaves(network.init(jax.random.key(4)).params) if k.ndim > 1]
        for got, expected in zip(kernels, alone, strict=True):
            bound = float(jnp.abs(expected).max())
            assert float(jnp.abs(got).max()) == pytest.approx(bound, rel=0.35)


def test_counts_are_those_of_the_network_built_alone():
    counts = ELASTIC.count(ROWS)
    for i, row in enumerate(ROWS):
        alone = Network(Net(A[row[0]], B[row[1]]), 8, 3, 3)
        expected = alone.count(np.array([[0, 0, row[2]]], np.int32))
        assert (counts.params[i], counts.macs[i]) == (expected.params[0], expected.macs[0])


def test_active_weights_are_those_that_are_counted():
    ones = jax.tree.map(jnp.ones_like, ELASTIC.init(jax.random.key(0)).params)
    for row, count in zip(ROWS, ELASTIC.count(ROWS).params, strict=True):
        there = jax.tree.map(lambda m, p: jnp.sum(m * p), ELASTIC.active(row), ones)
        assert sum(jax.tree.leaves(there)) == count
        traced = jax.jit(ELASTIC.active)(row)
        assert_trees_close(traced, ELASTIC.active(row))


def surveyed(module):
    return Network(module, 8, 3, 3).survey


def test_the_survey_finds_decisions_conditions_and_reports():
    survey = ELASTIC.survey
    assert survey.decisions == {0: ("4", "8", "16"), 1: ("6", "12"), 2: ("0", "1")}
    assert () in survey.needs[1]
    assert ((2, 1),) in survey.needs[1]  # read again inside the block
    # Of all branches, at the largest widths: 64 pixels of 16, 16, 12 and 12 channels.
    assert survey.reports["pre_activation"] == 64 * 56
    assert survey.reports["affine"] == 64 * 56 + 3
    assert survey.outputs.shape == (1, 3)
    assert survey.elastic


def test_branches_and_sums_must_be_alike():
    uneven = Sequential(Choice(0, [Conv(3, 4, 3), Conv(3, 5, 3)]))
    with pytest.raises(InputError, match=r"branches of decision 0 differ: 8 x 8 x 4 and 8 x 8 x 5"):
        surveyed(uneven)
    widths = [Conv(3, Width(1, (2, 4)), 3), Conv(3, Width(1, (4, 2)), 3)]
    with pytest.raises(InputError, match=r"of width \(2, 4\) and 8 x 8 x 4 of width \(4, 2\)"):
        surveyed(Choice(0, widths))

    class Sum(nnx.Module):
        def __init__(self):
            self.one, self.other = Conv(3, 4, 3), Conv(3, 4, 3, stride=2)

        def __call__(self, x, ctx):
            return ctx.add([self.one(x, ctx), self.other(x, ctx)])

    with pytest.raises(InputError, match="Two values that are added differ"):
        surveyed(Sum())


def test_one_decision_has_one_number_of_choices():
    pair = Sequential(Choice(0, [Identity(), Zero()]), Choice(0, [Identity(), Zero(), Zero()]))
    with pytest.raises(InputError, match="Decision 0 has 2 choices in one place"):
        surveyed(pair)


def test_names_and_numbers_do_not_mix():
    pair = Sequential(Choice("a", [Identity(), Zero()]), Choice(0, [Identity(), Zero()]))
    with pytest.raises(InputError, match="all by name or all by number"):
        surveyed(pair)


@pytest.mark.parametrize("values", [(), (0, 4)])
def test_a_width_has_channels(values):
    with pytest.raises(InputError, match="at least 1"):
        Width(0, values)


def test_a_million_rows_are_counted_by_a_few_look_ups():
    rows = np.random.default_rng(0).integers(0, [3, 2, 2], (1_000_000, 3))
    counts = ELASTIC.count(rows)
    assert counts.params.shape == counts.macs.shape == (1_000_000,)
    assert len(ELASTIC._sizes.tables) <= 2
