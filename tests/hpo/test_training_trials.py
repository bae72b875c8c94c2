"""Networks as members: trained in pieces, copied and begun anew, against populations in one go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_equal, compilations

from jaxnas.errors import InputError
from jaxnas.hpo import training_trials
from jaxnas.hpo.training_trials import TrainingTrials, with_values
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import TrainingData, init_population, train_population

ROWS = np.array([[3, 4, 1, 2, 0, 3]] * 2 + [[2, 1, 2, 3, 1, 4]], np.int32)
SEEDS = np.array([5, 6, 7], np.uint32)
EPOCHS = 6
"""Of a full training."""
BASE = Hyper.constant(3, momentum=0.8, warmup=0.3)
VALUES = {
    "learning_rate": np.array([0.05, 0.1, 0.02]),
    "weight_decay": np.array([0.0, 1e-2, 1e-3]),
}
ALL = np.ones(3, bool)


def split(n, seed):
    """Images of three classes, each bright in a channel of its own."""
    y = np.arange(n) % 3
    x = np.random.default_rng(seed).standard_normal((n, 8, 8, 3)) + np.eye(3)[y][:, None, None]
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


DATA = TrainingData(*split(8, 0), *split(30, 1))


@pytest.fixture(scope="module")
def make(tiny):
    def make(**settings):
        settings = {"data": DATA, "base": BASE, "batch_size": 4, "epochs": EPOCHS} | settings
        return TrainingTrials(tiny, ROWS, **settings)

    return make


@pytest.fixture(scope="module")
def trials(make):
    return make()


def kept(state):
    """A copy, as the state is used up by what follows."""
    return jax.tree.map(np.array, state)


def given(state):
    """A state to go on from, as it was."""
    return state._replace(population=jax.tree.map(jnp.asarray, state.population))


def at_once(network, population, start_epoch=0):
    """A training without any of the above: state and metrics after each epoch."""
    history = []
    train_population(
        network,
        ROWS,
        BASE._replace(**VALUES),
        DATA,
        epochs=EPOCHS,
        batch_size=4,
        population=population,
        start_epoch=start_epoch,
        on_epoch=lambda e, p, m: history.append((kept(p), m)),
    )
    return history


@pytest.fixture(scope="module")
def whole(tiny):
    return at_once(tiny, init_population(tiny, SEEDS, ROWS))


@pytest.fixture(scope="module")
def third(trials):
    """After 3 epochs at once."""
    return kept(trials.train(trials.init(SEEDS), VALUES, ALL, 3))


def row(tree, i):
    return jax.tree.map(lambda a: a[i], tree)


class TestSegments:
    def test_at_once_as_a_population(self, third, whole):
        assert_trees_equal(third.population, whole[2][0])
        np.testing.assert_array_equal(third.losses, whole[2][1].train_loss)
        assert third.epochs.tolist() == [3, 3, 3]

    @pytest.mark.parametrize("pieces", [(1, 2), (2, 1), (1, 1, 1)], ids=str)
    def test_in_pieces_as_at_once(self, trials, third, pieces):
        state = trials.init(SEEDS)
        for units in pieces:
            state = trials.train(state, VALUES, ALL, units)
        assert_trees_equal(kept(state), third)

    def test_fitness_is_the_metric_of_the_state(self, tiny, make, third, whole):
        np.testing.assert_array_equal(make().evaluate(given(third)), whole[2][1].val_metric)
        found = make(metric="auc").evaluate(given(third))
        variables = given(third).population.variables
        expected = evaluate_population(tiny, variables, ROWS, DATA.x_val, DATA.y_val, metric="auc")
        np.testing.assert_array_equal(found, expected[2])
        assert (found != expected[1]).any()

    def test_who_is_not_named_stays(self, trials, third):
        which = np.array([True, False, True])
        state = kept(trials.train(given(third), VALUES, which, 1))
        assert_trees_equal(row(state.population, 1), row(third.population, 1))
        assert state.epochs.tolist() == [4, 3, 4]
        assert state.losses[1] == third.losses[1]
        assert (state.losses != third.losses).tolist() == which.tolist()

    def test_each_epoch_is_heard_of(self, make, third, whole):
        heard = []
        trials = make(on_epoch=heard.append)
        trials.train(given(third), VALUES, np.array([True, False, True]), 2)
        expected = [m.train_loss for _, m in whole[3:5]]
        np.testing.assert_array_equal(np.array(heard)[:, [0, 2]], np.array(expected)[:, [0, 2]])
        assert np.isnan(np.array(heard)[:, 1]).all()

    def test_others_values_compile_nothing(self, trials, third):
        values = {name: v[::-1] / 2 for name, v in VALUES.items()}
        copies = np.array([1, 1, -1])
        trials.evaluate(trials.gather(given(third), copies, SEEDS))
        with compilations() as compiled:
            state = trials.gather(given(third), copies[::-1], SEEDS + 3)
            state = trials.train(state, values, np.array([True, True, False]), 2)
            trials.evaluate(state)
        assert compiled == []


class TestCopies:
    def test_have_weights_momentum_and_epochs(self, trials, third):
        """And minibatches of their own."""
        state = given(third)._replace(epochs=np.array([3, 1, 2], np.int32))
        found = trials.gather(state, np.array([2, 1, 2]), SEEDS + 9)
        for i, source in enumerate([2, 1, 2]):
            own, theirs = row(kept(found.population), i), row(third.population, source)
            assert_trees_equal(own._replace(seeds=0), theirs._replace(seeds=0))
        np.testing.assert_array_equal(found.population.seeds, SEEDS)
        assert found.epochs.tolist() == [2, 1, 2]
        np.testing.assert_array_equal(found.losses, third.losses[[2, 1, 2]])

    def test_go_on_as_the_copied_one_would_with_their_seed(self, tiny, trials, third):
        """Where members 0 and 1 are of one architecture, against a population that begins so."""
        state = trials.gather(given(third), np.array([1, 1, 2]), SEEDS)
        found = kept(trials.train(state, VALUES, ALL, 1))
        begun = row(given(third).population, np.array([1, 1, 2]))
        begun = begun._replace(seeds=jnp.asarray(SEEDS))
        ((expected, _), *_) = at_once(tiny, begun, start_epoch=3)
        assert_trees_equal(found.population, expected)
        # Other minibatches and another learning rate than the copied one's.
        assert found.losses[0] != found.losses[1]

    def test_fresh_ones_are_as_those_of_init(self, trials, third):
        state = trials.gather(given(third), np.array([-1, 0, -1]), SEEDS + 20)
        fresh = kept(trials.init(SEEDS + 20))
        for i in (0, 2):
            assert_trees_equal(row(kept(state.population), i), row(fresh.population, i))
        assert_trees_equal(row(state.population.variables, 1), row(third.population.variables, 0))
        assert state.epochs.tolist() == [0, 3, 0]
        assert np.isnan(state.losses).tolist() == [True, False, True]
        fitness = trials.evaluate(state)
        assert np.isnan(fitness).tolist() == [True, False, True]

    def test_of_different_epochs_have_their_own_learning_rate(self, trials, third, whole):
        """The second begins anew among others in their fourth epoch."""
        state = trials.gather(given(third), np.array([0, -1, 2]), SEEDS)
        found = kept(trials.train(state, VALUES, ALL, 2))
        assert found.epochs.tolist() == [5, 2, 5]
        for i, epoch in enumerate(found.epochs):
            assert_trees_equal(row(found.population, i), row(whole[epoch - 1][0], i))
            assert found.losses[i] == whole[epoch - 1][1].train_loss[i]


@pytest.fixture(scope="module")
def lost(trials):
    rate = np.array([0.05, np.nan, 0.02])
    return kept(trials.train(trials.init(SEEDS), VALUES | {"learning_rate": rate}, ALL, 3))


class TestDivergence:
    def test_is_not_noticed_by_the_others(self, trials, lost, third):
        for i in (0, 2):
            assert_trees_equal(row(lost.population, i), row(third.population, i))
        assert np.isnan(lost.losses).tolist() == [False, True, False]
        fitness = trials.evaluate(given(lost))
        assert np.isnan(fitness).tolist() == [False, True, False]
        np.testing.assert_array_equal(fitness[[0, 2]], trials.evaluate(given(third))[[0, 2]])

    def test_is_trained_no_further(self, trials, monkeypatch):
        asked, usual = [], training_trials.trained_on

        def watched(*args):
            asked.append(args[7].tolist())
            return usual(*args)

        monkeypatch.setattr(training_trials, "trained_on", watched)
        rate = np.array([0.05, np.nan, 0.02])
        state = trials.train(trials.init(SEEDS), {"learning_rate": rate}, ALL, 3)
        assert asked == [[True, True, True]] + 2 * [[True, False, True]]
        assert state.epochs[[0, 2]].tolist() == [3, 3]

    def test_ends_with_weights_of_another(self, trials, lost):
        copied = trials.gather(given(lost), np.array([0, 0, 2]), SEEDS)
        state = trials.train(copied, VALUES, ALL, 1)
        assert np.isfinite(state.losses).all()
        assert np.isfinite(trials.evaluate(state)).all()
        assert state.epochs.tolist() == [4, 4, 4]


class TestHyperParameters:
    def test_values_take_the_place_of_the_fields_of_their_names(self):
        found = with_values({"momentum": [0.1, 0.2, 0.3]}, BASE)
        np.testing.assert_allclose(found.momentum, [0.1, 0.2, 0.3])
        assert_trees_equal(found._replace(momentum=0), BASE._replace(momentum=0))

    @pytest.mark.parametrize("name", ["learning_rat", "policy"])
    def test_other_names_are_refused(self, name):
        with pytest.raises(InputError, match=f"hyper-parameter '{name}'"):
            with_values({name: np.ones(3)}, BASE)

    def test_ones_own_meaning_of_values(self, make, third):
        def of(values, base):
            return base._replace(**VALUES, momentum=1 - values["friction"])

        trials = make(hyper_of=of)
        state = trials.train(trials.init(SEEDS), {"friction": np.full(3, 0.2)}, ALL, 3)
        np.testing.assert_allclose(state.losses, third.losses, rtol=1e-5)

    def test_averages_are_what_is_judged(self, tiny, make):
        trials = make(base=BASE._replace(ema=np.array([0.9, 0.0, 0.9])), metric="auc")
        state = trials.train(trials.init(SEEDS), VALUES, ALL, 2)
        population = given(kept(state)).population
        both = [
            evaluate_population(tiny, of, ROWS, DATA.x_val, DATA.y_val, metric="auc")[2]
            for of in (population.average, population.variables)
        ]
        np.testing.assert_array_equal(trials.evaluate(state), [both[0][0], both[1][1], both[0][2]])
        assert (both[0] != both[1]).any()


def test_averages_can_be_tuned(tiny):
    """And who is not trained is judged by what it was trained with, whatever is said of it."""
    trials = TrainingTrials(tiny, ROWS, DATA, BASE, EPOCHS, 4, metric="auc", averages=True)
    decays = {"ema": np.array([0.9, 0.0, 0.9])}
    state = trials.train(trials.init(SEEDS), VALUES | decays, ALL, 2)
    before = trials.evaluate(state)
    other = {"ema": np.array([0.9, 0.9, 0.0])}
    state = trials.train(state, VALUES | other, np.array([True, False, False]), 1)
    np.testing.assert_array_equal(state.hyper.ema, np.float32([0.9, 0.0, 0.9]))
    np.testing.assert_array_equal(trials.evaluate(state)[1:], before[1:])
    state = trials.gather(state, np.array([1, 2, 0]), SEEDS)
    np.testing.assert_array_equal(state.hyper.ema, np.float32([0.0, 0.9, 0.9]))


def test_what_is_tuned_stays_in_the_program_where_all_have_none_of_it(tiny):
    trials = TrainingTrials(tiny, ROWS, DATA, BASE, EPOCHS, 4)
    some, none = {"dropout": np.array([0.2, 0.0, 0.1])}, {"dropout": np.zeros(3)}
    state = trials.train(trials.init(SEEDS), VALUES | some, ALL, 1)
    with compilations() as compiled:
        trials.train(state, VALUES | none, ALL, 1)
    assert compiled == []
