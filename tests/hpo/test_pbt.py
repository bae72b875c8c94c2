"""PBT's bookkeeping against slow Python, its ways to exploit and explore, and the toy of its paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from populations import MIXED, PLAIN

from jaxnas.hpo import FunctionTrials, Space, get_tuner, run, uniform
from jaxnas.hpo.exploit import EXPLOITS, welch
from jaxnas.hpo.explore import explored


class Ledger:
    """Members that are lists of what happened to them: who copied whom, when, trained how."""

    def __init__(self, fitness):
        self.fitness, self.events = fitness, []

    def init(self, seeds):
        return [[("new", int(seed))] for seed in seeds]

    def train(self, state, values, which, units):
        rows = [tuple(float(values[k][i]) for k in sorted(values)) for i in range(len(state))]
        self.events.append(rows)
        return [[*m, (rows[i], units)] for i, m in enumerate(state)]

    def evaluate(self, state):
        return self.fitness[len(self.events) - 1]

    def gather(self, state, rows, seeds):
        fresh = self.init(seeds)
        return [fresh[i] if row < 0 else list(state[row]) for i, row in enumerate(rows)]


@pytest.mark.parametrize("exploit", list(EXPLOITS))
def test_who_copied_whom_when(exploit):
    """Ledgers kept by the population agree with the schedule, and with the rule applied by hand."""
    n, segments = 6, 12
    fitness = np.random.default_rng(1).random((segments, n)).cumsum(axis=0)
    if exploit == "t_test":  # places that differ for certain
        fitness = np.random.default_rng(1).random((segments, n)) + 5 * np.arange(n)
    trials = Ledger(fitness)
    tuner = get_tuner(f"pbt:interval=2:exploit={exploit}:share=0.34:resample=0")
    result = run(tuner, trials, PLAIN, n=n, units=2 * segments, budget=2 * segments * n, seed=3)
    events = result.schedule.events
    assert len(events) == segments
    copies = result.schedule.copies()
    assert copies
    for at, event in enumerate(events):
        for i in range(n):
            donor = int(event.copy[i])
            assert (donor == -1) == (at == 0)
            if at == 0 or donor == i:
                continue
            assert (at, i, donor) in copies
            last = fitness[at - 1]
            assert last[donor] > last[i] or exploit == "t_test"
            if exploit == "truncation":
                order = np.argsort(-last)
                assert i in order[-3:]
                assert donor in order[:3]
            # Perturbed by 1.2 or .8, within the range, from the donor's own values.
            factors = event.hyper[i] / events[at - 1].hyper[donor]
            clipped = np.isclose(event.hyper[i], 1)
            assert np.all(np.isclose(factors, 1.2) | np.isclose(factors, 0.8) | clipped)
        if exploit == "truncation" and at:
            assert (event.copy != np.arange(n)).sum() == 3
        stay = event.copy == np.arange(n)
        if at:
            np.testing.assert_array_equal(event.hyper[stay], events[at - 1].hyper[stay])
    for member in range(n):
        ledger = result.population[member][1:]
        steps = result.schedule.lineage(segments - 1, member)
        assert [units for _, units in ledger] == [s.units for s in steps]
        for (row, _), step in zip(ledger, steps, strict=True):
            np.testing.assert_allclose(row, step.hyper, rtol=1e-6)


def test_welch_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.random((20, 10)), 0.3 + rng.random((20, 10))
    a[:5, :4] = np.nan
    b[3:8, :6] = np.nan
    expected = [
        scipy.stats.ttest_ind(x, y, equal_var=False, nan_policy="omit").pvalue
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(welch(a, b), np.array(expected, float), rtol=1e-9)


def test_the_t_test_wants_certainty():
    """Noise of the size of the difference: nobody copies; far apart: all who meet the better do."""
    rng = np.random.default_rng(2)
    noisy = rng.standard_normal((2, 10)) * 5 + np.array([[0.0], [0.5]])
    apart = rng.standard_normal((2, 10)) * 0.1 + np.array([[0.0], [0.5]])
    test = EXPLOITS["t_test"]
    np.testing.assert_array_equal(test(noisy, 0.2, np.random.default_rng(0)), [0, 1])
    np.testing.assert_array_equal(test(apart, 0.2, np.random.default_rng(0)), [1, 1])
    once = np.full((2, 10), np.nan)
    once[:, -1] = [0, 9]
    np.testing.assert_array_equal(test(once, 0.2, np.random.default_rng(0)), [0, 1])


def test_a_short_history_follows_the_weights():
    """A copy has its donor's evaluations behind it."""
    tuner = get_tuner("pbt:interval=1:share=0.5")
    state = tuner.init(PLAIN, 2, 10, jax.random.key(0))
    state = tuner.tell(state, np.array([1.0, 2.0]))
    segment = tuner.ask(state)
    np.testing.assert_array_equal(segment.copy, [1, 1])
    state = tuner.tell(state, np.array([3.0, 4.0]))
    np.testing.assert_array_equal(state.recent[:, -2:], [[2, 3], [2, 4]])


