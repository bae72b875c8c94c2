"""PB2's Gaussian process, kernel and batches against the published formulas, computed densely."""

import jax
import numpy as np
import pytest
from populations import MIXED, PLAIN

from jaxnas.hpo import get_tuner
from jaxnas.hpo.gaussian import JITTER, PRIOR, Kernel, condition, covariance, fit, log_posterior
from jaxnas.hpo.pb2 import Improvements, hallucinated, standardised

KERNEL = Kernel(variance=1.7, length=0.4, forgetting=0.2, noise=0.05)


def slow_covariance(kernel, a, b):
    """K o K_time, entry by entry: points are (h, t)."""
    found = np.zeros((len(a), len(b)))
    for i, (h, t) in enumerate(a):
        for j, (g, s) in enumerate(b):
            k = kernel.variance * np.exp(-sum((h - g) ** 2) / (2 * kernel.length**2))
            found[i, j] = k * (1 - kernel.forgetting) ** (abs(t - s) / 2)
    return found


def data(n=17, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, 3)), rng.integers(0, 6, n).astype(float), rng.standard_normal(n)


def test_the_kernel_is_the_published_one():
    x, t, _ = data()
    y, s, _ = data(5, seed=1)
    expected = slow_covariance(KERNEL, list(zip(x, t, strict=True)), list(zip(y, s, strict=True)))
    np.testing.assert_allclose(covariance(KERNEL, x, t, y, s), expected, rtol=1e-12)
    still = KERNEL._replace(forgetting=0.0)
    np.testing.assert_array_equal(
        covariance(still, x, t, y, s), covariance(still, x, 0 * t, y, 0 * s)
    )


def slow_posterior(x, t, y, at, time):
    """mu and sigma^2 with the inverse written out."""
    known = list(zip(x, t, strict=True))
    new = [(h, time) for h in at]
    inverse = np.linalg.inv(
        slow_covariance(KERNEL, known, known) + (KERNEL.noise + JITTER) * np.eye(len(y))
    )
    k = slow_covariance(KERNEL, known, new)
    mean = k.T @ inverse @ y
    variance = np.diag(slow_covariance(KERNEL, new, new) - k.T @ inverse @ k)
    return mean, variance


def test_the_posterior_is_the_published_one():
    x, t, y = data()
    at = np.random.default_rng(5).random((8, 3))
    mean, variance = slow_posterior(x, t, y, at, 6.0)
    process = condition(KERNEL, x, t, y)
    np.testing.assert_allclose(process.mean(at, np.full(8, 6.0)), mean, rtol=1e-8)
    np.testing.assert_allclose(process.deviation(at, np.full(8, 6.0)) ** 2, variance, rtol=1e-8)


def test_hallucinated_points_lower_the_deviation_as_if_they_had_been_observed():
    x, t, y = data()
    rng = np.random.default_rng(6)
    at, pending = rng.random((8, 3)), rng.random((2, 3))
    batch = hallucinated(condition(KERNEL, x, t, y), pending, 6.0)
    _, variance = slow_posterior(
        np.concatenate([x, pending]),
        np.concatenate([t, [6.0, 6.0]]),
        np.concatenate([y, rng.standard_normal(2)]),  # whatever they will turn out to be
        at,
        6.0,
    )
    np.testing.assert_allclose(batch.deviation(at, np.full(8, 6.0)) ** 2, variance, rtol=1e-8)
    alone = condition(KERNEL, x, t, y).deviation(at, np.full(8, 6.0))
    assert (batch.deviation(at, np.full(8, 6.0)) < alone).all()


def test_the_fit_finds_the_likeliest_kernel():
    x, t, y = data(25)
    y = np.sin(9 * x[:, 0]) + 0.1 * y
    found = fit(x, t, y)
    best = log_posterior(found, x, t, y)
    assert best > log_posterior(PRIOR, x, t, y)
    for i, value in enumerate(found):
        for factor in (0.9, 1.1):
            other = found._replace(**{Kernel._fields[i]: value * factor})
            assert log_posterior(other, x, t, y) < best + 1e-3
    # The marginal likelihood itself, up to the constant and the priors.
    whole = covariance(found, x, t, x, t) + (found.noise + JITTER) * np.eye(25)
    _, logdet = np.linalg.slogdet(whole)
    likelihood = -0.5 * y @ np.linalg.solve(whole, y) - 0.5 * logdet
    off = (np.log(found) - np.log(PRIOR)) / np.array([1.0, 0.7, 1.0, 1.5])
    assert best == pytest.approx(likelihood - 0.5 * off @ off)


