"""Predictors that have a formula against it, in dense NumPy."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from jaxnas.predictor import Candidates
from jaxnas.predictors.curve import summaries
from jaxnas.predictors.dags import dags, weisfeiler_lehman
from jaxnas.predictors.encodings import encode, normal_scores
from jaxnas.predictors.gaussian import JITTER, Term, regress
from jaxnas.predictors.gp import GP, WeisfeilerLehmanGP
from jaxnas.predictors.labels import Warp
from jaxnas.predictors.linear import Ridge
from jaxnas.search_spaces.nasbench201 import NASBench201

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3))
ROWS = np.arange(25)
Z = np.sin(X[ROWS, 0]) + 0.1 * RNG.standard_normal(25)


@pytest.fixture(scope="module")
def pool() -> Candidates:
    space = NASBench201()
    archs = space.pruned(space.all()[:120])
    return Candidates(space, archs[space.connected(archs)])


def kernel(x: np.ndarray, y: np.ndarray, log: np.ndarray) -> np.ndarray:
    """Element by element: s1^2 x'y + s2^2 Matern 5/2."""
    found = np.zeros((len(x), len(y)))
    for i, j in np.ndindex(found.shape):
        a = np.sqrt(5) * np.linalg.norm(x[i] - y[j]) / np.exp(log[2])
        found[i, j] = np.exp(2 * log[0]) * x[i] @ y[j]
        found[i, j] += np.exp(2 * log[1]) * (1 + a + a**2 / 3) * np.exp(-a)
    return found


def test_the_posterior_is_the_dense_one():
    mean = X[:, 1]
    found = regress([Term(X, 0.5), Term(X, 0.7, 1.5)], ROWS, Z, mean)
    rest, log = np.arange(25, 40), found.log
    noise = np.exp(2 * log[-1])
    own = kernel(X[ROWS], X[ROWS], log) + (noise + JITTER) * np.eye(25)
    cross = kernel(X[rest], X[ROWS], log)
    expected = mean[rest] + cross @ np.linalg.inv(own) @ (Z - mean[ROWS])
    variance = kernel(X[rest], X[rest], log) - cross @ np.linalg.inv(own) @ cross.T
    mu, std = found(rest)
    np.testing.assert_allclose(mu, expected, rtol=1e-8)
    np.testing.assert_allclose(std, np.sqrt(np.diag(variance) + noise), rtol=1e-8)


def test_hyperparameters_maximise_likelihood_times_priors():
    terms = [Term(X, 0.5, spread=(1.0, 0.5)), Term(X, 0.7, 1.5, (0.8, 0.4))]
    found = regress(terms, ROWS, Z, np.zeros(40), noise=0.3, noise_spread=0.6)
    start, width = np.log([0.5, 0.7, 1.5, 0.3]), np.array([1.0, 0.8, 0.4, 0.6])

    def gain(log: np.ndarray) -> float:
        own = kernel(X[ROWS], X[ROWS], log) + (np.exp(2 * log[-1]) + JITTER) * np.eye(25)
        prior = -0.5 * np.square((log - start) / width).sum()
        return multivariate_normal(cov=own).logpdf(Z) + prior

    best = gain(found.log)
    assert best > gain(start) + 0.1
    for step in np.concatenate([np.eye(4), -np.eye(4)]) * 0.03:
        assert gain(found.log + step) < best


def test_the_matern_kernel_is_scikit_learns():
    term = Term(X, 1.0, 1.7)
    found, _ = term.kernel(term.between(ROWS, ROWS), np.array([0.0, np.log(1.7)]))
    np.testing.assert_allclose(found, Matern(1.7, nu=2.5)(X[ROWS]), atol=1e-7)
    other = GaussianProcessRegressor(Matern(1.7, nu=2.5), alpha=0.04, optimizer=None)
    fixed = [Term(X, 1.0, 1.7, (1e-4, 1e-4))]
    ours = regress(fixed, ROWS, Z, np.zeros(40), noise=0.2, noise_spread=1e-4)(np.arange(25, 40))
    expected = other.fit(X[ROWS], Z).predict(X[25:], return_std=True)
    np.testing.assert_allclose(ours[0], expected[0], atol=1e-3)
    np.testing.assert_allclose(ours[1], np.sqrt(expected[1] ** 2 + 0.04), atol=1e-3)


