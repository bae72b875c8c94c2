"""Successive halving inside a population: who is stopped, and what the others notice of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from candidates import ARCHS, CLOSE, data, pick, train
from helpers import assert_trees_close, assert_trees_equal, compilations

from jaxnas.training import population as population_module
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.fidelity import Rung, stopped_after, survivors
from jaxnas.training.layout import Layout


@pytest.fixture(scope="module")
def undisturbed(tiny):
    return train(tiny, epochs=4)


def test_who_is_not_named_is_not_evaluated(tiny, undisturbed):
    variables = jax.tree.map(jnp.asarray, undisturbed[-1][0].variables)
    images = data()
    every = evaluate_population(tiny, variables, ARCHS, images.x_val, images.y_val)
    which = np.array([True, False, True])
    some = evaluate_population(tiny, variables, ARCHS, images.x_val, images.y_val, which=which)
    for one, all_of_them in zip(some, every, strict=True):
        assert_trees_equal(one, np.where(which, all_of_them, np.nan))
        assert np.isfinite(all_of_them).all()


RUNGS = (Rung(1, 2), Rung(3, 1))


class TestTraining:
    @pytest.fixture
    def halved(self, tiny, undisturbed, monkeypatch):
        """History, who was trained in each epoch and who was evaluated, and what was compiled."""
        trained, evaluated = [], []
        train_epoch = population_module.train_epoch
        evaluate = population_module.evaluate_population

        def watched(*args):
            trained.append(np.flatnonzero(args[7]).tolist())
            return train_epoch(*args)

        def watched_evaluation(*args, **settings):
            evaluated.append(np.flatnonzero(settings["which"]).tolist())
            return evaluate(*args, **settings)

        monkeypatch.setattr(population_module, "train_epoch", watched)
        monkeypatch.setattr(population_module, "evaluate_population", watched_evaluation)
        curves = []

        def judge(number, metrics):
            curves.append(metrics)
            assert number == len(curves)
            return survivors(RUNGS, "sotl", curves)

        with compilations() as compiled:
            history = train(tiny, epochs=4, survivors=judge)
        return history, trained, evaluated, compiled

    @pytest.fixture
    def order(self, undisturbed):
        """The candidates, best first, by hand: after one epoch, and by three the first two of them."""
        losses = np.stack([m.train_loss for _, m in undisturbed])
        first = np.argsort(losses[0])
        second = sorted(first[:2], key=lambda row: losses[:3, row].sum())
        return first.tolist(), [int(row) for row in second]

    def test_ever_fewer_are_trained_and_evaluated(self, halved, order):
        _, trained, evaluated, _ = halved
        first, second = order
        expected = [[0, 1, 2], sorted(first[:2]), sorted(first[:2]), second[:1]]
        assert trained == evaluated == expected

    def test_nothing_is_compiled_anew(self, halved):
        assert halved[3] == []

    def test_who_is_stopped_stays_as_it_was(self, halved, undisturbed, order):
        history, *_ = halved
        first, second = order
        for row, last in ((first[2], 1), (second[1], 3)):
            before = pick(undisturbed, row)
            states = pick(history, row)
            assert_trees_equal(states[:last], before[:last])
            for state, metrics in states[last:]:
                assert_trees_equal(state, before[last - 1][0])
                assert all(np.isnan(m).all() for m in metrics)

    def test_the_others_do_not_notice(self, halved, undisturbed, order):
        best = order[1][0]
        assert_trees_equal(pick(halved[0], best), pick(undisturbed, best))

    def test_who_was_stopped_is_known_afterwards(self, halved, order):
        first, second = order
        found = stopped_after(RUNGS, "sotl", [m for _, m in halved[0]])
        assert found[first[2]] == 1
        assert found[second[1]] == 3
        assert found[second[0]] == 0

    def test_resumed_as_undisturbed(self, tiny, halved):
        history, *_ = halved
        curves = [m for _, m in history[:2]]

        def judge(number, metrics):
            curves.append(metrics)
            return survivors(RUNGS, "sotl", curves)

        resumed = train(
            tiny,
            epochs=4,
            population=jax.tree.map(jnp.asarray, history[1][0]),
            start_epoch=2,
            alive=survivors(RUNGS, "sotl", curves),
            survivors=judge,
        )
        assert_trees_equal(resumed, history[2:])

    def test_in_chunks_too(self, tiny, halved, order):
        curves = []

        def judge(number, metrics):
            curves.append(metrics)
            return survivors(RUNGS, "sotl", curves)

        layout = Layout(2, tuple(jax.devices()[:1]))
        together = train(tiny, epochs=4, survivors=judge, layout=layout)
        rows = (0, 1, 2)
        assert_trees_close(pick(together, *rows), pick(halved[0], *rows), **CLOSE)