def test_improvements_are_what_the_members_gained():
    """f_t = (fitness_t - fitness_(t-1)) / units, a copy's from whom it copied; kept by hand."""
    tuner = get_tuner("pb2:interval=2:share=0.25")
    state = tuner.init(PLAIN, 4, 8, jax.random.key(0))
    fitness = np.random.default_rng(0).random((4, 4)).cumsum(axis=0)
    rows, times, gains = [], [], []
    for t in range(4):
        segment = tuner.ask(state)
        assert segment.units == 2
        for i in range(4):
            before = 0 if t == 0 else fitness[t - 1][segment.copy[i]]
            rows.append(segment.hyper[i])
            times.append(t)
            gains.append((fitness[t][i] - before) / 2)
        state = tuner.tell(state, fitness[t])
    np.testing.assert_array_equal(state.memory.rows, rows)
    np.testing.assert_array_equal(state.memory.times, times)
    np.testing.assert_allclose(state.memory.gains, gains)
    np.testing.assert_array_equal(state.memory.begun, [True] * 4 + [False] * 12)
    # A new population forgets.
    state = tuner.tell(state, np.zeros(4))
    assert state.memory.begun.tolist() == [True] * 4


def test_improvements_are_standardised():
    gains = np.array([5.0, 7.0, 1.0, 2.0, 3.0, -np.inf])
    known = Improvements(np.zeros((6, 1)), np.zeros(6), gains, np.arange(6) < 2)
    shifted = np.array([1.0, 3.0, 1.0, 2.0, 3.0])  # the first two about the others' mean, 2
    expected = (shifted - shifted.mean()) / shifted.std()
    np.testing.assert_allclose(standardised(known), [*expected, -2], rtol=1e-6)
    far = known._replace(gains=np.array([0.0, 0, 0, 0, 100, 0]), begun=np.zeros(6, bool))
    assert standardised(far).max() == 2


def test_members_that_copy_get_the_points_of_the_highest_bound():
    """The chosen rows against mu + sqrt(beta) sigma over a fine grid, one after another."""
    tuner = get_tuner("pb2:interval=1:share=0.5:c1=0.8:c2=4")
    state = tuner.init(PLAIN, 4, 20, jax.random.key(1))
    for t in range(4):
        segment = tuner.ask(state)
        gain = 1 - np.abs(segment.hyper - [0.7, 0.2]).sum(axis=1)
        before = 0 if t == 0 else state.recent[segment.copy, -1]
        state = tuner.tell(state, before + gain)
    segment = tuner.ask(state)
    changed = segment.copy != np.arange(4)
    assert changed.sum() == 2
    known = state.memory
    y = standardised(known)
    process = condition(fit(known.rows, known.times, y), known.rows, known.times, y)
    beta = 0.8 * np.log(4 * len(y))
    axis = np.linspace(0, 1, 60)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    pending = segment.hyper[~changed]
    for row in segment.hyper[changed]:
        batch = hallucinated(process, pending, 4.0)

        def bound(at, batch=batch):
            time = np.full(len(at), 4.0)
            return process.mean(at, time) + np.sqrt(beta) * batch.deviation(at, time)

        assert bound(row[None])[0] > bound(grid).max() - 0.01
        pending = np.concatenate([pending, row[None]])


def test_words_and_inactive_parameters_take_part():
    tuner = get_tuner("pb2:interval=1:share=0.5")
    state = tuner.init(MIXED, 6, 20, jax.random.key(0))
    for _ in range(5):
        segment = tuner.ask(state)
        adam = np.array([c["kind"] == "adam" for c in MIXED.configurations(segment.hyper)])
        assert MIXED.allowed(segment.hyper).all()
        before = 0 if not state.told else state.recent[segment.copy, -1]
        state = tuner.tell(state, before + adam)
    # After five rounds in which adam alone gained, the newcomers take it.
    segment = tuner.ask(state)
    changed = segment.copy != np.arange(6)
    kinds = [c["kind"] for c in MIXED.configurations(segment.hyper[changed])]
    assert kinds
    assert set(kinds) == {"adam"}
