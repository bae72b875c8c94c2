"""Population based augmentation against the published algorithm, written slowly."""

from collections import defaultdict
from itertools import permutations

import jax
import numpy as np
import pytest

from jaxnas.augment import OPERATIONS, checked, get_policy
from jaxnas.augment.operations import NUMBER
from jaxnas.augment.search.pba import PbaTuner, chances, evolved, found_of, policies, space_of
from jaxnas.augment.search.setting import PUBLISHED

TWO = ("Invert", "Rotate")
NONE = get_policy("none")


def published(entries):
    """The chance of each sequence of (operation, magnitude), every order and every draw gone through."""
    found = defaultdict(float)
    orders = list(permutations(entries))
    for order in orders:
        for count, chance in enumerate((0.2, 0.3, 0.5)):
            states = {(): chance / len(orders)}
            for operation, probability, magnitude in order:
                after = defaultdict(float)
                for applied, weight in states.items():
                    if len(applied) == count:
                        after[applied] += weight
                        continue
                    after[applied] += weight * (1 - probability)
                    after[*applied, (operation, magnitude)] += weight * probability
                states = after
            for applied, weight in states.items():
                found[applied] += weight
    return {k: v for k, v in found.items() if v > 0}


def sequences(policy):
    """The same of a policy, its sub-policies and their layers gone through; Identity is nothing."""
    found = defaultdict(float)
    weights = policy.weights / policy.weights.sum()
    for s, weight in enumerate(weights):
        states = {(): float(weight)}
        for layer in range(policy.layers):
            choice = policy.choice[s, layer] / policy.choice[s, layer].sum()
            after = defaultdict(float)
            for applied, w in states.items():
                for k in np.flatnonzero(choice):
                    done = (OPERATIONS[k], round(float(policy.magnitude[s, layer, k]), 5))
                    more = () if OPERATIONS[k] == "Identity" else (done,)
                    p = policy.probability[s, layer, k]
                    assert p == 1
                    after[applied + more] += w * choice[k]
            states = after
        for applied, w in states.items():
            found[applied] += w
    return {k: v for k, v in found.items() if v > 0}


def values_of(entries):
    """From (operation, tenths, magnitude) of first and second copies to values of one member."""
    seen = defaultdict(int)
    values = {}
    for name, tenths, magnitude in entries:
        values[f"probability_{name}_{seen[name]}"] = np.array([tenths], np.float32)
        values[f"magnitude_{name}_{seen[name]}"] = np.array([magnitude], np.float32)
        seen[name] += 1
    return values


class TestPolicies:
    @pytest.mark.parametrize(
        "tenths", [(7, 2, 10, 5), (0, 0, 10, 0), (10, 10, 10, 10), (0, 0, 0, 0)]
    )
    def test_images_get_what_the_published_algorithm_gives_them(self, tenths):
        names, magnitudes = ("Invert", "Rotate", "Invert", "Rotate"), (0, 9, 4, 3)
        entries = list(zip(names, tenths, magnitudes, strict=True))
        (policy,) = [policies(values_of(entries), TWO).rows(0)]
        got = sequences(checked(policy))
        slow = [(o, p / 10, round(m / 9, 5)) for o, p, m in entries]
        expected = published(slow)
        assert set(expected) <= set(got)
        for sequence, weight in got.items():
            np.testing.assert_allclose(weight, expected.get(sequence, 0), atol=1e-6)

    def test_all_operations_twice_fit_one_policy_for_each_member(self):
        rng = np.random.default_rng(0)
        space = space_of()
        made = policies(space.values(space.sample(rng, 3)))
        assert made.choice.shape == (3, 1 + 2 + 30 * 2, 2, len(OPERATIONS))
        for member in range(3):
            np.testing.assert_allclose(checked(made.rows(member)).weights.sum(), 1, rtol=1e-5)
        used = (made.choice * made.weights[..., None, None]).sum((0, 1, 2)) > 0
        assert {OPERATIONS[k] for k in np.flatnonzero(used)} == {*PUBLISHED, "Identity"}

    def test_30_probabilities_give_chances_that_are_whole(self):
        p = np.random.default_rng(1).uniform(size=(2, 30))
        pairs, first, only = chances(p)
        nobody = (1 - p).prod(-1)
        np.testing.assert_allclose(first.sum(-1) + nobody, 1, rtol=1e-12)
        np.testing.assert_allclose(pairs.sum((1, 2)) + only.sum(-1) + nobody, 1, rtol=1e-12)
        draws = np.random.default_rng(2)
        heads = np.zeros(30)
        for _ in range(20_000):
            order = draws.permutation(30)
            applied = order[draws.random(30) < p[0][order]]
            heads[applied[:1]] += 1
        np.testing.assert_allclose(heads / 20_000, first[0], atol=0.008)