def test_sparse_features_are_dense_ones(pool):
    counts = weisfeiler_lehman(dags(pool), 1)[1]
    rows = np.arange(20)
    sparse, dense = Term(counts, 0.5), Term(counts.toarray(), 0.5)
    np.testing.assert_allclose(sparse.between(rows, rows), dense.between(rows, rows))
    log = np.array([0.3])
    np.testing.assert_allclose(sparse.variance(rows, log), dense.variance(rows, log))


def test_the_graph_kernel_is_a_sum_of_cosines(pool):
    """With all scales the priors': the mean of the posterior from cosines of counts."""
    rows = np.arange(0, 60, 2)
    z = normal_scores(encode("operations", pool)[rows, 0] + 0.01 * rows)
    cosines = []
    for counts in weisfeiler_lehman(dags(pool), 2):
        dense = counts.toarray()
        dense = dense / np.linalg.norm(dense, axis=1, keepdims=True)
        cosines.append(dense @ dense.T)
    fitted = WeisfeilerLehmanGP().learn(pool, rows, z, seed=0)
    log = fitted.log  # pyright: ignore
    whole = sum(np.exp(2 * s) * c for s, c in zip(log, cosines, strict=False))
    own = whole[np.ix_(rows, rows)] + (np.exp(2 * log[-1]) + JITTER) * np.eye(len(rows))
    expected = whole[:, rows] @ np.linalg.solve(own, z)
    np.testing.assert_allclose(fitted(np.arange(len(pool)))[0], expected, rtol=1e-6, atol=1e-8)


def test_ridge_against_the_normal_equations_and_leaving_one_out(pool):
    x, rows = encode("adjacency", pool), np.arange(0, 80, 4)
    z = RNG.standard_normal(len(rows))
    n, asked = len(rows), np.arange(30)

    def solve(kept: np.ndarray, labels: np.ndarray, at: np.ndarray, penalty: float) -> np.ndarray:
        centre = x[kept].mean(axis=0)
        given = x[kept] - centre
        square = given.T @ given + penalty * np.eye(x.shape[1])
        weights = np.linalg.inv(square) @ given.T @ (labels - labels.mean())
        return labels.mean() + (x[at] - centre) @ weights

    mean, std = Ridge(encoding="adjacency", penalty=0.2).learn(pool, rows, z, seed=0)(asked)
    np.testing.assert_allclose(mean, solve(rows, z, asked, 0.2 * n), rtol=1e-7, atol=1e-9)
    left = []
    for i in range(n):
        others = np.delete(np.arange(n), i)
        left.append(z[i] - solve(rows[others], z[others], rows[[i]], 0.2 * n)[0])
    np.testing.assert_allclose(std, np.sqrt(np.mean(np.square(left))), rtol=1e-6)


def test_a_gp_follows_labels_that_have_no_noise(pool):
    fitness = encode("operations", pool) @ np.array([1.0, -2.0, 3.0, 0.5])
    model = GP("operations").fit(pool, np.arange(0, 100, 2), fitness[:100:2], seed=0)
    mean, _ = model.predict(np.arange(1, 100, 2))
    assert np.corrcoef(mean, fitness[1:100:2])[0, 1] > 0.95


def test_the_warp_rises_and_goes_through_the_labels():
    fitness = np.array([3.0, 90.0, 91.0, 91.0, 92.0])
    warp, z = Warp.of(fitness)
    np.testing.assert_allclose(warp.back(z), fitness)
    fine = np.linspace(-4, 4, 200)
    assert (np.diff(warp.back(fine)) > 0).all()
    beyond = warp.back(z.max() + 1) - 92
    np.testing.assert_allclose(beyond, fitness.std() / z.std())
    np.testing.assert_allclose(
        warp.deviation(np.array([0.3]), np.array([0.5])), (warp.back(0.8) - warp.back(-0.2)) / 2
    )


def test_summaries_of_curves_by_hand():
    curves = np.array([[1.0, 2, 3, 9], [2, 2, np.nan, np.nan], [np.nan] * 4, [4, 5, 6, 7]])
    found = summaries(curves)
    a, b = normal_scores(np.array([0.0, 1.0, 2.0]))[[0, 2]]
    # last 9, 2, 7; means 3.75, 2, 5.5; 9 - 2, 2 - 2, 7 - 5
    np.testing.assert_allclose(found[:, 0], [b, a, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found[:, 1], [0, a, 0, b], atol=1e-12)
    np.testing.assert_allclose(found[:, 2], [b, a, 0, 0], atol=1e-12)
    np.testing.assert_array_equal(found[:, 3], [0, 0, 1, 0])
