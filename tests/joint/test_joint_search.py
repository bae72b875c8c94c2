"""Joint runs from beginning to end: what they find, what moves when, and what they leave."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_equal, compilations
from relaxed_toys import BEST, CHANNELS, toy_data, toy_network, toy_space

from jaxnas.augment import PolicyAugment
from jaxnas.errors import InputError
from jaxnas.joint import Settings, begin, search
from jaxnas.joint.run import Run, fixed, kept
from jaxnas.search_spaces import get_space
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.training.hyper import Hyper
from jaxnas.training.objective import Objective
from jaxnas.training.population import TrainingData

HYPER = Hyper.constant(1, learning_rate=0.1, weight_decay=1e-3, warmup=0.0)
DATA = toy_data()
EPOCHS = 12
QUICK = {"architecture_rate": 0.02, "hot": 2.0}


@pytest.fixture(scope="module")
def toy():
    space = toy_space()
    return space, toy_network(space)


def run_toy(toy, *, settings=None, **options):
    options = {"epochs": EPOCHS, "batch_size": 32, "hyper": HYPER, **options}
    return search(*toy, DATA, settings=Settings(**QUICK | (settings or {})), **options)


class TestToy:
    def test_the_best_is_found_by_ten_seeds_and_two_programs(self, toy):
        with compilations() as compiled:
            found = run_toy(toy)
        assert compiled.count("jit(joint_epoch)") + compiled.count("joint_epoch") == 2
        phases = [record.phase for record in found.history]
        assert phases == ["search"] * 6 + ["fixed"] * 5 + ["settled"]
        assert found.arch.tolist() == BEST
        last = found.history[-1]
        assert last.val_loss < found.history[0].val_loss
        assert last.val_accuracy > 0.8
        assert last.share_of_skips == 0.5
        with compilations() as compiled:
            for seed in range(1, 10):
                assert run_toy(toy, seed=seed).arch.tolist() == BEST
            hyper = Hyper.constant(1, learning_rate=0.05)
            run_toy(toy, hyper=hyper, settings={"hyper_rate": 0.1, "cold": 0.5})
        assert compiled == []

    @pytest.mark.parametrize("rate", [0.002, 20.0])
    def test_the_learning_rate_moves_the_right_way(self, toy, rate):
        hyper = HYPER._replace(learning_rate=np.array([rate], np.float32), schedule=np.full(1, 2.0))
        still = run_toy(toy, hyper=hyper, settings={"hyper_rate": 0.0})
        moving = run_toy(toy, hyper=hyper, settings={"hyper_rate": 0.05})
        rates = [record.learning_rate for record in moving.history]
        assert {record.learning_rate for record in still.history} == {np.float32(rate)}
        if rate < 0.1:
            assert rates[-1] == pytest.approx(10 * rate, rel=1e-4)  # as far as it may
            assert moving.history[-1].val_loss < 0.9 * still.history[-1].val_loss
        else:
            assert rates[-1] < 0.5 * rate
        assert rates[-2] == rates[-1]  # settled
        assert moving.hyper.learning_rate.tolist() == [np.float32(rates[-1])]

    @pytest.mark.parametrize("policies", [False, True])
    def test_resumed_as_undisturbed(self, toy, policies):
        augmenter = PolicyAugment((0.5,) * CHANNELS, (1.0,) * CHANNELS, 0.0, 1.0)
        few = {"operations": ("TranslateX", "Invert"), "subpolicies": 2, "layers": 1}
        options = {"augmenter": augmenter, "epochs": 4, "settings": few} if policies else {}
        states = []

        def on_epoch(state, record):
            states.append(jax.tree.map(np.array, state))

        whole = run_toy(toy, on_epoch=on_epoch, **options)
        assert (whole.policy is None) != policies
        for after in (1, 2, 3) if policies else (3, 6, 8, 11):
            state = jax.tree.map(jnp.array, states[after - 1])
            resumed = run_toy(toy, state=state, **options)
            assert_trees_equal(resumed[:-1], whole[:-1])
            said = [record._replace(phase="") for record in whole.history[after:]]
            expected = [record._replace(phase="") for record in resumed.history]
            assert [r.epoch for r in said] == [r.epoch for r in expected]
            for a, b in zip(said, expected, strict=True):
                np.testing.assert_array_equal(a[2:6], b[2:6])

    def test_a_state_restores_like_a_fresh_one(self, toy):
        states = []
        run_toy(
            toy, epochs=2, on_epoch=lambda state, _: states.append(jax.tree.map(np.array, state))
        )
        fresh = begin(*toy, seed=0, hyper=HYPER)
        assert jax.tree.structure(states[0]) == jax.tree.structure(fresh)
        shapes = [jax.tree.map(lambda a: (a.shape, a.dtype), tree) for tree in (states[0], fresh)]
        assert shapes[0] == shapes[1]

    def test_a_loss_that_is_no_number_is_said(self, toy):
        hyper = HYPER._replace(learning_rate=np.array([np.nan], np.float32))
        with pytest.raises(InputError, match="stopped being a number in epoch 1"):
            run_toy(toy, hyper=hyper, epochs=2)

    def test_what_does_not_fit_is_said(self, toy):
        with pytest.raises(InputError, match="batch size 300 exceeds the 256"):
            run_toy(toy, batch_size=300)
        space = get_space("mlp")
        network = space.network(space.proxy_size, classes=3, image_channels=1)
        with pytest.raises(InputError, match="need a network of choice points"):
            search(space, network, DATA, epochs=2, batch_size=8)
        for wrong, said in (
            ({"fixed_after": 0.0}, "fixed_after is 0 "),
            ({"fixed_after": 0.8, "settled_after": 0.7}, "in this order"),
            ({"settled_after": 1.5}, "at most 1"),
            ({"hyper_rate": -1.0}, "hyper_rate is -1"),
            ({"cold": 0.0}, "cold is 0"),
            ({"layers": 0}, "at least 1 of both"),
            ({"operations": ("Rotat",)}, "did you mean Rotate"),
        ):
            with pytest.raises(InputError, match=said):
                Settings(**wrong)


def images(n, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    # Each class is bright in a channel of its own.
    x = rng.standard_normal((n, 8, 8, 3)) + 2 * np.eye(3)[y][:, None, None]
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


CELLS = TrainingData(*images(48, 0), *images(32, 1))


@pytest.fixture(scope="module")
def cell_run(space, tiny):
    """The states after each epoch of a run of four, and the run."""
    states = []
    found = search(
        space,
        tiny,
        CELLS,
        epochs=4,
        batch_size=16,
        settings=Settings(settled_after=0.75),
        on_epoch=lambda state, record: states.append(jax.tree.map(np.array, state)),
    )
    return states, found


class TestCells:
    def test_only_the_path_is_trained_once_it_is_fixed(self, cell_run, tiny):
        states, found = cell_run
        masks = jax.tree.leaves(tiny.active(found.row))
        before, after = (jax.tree.leaves(states[i].variables.params) for i in (1, 3))
        moved = [bool((a != b).any()) for a, b in zip(before, after, strict=True)]
        assert moved == [bool(np.ravel(mask)[0]) for mask in masks]
        assert not all(moved)

    def test_norms_inside_choices_are_trained_once_it_is_fixed(self, cell_run):
        states, _ = cell_run
        fresh = jax.tree_util.tree_leaves_with_path(states[1].variables.params)
        last = jax.tree.leaves(states[3].variables.params)
        moved = [0, 0]
        for (path, was), now in zip(fresh, last, strict=True):
            name = jax.tree_util.keystr(path)
            if "branches" in name and "scale" in name:
                moved[0] += int((was != 1).any())
                moved[1] += int((now != 1).any())
        assert moved[0] == 0
        assert moved[1] > 0

    def test_what_is_returned_is_what_was_judged(self, cell_run, space, tiny):
        states, found = cell_run
        assert_trees_equal(found.variables, states[-1].variables)
        assert_trees_equal(found.row, space.rows(found.arch[None])[0])
        assert space.connected(found.arch[None])[0]
        outputs = tiny.apply(found.variables, found.row, CELLS.x_val, batch_norm="running")
        log_p = np.asarray(jax.nn.log_softmax(outputs.logits), np.float64)
        y = np.asarray(CELLS.y_val)
        last = found.history[-1]
        np.testing.assert_allclose(-log_p[np.arange(len(y)), y].mean(), last.val_loss, rtol=1e-5)
        assert (log_p.argmax(1) == y).mean() == pytest.approx(last.val_accuracy)
        assert last.val_accuracy > 0.6

    def test_learned_numbers_stand_still_once_settled(self, cell_run):
        states, _ = cell_run
        assert_trees_equal(states[3].outer, states[2].outer)
        assert float(np.abs(states[2].outer.tuned.rate - states[1].outer.tuned.rate)) > 0
        assert_trees_equal(states[2].outer.alphas, states[1].outer.alphas)
        assert np.abs(states[1].outer.alphas - states[0].outer.alphas).max() > 0

    def test_batch_norm_begins_with_the_statistics_of_the_path(self, cell_run, tiny):
        states, found = cell_run
        # One calibration batch of all 48 images: running averages are its own statistics.
        zero = jax.tree.map(jnp.zeros_like, states[1].variables)
        at_zero = states[1].variables._replace(statistics=zero.statistics)
        moved = tiny.apply(at_zero, found.row, CELLS.x, batch_norm="update").statistics
        expected = jax.tree.map(lambda a: a / 0.1, moved)
        leaves = (jax.tree.leaves(tree) for tree in (states[1].variables.statistics, expected))
        for got, wanted in zip(*leaves, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)

    def test_a_path_that_connects_nothing_is_not_fixed(self, space, tiny):
        state = begin(space, tiny, seed=0)
        alphas = jnp.zeros((6, 5)).at[:, 0].set(3).at[:, 2].set(1)
        state = state._replace(outer=state.outer._replace(alphas=alphas))
        rest = (None, Objective(), 2, 8)
        for none in (True, False):
            given = (Choices.of(tiny), Hyper.constant(1), Settings(none=none))
            run = Run(space, tiny, CELLS, *given, *rest)
            assert kept(run)[:, 0].tolist() == [none] * 6
            assert fixed(run, state).arch.tolist() == [2] * 6

    def test_no_connection_is_drawn_where_it_may_be(self, toy):
        for none in (False, True):
            history = run_toy(toy, epochs=2, settings={"none": none}).history
            assert ((history[0].probabilities[:, 0] > 0) == none).all()
