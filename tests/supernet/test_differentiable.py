"""Differentiable searches: what they find, from where they go on, and which spaces they take."""

import importlib
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_equal, compilations
from relaxed_toys import BEST, toy_data, toy_network, toy_space

from jaxnas.errors import InputError
from jaxnas.search_spaces import SPACES, get_space
from jaxnas.search_spaces.darts import EDGES
from jaxnas.spaces import Size
from jaxnas.supernet.differentiable import STRATEGIES, get_strategy, loop, search
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.gradients import trained_masks
from jaxnas.training.population import Hyper, TrainingData

# The function of the same name hides the module.
differentiable_search = importlib.import_module("jaxnas.supernet.differentiable.search")

HYPER = Hyper.constant(1, learning_rate=0.1, weight_decay=0.0)
DATA = toy_data()
EPOCHS = 15


@pytest.fixture(scope="module")
def toy():
    space = toy_space()
    return space, toy_network(space)


def quick(name):
    """A strategy whose architecture parameters move fast enough for a toy."""
    settings = {"strength": 1.0} if name == "betadarts" else {}
    return replace(STRATEGIES[name], learning_rate=0.02, **settings)


def found(toy, name, **settings):
    settings = {"epochs": EPOCHS, "batch_size": 32, **settings}
    return search(quick(name), *toy, DATA, HYPER, **settings)


class TestToy:
    @pytest.mark.parametrize("name", STRATEGIES)
    def test_the_best_is_found_by_ten_seeds_and_one_program(self, toy, name):
        arch, history = found(toy, name)
        assert arch.tolist() == BEST
        assert [record.epoch for record in history] == list(range(1, EPOCHS + 1))
        assert history[-1].val_loss < history[0].val_loss
        assert history[-1].entropy < history[0].entropy
        assert history[-1].share_of_skips == 0.5
        with compilations() as compiled:
            for seed in range(1, 10):
                assert found(toy, name, seed=seed)[0].tolist() == BEST
        assert compiled == []

    @pytest.mark.parametrize("name", ["gdas", "pdarts"])
    def test_resumed_as_undisturbed(self, toy, name):
        states = []
        whole = found(toy, name, on_epoch=lambda s, _: states.append(jax.tree.map(np.array, s)))
        # The fifth epoch is the last of P-DARTS's first stage.
        for after in (5, 7):
            state = jax.tree.map(jnp.array, states[after - 1])
            resumed = found(toy, name, state=state)
            assert_trees_equal(resumed, (whole[0], whole[1][after:]))

    def test_weights_alone_are_trained_at_first(self, toy):
        _, history = found(toy, "pcdarts")
        first = history[0].probabilities
        still = [bool((record.probabilities == first).all()) for record in history]
        # Up to a third of 15 epochs: epochs 0 to 4 end before 0.3 * 15.
        assert still == [True] * 5 + [False] * 10

    def test_a_loss_that_is_no_number_is_said(self, toy):
        hyper = HYPER._replace(learning_rate=np.array([np.nan], np.float32))
        with pytest.raises(InputError, match="stopped being a number in epoch 1"):
            search("darts", *toy, DATA, hyper, epochs=1, batch_size=32)

    def test_what_does_not_fit_is_said(self, toy):
        space, network = toy
        with pytest.raises(InputError, match="did you mean darts"):
            get_strategy("dart")
        with pytest.raises(InputError, match="batch size 300 exceeds the 256"):
            found(toy, "darts", batch_size=300)
        with pytest.raises(InputError, match="one for each stage, not 2"):
            search("pdarts", space, [network] * 2, DATA, HYPER, epochs=3, batch_size=8)


class TestPDARTS:
    def test_the_strongest_are_kept(self):
        strategy = STRATEGIES["pdarts"]
        present = np.ones((2, 8), bool)
        present[1, 5:] = False
        choices = Choices(present, ~present, ~present, np.arange(2))
        probabilities = np.where(
            present, np.array([[3, 1, 8, 5, 2, 7, 4, 6], [5, 1, 4, 2, 3, 0, 0, 0]]), 0
        )
        second = strategy.kept_in(1, probabilities, choices)
        assert [np.flatnonzero(row).tolist() for row in second] == [[2, 3, 5, 6, 7], [0, 2, 3, 4]]
        third = strategy.kept_in(2, np.where(second, probabilities, 0), choices)
        assert [np.flatnonzero(row).tolist() for row in third] == [[2, 5, 7], [0, 2]]

    def test_dropped_branches_stay_at_nothing(self, toy):
        _, history = found(toy, "pdarts")
        numbers = [(record.probabilities > 0).sum(axis=1).tolist() for record in history]
        assert numbers == [[3, 3]] * 5 + [[2, 2]] * 10

    def test_skip_dropout_falls_within_a_stage(self):
        strategy = STRATEGIES["pdarts"]
        rates = [strategy.now(2, epoch, 5).skip_dropout for epoch in range(5)]
        assert rates == pytest.approx(0.7 * np.exp(-0.75 * np.arange(5)))
        assert strategy.now(0, 0, 5).skip_dropout == 0

    def test_the_weakest_skips_give_way(self, space, tiny):
        choices = Choices.of(tiny)
        probabilities = np.zeros((6, 5))
        probabilities[:, 1] = [0.9, 0.5, 0.6, 0.8, 0.55, 0.7]
        probabilities[:, 3] = 0.1
        arch = STRATEGIES["pdarts"].discretise(space, probabilities, choices)
        assert arch.tolist() == [1, 3, 3, 1, 3, 3]