class Recording:
    """Members that know with which values they were trained in each epoch; Invert is what helps them."""

    def init(self, seeds):
        return [([], 0.0) for _ in seeds]

    def train(self, state, values, which, units):
        assert which.all()
        found = []
        for i, (history, height) in enumerate(state):
            mine = {name: float(v[i]) for name, v in values.items()}
            gain = mine["probability_Invert_0"] - mine["probability_Rotate_0"]
            found.append((history + [mine] * units, height + units * gain + 1e-3 * i))
        return found

    def evaluate(self, state):
        return np.array([height for _, height in state])

    def gather(self, state, rows, seeds):
        assert (np.asarray(rows) >= 0).all()
        return [state[row] for row in rows]


@pytest.fixture(scope="module")
def run():
    ended = []
    schedule = evolved(
        Recording(), 20, 60, operations=TWO, seed=3, on_segment=lambda d: ended.append(d)
    )
    return schedule, ended


class TestBookkeeping:
    def test_the_schedule_is_what_the_best_member_was_trained_with(self, run):
        schedule, ended = run
        history, _ = max(ended[-1].state, key=lambda member: member[1])
        found = found_of(schedule, 60, TWO, NONE)
        slow = {name: np.array([h[name] for h in history], np.float32) for name in history[0]}
        expected = policies(slow, TWO)
        np.testing.assert_array_equal(found.schedule.choice, expected.choice)
        np.testing.assert_array_equal(found.schedule.magnitude, expected.magnitude)
        np.testing.assert_array_equal(found.schedule.weights, expected.weights)
        np.testing.assert_array_equal(found.policy.choice, found.schedule.choice[-1])

    def test_all_begin_with_nothing(self, run):
        schedule, _ = run
        assert (np.floor(schedule.events[0].hyper * schedule.space.counts) == 0).all()
        first = found_of(schedule, 60, TWO, NONE).schedule.rows(0)
        assert first.weights[0] == 1
        assert first.choice[0, :, NUMBER["Identity"]].tolist() == [1, 1]

    def test_every_3_epochs_the_worst_quarter_copies_the_best(self, run):
        schedule, _ = run
        assert [e.units for e in schedule.events] == [3] * 20
        copied = 0
        for before, event in zip(schedule.events, schedule.events[1:], strict=False):
            order = sorted(range(20), key=lambda i: -before.fitness[i])
            for member in range(20):
                donor = event.copy[member]
                if member in order[-5:]:
                    assert donor in order[:5]
                    copied += 1
                else:
                    assert donor == member
                    np.testing.assert_array_equal(event.hyper[member], before.hyper[member])
        assert copied == 5 * 19

    def test_it_prefers_what_helps(self, run):
        schedule, _ = run
        last = {k: v[-1] for k, v in schedule.values().items()}
        assert last["probability_Invert_0"] - last["probability_Rotate_0"] >= 6

    def test_a_short_training_exchanges_more_often(self):
        assert [e.units for e in evolved(Recording(), 4, 8, operations=TWO).events] == [1] * 8


def test_a_line_cut_short_by_divergence_is_stretched():
    class Dying(Recording):
        asked = 0

        def evaluate(self, state):
            self.asked += 1
            return np.full(len(state), np.nan) if self.asked == 1 else super().evaluate(state)

        def gather(self, state, rows, seeds):
            fresh = self.init(seeds)
            return [fresh[i] if row < 0 else state[row] for i, row in enumerate(rows)]

    schedule = evolved(Dying(), 4, 9, operations=TWO, interval=3)
    line = [step.hyper for step in schedule.lineage(2, int(np.argmax(schedule.events[2].fitness)))]
    assert len(line) == 2
    assert not np.array_equal(*line)
    found = found_of(schedule, 9, TWO, NONE).schedule
    expected = policies(schedule.space.values(np.repeat(line, [5, 4], axis=0)), TWO)
    np.testing.assert_array_equal(found.choice, expected.choice)


def test_exploring_draws_anew_or_moves_by_up_to_3():
    space = space_of(TWO)
    tuner = PbaTuner()
    state = tuner.init(space, 4000, 30, jax.random.key(0))
    rows = np.tile((np.array([5, 4] * 4) + 0.5) / space.counts, (4000, 1))
    changed = np.arange(4000) % 2 == 0
    made = tuner.explore(state, rows, changed, np.random.default_rng(0))
    places = np.round(made * space.counts - 0.5).astype(int)
    np.testing.assert_allclose(made, (places + 0.5) / space.counts, rtol=1e-12)
    for column, (middle, most) in enumerate([(5, 10), (4, 9)] * 4):
        share = np.bincount(places[:, column], minlength=most + 1) / 2000
        slow = np.full(most + 1, 0.2 / (most + 1))
        for amount in (0, 1, 2, 3, 0, -1, -2, -3):
            slow[middle + amount] += 0.8 / 8
        np.testing.assert_allclose(share, slow, atol=0.035)
    edge = tuner.explore(state, 0 * rows, changed, np.random.default_rng(0))
    assert edge.min() > 0
