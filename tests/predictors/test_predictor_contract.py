"""What every predictor keeps to, on a smooth function of toy pools."""

from dataclasses import replace
from importlib.util import find_spec

import jax
import numpy as np
import pytest
from helpers import compilations

from jaxnas.benchmarks.evaluation.correlation import kendall
from jaxnas.errors import InputError
from jaxnas.predictor import Candidates, Predictor
from jaxnas.predictors import PREDICTORS, boosting, get_predictors
from jaxnas.predictors.mlp import MLPEnsemble
from jaxnas.search_spaces import get_space

# With fewer trees and steps than by default, which does not bear on what is asked here.
SMALL = {
    "random_forest": {"trees": 30},
    "boosting": {"trees": 40, "members": 3},
    "ngboost": {"trees": 40},
    "mlp_ensemble": {"members": 3, "steps": 120},
    "gnn": {"members": 2, "steps": 120},
}
FEW: dict[str, Predictor] = {n: replace(p, **SMALL.get(n, {})) for n, p in PREDICTORS.items()}
LABELS = np.arange(0, 60, 3)
REST = np.setdiff1d(np.arange(120), LABELS)
NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name == "ngboost" and not find_spec("ngboost"), reason="ngboost is not installed"
        ),
    )
    for name in PREDICTORS
]


def toy(name: str) -> tuple[Candidates, np.ndarray]:
    """120 architectures; the fitness is a sum over decisions, and proxies and curves follow it."""
    space = get_space(name)
    archs = space.sample(jax.random.key(0), 600)
    archs = np.unique(space.pruned(archs[space.connected(archs)]), axis=0)[::3][:120]
    archs = np.random.default_rng(1).permutation(archs)
    assert len(archs) == 120
    rng = np.random.default_rng(0)
    # Of each choice's name, wherever it is taken: what graphs without places can tell too.
    worth = {choice: rng.standard_normal() for d in space.decisions for choice in d.choices}
    if name == "nasbench201":
        worth = dict(zip(space.decisions[0].choices, (-2.0, 0.0, 1.0, 2.0, -1.0), strict=True))
    values = [np.array([worth[choice] for choice in d.choices]) for d in space.decisions]
    active = space.active_decisions(archs)
    parts = [v[archs[:, d]] * active[:, d] for d, v in enumerate(values)]
    fitness = np.sum(parts, axis=0)
    noisy = fitness[:, None] + fitness.std() * rng.standard_normal((120, 3))
    curves = fitness[:, None] + np.linspace(1.5, 0.5, 4) * fitness.std() * rng.standard_normal(
        (120, 4)
    )
    curves[100:] = np.nan
    scores = {"a": noisy[:, 0], "b": noisy[:, 1]}
    return Candidates(space, archs, scores, noisy[:, 2], curves), fitness


@pytest.fixture(scope="module", params=["nasbench201", "nasbench_macro", "darts"])
def task(request) -> tuple[Candidates, np.ndarray]:
    return toy(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_better_than_chance_and_the_same_twice(task, name):
    pool, fitness = task
    model = FEW[name].fit(pool, LABELS, fitness[LABELS], seed=3)
    mean, std = model.predict(REST)
    for values in (mean, std):
        assert values.shape == REST.shape
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
    assert (std >= 0).all()
    np.testing.assert_allclose(model.predict(REST[::7])[0], mean[::7], rtol=1e-6)
    if pool.space.name == "nasbench201":
        again = FEW[name].fit(pool, LABELS, fitness[LABELS], seed=3).predict(REST)
        np.testing.assert_array_equal(again, (mean, std))
    assert kendall(mean, fitness[REST]) > 0.2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_labels_that_are_no_numbers_are_refused(name, bad):
    pool, fitness = toy("nasbench201")
    labels = fitness[LABELS].copy()
    labels[4] = bad
    with pytest.raises(InputError, match="1 of 20 labels are not finite, the first is number 4"):
        FEW[name].fit(pool, LABELS, labels, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_one_label_and_equal_labels_are_enough(name):
    pool, _ = toy("nasbench201")
    for rows in (np.array([5]), np.arange(6)):
        model = FEW[name].fit(pool, rows, np.full(len(rows), 7.0), seed=0)
        assert np.isfinite(model.predict(REST)).all()


@pytest.mark.parametrize("name", NAMES)
def test_what_was_given_is_left_as_it_was(name):
    pool, fitness = toy("nasbench201")
    assert pool.prior is not None
    before = [pool.archs.copy(), pool.prior.copy(), fitness.copy()]
    FEW[name].fit(pool, LABELS, fitness[LABELS], seed=0).predict(REST)
    for old, new in zip(before, (pool.archs, pool.prior, fitness), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", [n for n in PREDICTORS if n not in ("curve", "ngboost")])
def test_no_proxies_are_needed(name):
    pool, fitness = toy("nasbench201")
    bare = Candidates(pool.space, pool.archs)
    model = FEW[name].fit(bare, LABELS, fitness[LABELS], seed=0)
    assert kendall(model.predict(REST)[0], fitness[REST]) > 0.2


def test_curves_are_needed_by_what_reads_them():
    pool, fitness = toy("nasbench201")
    with pytest.raises(InputError, match="curve needs learning curves"):
        PREDICTORS["curve"].fit(Candidates(pool.space, pool.archs), LABELS, fitness[LABELS], seed=0)


@pytest.mark.parametrize("name", ["mlp_ensemble", "gnn"])
def test_a_second_fit_compiles_nothing(name):
    pool, fitness = toy("nasbench201")
    predictor = FEW[name]
    predictor.fit(pool, LABELS, fitness[LABELS], seed=0).predict(REST)
    more = np.arange(24)  # as 20, filled up to 32
    with compilations() as compiled:
        predictor.fit(pool, more, fitness[more], seed=1).predict(REST)
    assert not compiled


def test_members_of_an_ensemble_differ():
    pool, fitness = toy("nasbench201")
    one = MLPEnsemble(members=1).fit(pool, LABELS, fitness[LABELS], seed=0)
    several = MLPEnsemble(members=3).fit(pool, LABELS, fitness[LABELS], seed=0)
    assert (one.predict(REST)[1] == 0).all()
    assert (several.predict(REST)[1] > 0).all()


@pytest.mark.parametrize(
    ("rows", "labels", "said"),
    [
        ([], [], "at least one"),
        ([1, 2], [1.0], "as many"),
        ([120], [1.0], "from 0 to 119"),
        ([-1], [1.0], "from 0 to 119"),
        ([0.5], [1.0], "whole numbers"),
    ],
)
def test_rows_are_checked(rows, labels, said):
    pool, _ = toy("nasbench201")
    with pytest.raises(InputError, match=said):
        PREDICTORS["ridge"].fit(pool, np.array(rows), np.array(labels), seed=0)


def test_names():
    assert [p.name for p in get_predictors("gp,default")] == ["gp", "default"]
    for names, said in (
        ("defualt", "did you mean default"),
        ("", "No predictor"),
        ("gp,gp", "twice"),
    ):
        with pytest.raises(InputError, match=said):
            get_predictors(names)


def test_boosting_without_xgboost_takes_large_seeds(monkeypatch):
    monkeypatch.setattr(boosting, "find_spec", lambda name: None)
    pool, fitness = toy("nasbench201")
    found = [
        FEW["boosting"].fit(pool, LABELS, fitness[LABELS], seed=seed).predict(REST)[0]
        for seed in (2**30 + 7, 2**30 + 8)
    ]
    assert kendall(found[0], fitness[REST]) > 0.3
    assert (found[0] != found[1]).any()