class TestDiscretise:
    def test_most_probable(self, space):
        probabilities = np.random.default_rng(0).random((6, 5))
        assert space.discretise(probabilities).tolist() == probabilities.argmax(1).tolist()

    def test_darts_rule_by_hand(self):
        darts = get_space("darts")
        p = np.full((28, 8), 0.01)
        p[:, 0] = 0.9  # none is no operation
        edge = {e: i for i, e in enumerate(EDGES)}
        for (source, node), op, strength in (
            ((0, 2), "sep_conv_3x3", 0.1),
            ((1, 2), "skip_connect", 0.2),
            ((2, 3), "max_pool_3x3", 0.3),
            ((0, 3), "dil_conv_3x3", 0.2),
            ((3, 4), "sep_conv_5x5", 0.5),
            ((2, 4), "avg_pool_3x3", 0.4),
            ((1, 4), "avg_pool_3x3", 0.3),
            ((4, 5), "dil_conv_5x5", 0.5),
            ((0, 5), "skip_connect", 0.6),
        ):
            for cell in (0, 14):
                p[cell + edge[source, node], 1 + darts.operations.index(op)] = strength
        p[14 + edge[1, 5], 1] = 0.9
        normal = (
            "[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_3x3', 0), ('max_pool_3x3', 2), "
            "('avg_pool_3x3', 2), ('sep_conv_5x5', 3), ('skip_connect', 0), ('dil_conv_5x5', 4)]"
        )
        reduce = normal.replace("('dil_conv_5x5', 4)", "('max_pool_3x3', 1)")
        concat = "concat=range(2, 6)"
        expected = f"Genotype(normal={normal}, normal_{concat}, reduce={reduce}, reduce_{concat})"
        assert darts.to_string(darts.discretise(p)) == expected
        assert darts.cells_of(28).tolist() == [0] * 14 + [1] * 14
        with pytest.raises(InputError, match="needs both kinds"):
            darts.discretise(p[:14])


def test_batch_norms_inside_choices_keep_scale_and_shift(tiny, variables):
    masks = jax.tree_util.tree_leaves_with_path(trained_masks(tiny, variables.params))
    for path, mask in masks:
        name = jax.tree_util.keystr(path)
        assert mask == (0.0 if "branches" in name and ("scale" in name or "bias" in name) else 1.0)
    assert {mask for _, mask in masks} == {0.0, 1.0}


FITTING = {
    "nasbench201": Size(channels=4, cells=(1,), resolution=8),
    "nasbench_macro": Size(channels=2, cells=(2, 3, 3), resolution=8),
    "transnas_micro": Size(channels=4, cells=(1,), resolution=8),
    "darts": Size(channels=4, cells=(1, 0), resolution=8),
    "nasnet": Size(channels=4, cells=(1, 0), resolution=8),
}
LARGE = ("darts", "nasnet", "nasbench_macro", "transnas_micro")
"""Their programs take minutes to compile; in the fast run they are traced."""


def images(n):
    x = jax.random.normal(jax.random.key(0), (n, 8, 8, 3))
    return x, jnp.arange(n) % 3


def searched(name, strategy, epochs):
    space = get_space(name)
    network = space.network(FITTING[name], classes=3)
    data = TrainingData(*images(4), *images(4))
    return space, search(strategy, space, network, data, HYPER, epochs=epochs, batch_size=4)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in FITTING]
)
def test_spaces_of_cells_are_searched(name):
    space, (arch, history) = searched(name, "gdas", epochs=2)
    space.check(arch[None])
    assert len(history) == 2
    assert np.isfinite([record.train_loss for record in history]).all()


@pytest.mark.parametrize("name", [n for n in LARGE if n != "nasnet"])
def test_large_spaces_are_traced(name, monkeypatch):
    def traced(network, strategy, batch_size, state, *rest):
        epoch = partial(loop.search_epoch, network, strategy, batch_size)
        after, losses = jax.eval_shape(epoch, state, *rest)
        assert losses.shape == (2,)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        return state._replace(epoch=state.epoch + 1), np.zeros(2)

    monkeypatch.setattr(differentiable_search, "search_epoch", traced)
    space, (arch, history) = searched(name, "darts", epochs=1)
    space.check(arch[None])
    assert len(history) == 1


@pytest.mark.parametrize("name", sorted(set(SPACES) - set(FITTING)))
def test_other_spaces_say_that_they_do_not_fit(name):
    space = get_space(name)
    with pytest.raises(InputError, match=f"{space.name} has no rule that makes an architecture"):
        space.discretise(np.ones((len(space.decisions), 2)))
