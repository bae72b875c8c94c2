"""Rungs against published tables, survivors and what is measured of learning curves by hand."""

import numpy as np
import pytest

from jaxnas.errors import InputError
from jaxnas.training.fidelity import (
    MEASURES,
    Rung,
    halving_rungs,
    stopped_after,
    survivors,
)
from jaxnas.training.population import EpochMetrics

NAN = np.nan


def epoch(train_loss, val_accuracy=None):
    loss = np.array(train_loss, float)
    accuracy = -loss if val_accuracy is None else np.array(val_accuracy, float)
    return EpochMetrics(loss, loss + 1, accuracy, accuracy)


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
