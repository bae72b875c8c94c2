"""Successive halving against published tables, and inside a population."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from candidates import ARCHS, CLOSE, data, pick, train
from helpers import assert_trees_close, assert_trees_equal, compilations

from jaxnas.errors import InputError
from jaxnas.training import population as population_module
from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.fidelity import (
    MEASURES,
    Rung,
    halving_rungs,
    stopped_after,
    survivors,
)
from jaxnas.training.layout import Layout
from jaxnas.training.population import EpochMetrics

NAN = np.nan


def epoch(train_loss, val_accuracy=None):
    loss = np.array(train_loss, float)
    accuracy = -loss if val_accuracy is None else np.array(val_accuracy, float)
    return EpochMetrics(loss, loss + 1, accuracy)


class TestRungs:
    @pytest.mark.parametrize(
        ("n", "first", "table"),
        [
            (81, 1, [(1, 27), (3, 9), (9, 3), (27, 1)]),
            (27, 3, [(3, 9), (9, 3), (27, 1)]),
            (9, 9, [(9, 3), (27, 1)]),
            (6, 27, [(27, 2)]),
            (5, 81, []),
        ],
    )
    def test_hyperbands_table(self, n, first, table):
        """Li et al., arXiv:1603.06560, table 1: R = 81, eta = 3; (r_i, n_i+1) of its brackets."""
        rungs = halving_rungs(n, 81, eta=3, first=first)
        assert [(r.epochs, r.keep) for r in rungs] == table

    @pytest.mark.parametrize(
        ("n", "epochs", "eta", "table"),
        [
            (16, 16, 2, [(1, 8), (2, 4), (4, 2), (8, 1)]),
            (16, 8, 2, [(1, 8), (2, 4), (4, 2)]),
            (16, 100, 2, [(1, 8), (2, 4), (4, 2), (8, 1)]),
            (16, 9, 4, [(1, 4), (4, 1)]),
            (5, 100, 2, [(1, 2), (2, 1)]),
            (3, 10, 4, [(1, 1)]),
            (1, 10, 2, []),
            (16, 1, 2, []),
        ],
    )
    def test_by_hand(self, n, epochs, eta, table):
        rungs = halving_rungs(n, epochs, eta=eta)
        assert [(r.epochs, r.keep) for r in rungs] == table

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"eta": 1}, "eta is 1, expected at least 2: 1 of eta candidates is kept."),
            ({"first": 0}, "The first rung is after 0 epochs, expected 1 to 8."),
            ({"first": 9}, "The first rung is after 9 epochs, expected 1 to 8."),
        ],
    )
    def test_refused(self, values, message):
        with pytest.raises(InputError) as refused:
            halving_rungs(4, 8, **values)
        assert str(refused.value) == message


class TestMeasures:
    CURVES = (
        epoch([3, 2, 4], [0.1, 0.2, 0.3]),
        epoch([1, 2, 0.5], [0.6, 0.5, 0.4]),
        epoch([0.5, 1, NAN], [0.7, 0.9, NAN]),
    )

    @pytest.mark.parametrize(
        ("measure", "expected"),
        [
            ("last_seen", [0.7, 0.9, NAN]),
            ("sotl", [-4.5, -5.0, NAN]),
            ("sotl_e", [-0.5, -1.0, NAN]),
        ],
    )
    def test_by_hand(self, measure, expected):
        np.testing.assert_allclose(MEASURES[measure](self.CURVES), expected)

    def test_there_are_no_others(self):
        assert set(MEASURES) == {"last_seen", "sotl", "sotl_e"}


class TestSurvivors:
    RUNGS = (Rung(1, 3), Rung(3, 1))

    def kept(self, curves, measure="last_seen", rungs=RUNGS):
        return np.flatnonzero(survivors(rungs, measure, curves)).tolist()

    def test_the_best_where_a_rung_ends(self):
        assert self.kept([epoch([1, 5, 2, 4, 3])]) == [0, 2, 4]

    def test_everybody_between_rungs(self):
        assert self.kept([epoch([1, 5, 2, 4, 3])] * 2) == [0, 1, 2, 3, 4]

    def test_of_equals_the_first(self):
        assert self.kept([epoch([2, 1, 2, 2, 2])]) == [0, 1, 2]
        assert self.kept([epoch([1, 1, 1, 1, 1])]) == [0, 1, 2]

    def test_who_diverged_is_out_even_if_there_is_room(self):
        assert self.kept([epoch([NAN, 5, np.inf, 4, NAN])]) == [1, 3]
        assert self.kept([epoch([NAN, 5, 2, 4, 3])] * 2) == [1, 2, 3, 4]
        assert self.kept([epoch([NAN, NAN])]) == []

    def test_an_accuracy_that_is_no_number_comes_last(self):
        assert self.kept([epoch([1, 1, 1, 1], [NAN, 0.2, 0.3, 0.1])]) == [1, 2, 3]

    def test_rungs_follow_each_other(self):
        curves = [epoch([1, 5, 2, 4, 3])]
        assert self.kept(curves) == [0, 2, 4]
        # Those that were stopped report no numbers.
        curves += [epoch([1, NAN, 2, NAN, 3]), epoch([3, NAN, 2, NAN, 1])]
        assert self.kept(curves) == [4]

    def test_by_the_measure_that_is_asked_for(self):
        curves = [
            epoch([9, 1, 2], [0, 0, 1]),
            epoch([0, 3, 1], [1, 0, 0]),
            epoch([2, 3, 2], [0, 1, 0]),
        ]
        rungs = (Rung(3, 1),)
        assert self.kept(curves, "last_seen", rungs) == [1]
        assert self.kept(curves, "sotl", rungs) == [2]
        assert self.kept(curves, "sotl_e", rungs) == [0]

    def test_an_unknown_measure_is_refused(self):
        with pytest.raises(InputError, match=r"sotle.*sotl_e"):
            survivors((), "sotle", [epoch([1])])


class TestStopped:
    def test_by_hand(self):
        rungs = (Rung(1, 3), Rung(2, 1))
        curves = [
            epoch([1, 5, 2, 4, NAN]),
            epoch([1, NAN, 2, 4, NAN]),
            epoch([NAN, NAN, NAN, 4, NAN]),
        ]
        # 0, 2 and 3 pass the first rung, 0 alone the second; 4 diverged and was not stopped.
        assert stopped_after(rungs, "last_seen", curves[:1]).tolist() == [0, 1, 0, 0, 0]
        assert stopped_after(rungs, "last_seen", curves[:2]).tolist() == [0, 1, 2, 2, 0]

    def test_without_rungs_nobody(self):
        assert stopped_after((), "sotl", [epoch([1, NAN])] * 3).tolist() == [0, 0]


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
        assert_trees_equal(one, np.where(which, all_of_them, NAN))
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