def test_everybody_diverged_and_one_alone():
    tuner = get_tuner("pbt:interval=1")
    state = tuner.init(PLAIN, 3, 10, jax.random.key(0))
    state = tuner.tell(state, np.full(3, np.nan))
    np.testing.assert_array_equal(tuner.ask(state).copy, [-1, -1, -1])
    state = tuner.tell(state, np.array([np.nan, np.nan, 1.0]))
    np.testing.assert_array_equal(tuner.ask(state).copy, [2, 2, 2])
    for exploit in EXPLOITS:
        tuner = get_tuner(f"pbt:interval=1:exploit={exploit}")
        state = tuner.init(PLAIN, 1, 10, jax.random.key(0))
        state = tuner.tell(state, np.ones(1))
        np.testing.assert_array_equal(tuner.ask(state).copy, [0])


def test_exploring_moves_each_kind_of_value_as_it_should():
    rng = np.random.default_rng(0)
    rows = MIXED.encode(
        [{"rate": 0.1, "kind": "sgd", "momentum": 0.5, "layers": 3, "size": 16, "nesterov": True}]
    )
    moved = MIXED.configurations(explored(MIXED, np.repeat(rows, 200, axis=0), rng))
    for name, expected in {
        "rate": [0.08, 0.12],
        "momentum": [0.4, 0.6],
        "layers": [2, 4],
        "size": [8, 32],
        "kind": ["sgd"],
        "nesterov": [True],
    }.items():
        found = sorted({m[name] for m in moved})
        assert found == (
            expected if isinstance(expected[0], str | bool) else pytest.approx(expected)
        )
    pairs = {(m["rate"] > 0.1, m["momentum"] > 0.5) for m in moved}
    assert len(pairs) == 4  # each on its own
    drawn = MIXED.configurations(explored(MIXED, np.repeat(rows, 200, axis=0), rng, resample=1.0))
    assert {m["kind"] for m in drawn} == {"sgd", "adam", "rms"}
    assert all("momentum" not in m for m in drawn if m["kind"] == "adam")
    assert not any(m["kind"] == "rms" and m["layers"] == 6 for m in drawn)
    adam = MIXED.encode([{"rate": 0.1, "kind": "adam", "layers": 3, "size": 16}])
    drawn = explored(MIXED, np.repeat(adam, 2000, axis=0), rng, resample=0.3)
    begun = [m["momentum"] for m in MIXED.configurations(drawn) if "momentum" in m]
    assert np.histogram(begun, 5, (0, 0.99))[0].min() > 0.1 * len(begun)  # from all of its range
    ends = explored(PLAIN, np.ones((50, 2)), rng, up=2.0, down=3.0)
    np.testing.assert_array_equal(ends, 1)


def quadratic():
    """Figure 2 of the paper: Q = 1.2 - |theta|^2 is sought by climbing 1.2 - sum h theta^2."""

    def step(theta, hyper, batch):
        h = jnp.stack([hyper["h0"], hyper["h1"]])
        return theta - 0.01 * 2 * h * theta

    return FunctionTrials(
        lambda key: jnp.full(2, 0.9), step, lambda theta: 1.2 - jnp.square(theta).sum()
    )


def test_pbt_beats_grid_on_the_toy_of_its_paper():
    """Two workers that begin with h = (1, 0) and (0, 1): each alone, as in a grid, stays at .39."""
    space = Space.of({"h0": uniform(0.0, 2.0), "h1": uniform(0.0, 2.0)})
    # Not quite the same: equals have no reason to copy each other.
    corners = space.encode([{"h0": 1.0, "h1": 0.0}, {"h0": 0.0, "h1": 0.95}])
    settings = {"n": 2, "units": 200, "budget": 400}
    fixed = run(get_tuner("random"), quadratic(), space, **settings, first=corners)
    assert fixed.fitness == pytest.approx(1.2 - 0.81, abs=1e-3)
    for exploit in ("truncation", "binary_tournament"):
        found = [
            run(
                get_tuner(f"pbt:interval=10:exploit={exploit}"),
                quadratic(),
                space,
                **settings,
                first=corners,
                seed=seed,
            ).fitness
            for seed in range(3)
        ]
        assert min(found) > 1.1
        assert np.mean(found) > 1.15
