"""Encodings against brute force."""

import itertools

import jax
import numpy as np
import pytest
from scipy.stats import norm, rankdata

from jaxnas.errors import InputError
from jaxnas.predictor import Candidates
from jaxnas.predictors import encodings
from jaxnas.predictors.encodings import encode, normal_scores
from jaxnas.search_spaces import get_space
from jaxnas.search_spaces.nasbench201 import OPS, NASBench201

EDGES = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
ROUTES = [[(0, 3)], [(0, 1), (1, 3)], [(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]]


@pytest.fixture(scope="module")
def pool() -> Candidates:
    space = NASBench201()
    archs = space.pruned(space.all()[:400])
    rng = np.random.default_rng(0)
    scores = {"a": rng.integers(0, 50, 400).astype(float), "b": rng.standard_normal(400)}
    return Candidates(space, archs, scores, rng.standard_normal(400))


def routes(arch: np.ndarray) -> list[tuple[str, ...]]:
    """The operations of each route through the cell that has no `none`."""
    ops = {edge: OPS[op] for edge, op in zip(EDGES, arch, strict=True)}
    every = [tuple(ops[edge] for edge in route) for route in ROUTES]
    return [route for route in every if "none" not in route]


def test_paths_are_those_of_the_cell(pool):
    found = encode("path", pool)
    expected = [frozenset(routes(arch)) for arch in pool.archs]
    assert found.shape[1] == len(set().union(*expected))
    np.testing.assert_array_equal(found.sum(axis=1), [len(each) for each in expected])
    columns = {row.tobytes() for row in found.astype(bool).T}
    for path in set().union(*expected):
        assert np.array([path in each for each in expected]).tobytes() in columns


def test_adjacency_has_ones_where_decisions_are_active(pool):
    found = encode("adjacency", pool).reshape(400, 6, 5)
    active = pool.space.active_decisions(pool.archs)
    for i, d in itertools.product(range(400), range(6)):
        expected = np.zeros(5)
        if active[i, d]:
            expected[pool.archs[i, d]] = 1
        np.testing.assert_array_equal(found[i, d], expected)


def test_operations_are_counted(pool):
    active = pool.space.active_decisions(pool.archs)
    counts = [np.bincount(a[on], minlength=5) for a, on in zip(pool.archs, active, strict=True)]
    counts = np.array(counts, float)[:, np.argsort(OPS)]
    counts = counts[:, counts.std(axis=0) > 0]
    expected = (counts - counts.mean(axis=0)) / counts.std(axis=0)
    np.testing.assert_allclose(encode("operations", pool), expected, atol=1e-12)


def test_ranks_and_prior_are_normal_scores(pool):
    found = encode("ranks+prior", pool)
    for column, values in zip(found.T, [*pool.scores.values(), pool.prior], strict=True):
        np.testing.assert_allclose(column, norm.ppf((rankdata(values) - 0.5) / 400), atol=1e-9)
    worst = normal_scores(np.array([0.0, np.nan, -np.inf, 1.0]))
    assert worst[1] < worst[2] < worst[0] < worst[3]


def test_curves_are_standardised_over_those_there_are(pool):
    curves = np.full((400, 2), np.nan)
    curves[:3] = [[1, 5], [2, 6], [3, np.nan]]
    found = encode("curves", Candidates(pool.space, pool.archs, curves=curves))
    step = np.sqrt(1.5)
    np.testing.assert_allclose(found[:3], [[-step, -1, 1], [0, 1, 1], [step, 0, 1]])
    np.testing.assert_array_equal(found[3:], 0)


def test_joined_encodings_stand_side_by_side(pool):
    both = encode("adjacency+path", pool)
    parts = [encode(name, pool) for name in ("adjacency", "path")]
    np.testing.assert_array_equal(both, np.concatenate(parts, axis=1))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("adjacancy", "did you mean adjacency"),
        ("ranks", "needs label-free scores"),
        ("prior", "needs a label-free ranking"),
        ("curves", "needs learning curves"),
    ],
)
def test_what_is_missing_is_said(pool, names, said):
    with pytest.raises(InputError, match=said):
        encode(names, Candidates(pool.space, pool.archs))


def test_paths_are_refused_where_they_say_nothing(pool, monkeypatch):
    space = get_space("nasbench_macro")
    archs = space.pruned(space.sample(jax.random.key(0), 64))
    with pytest.raises(InputError, match="are chains"):
        encode("path", Candidates(space, archs))
    monkeypatch.setattr(encodings, "MOST_PATHS", 3)
    with pytest.raises(InputError, match="has 4 paths, expected at most 3"):
        encode("path", Candidates(pool.space, pool.archs[::-1]))
