"""Optuna's studies: kept in SQLite, resumed, refused where they belong to another space."""

import io
import sys

import numpy as np
import pytest
from populations import MIXED, PLAIN, Climbers

from jaxnas.errors import InputError
from jaxnas.hpo import Space, get_tuner, run, uniform

optuna = pytest.importorskip("optuna")
SETTINGS = {"n": 3, "units": 4, "seed": 1}


def trials_of(path, name="jaxnas"):
    """What Optuna itself finds in the file."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    try:
        return optuna.load_study(study_name=name, storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_an_interrupted_run_goes_on_from_its_study(name, tmp_path):
    whole = run(get_tuner(name), Climbers(), PLAIN, **SETTINGS, budget=60)
    path = tmp_path / "study.db"
    tuner = get_tuner(f"{name}:storage={path}")
    run(tuner, Climbers(), PLAIN, **SETTINGS, budget=24)
    assert len(trials_of(path)) == 6
    trials, heard = Climbers(), []
    found = run(tuner, trials, PLAIN, **SETTINGS, budget=60, on_segment=heard.append)
    assert [done.index for done in heard] == [2, 3, 4]
    assert len(trials.trained) == 3
    assert found.schedule.to_json() == whole.schedule.to_json()
    assert len(trials_of(path)) == 15
    # One more time: nothing is left to do, and nothing is written twice.
    run(tuner, Climbers(), PLAIN, **SETTINGS, budget=60)
    assert len(trials_of(path)) == 15


def test_a_trial_a_member_with_its_values(tmp_path):
    path = tmp_path / "study.db"
    tuner = get_tuner(f"tpe:storage=sqlite:///{path}:study=mine")
    found = run(tuner, Climbers(failing=[1]), MIXED, **SETTINGS, budget=36)
    trials = trials_of(path, "mine")
    events = found.schedule.events
    rows = np.concatenate([e.hyper for e in events])
    fitness = np.concatenate([e.fitness for e in events])
    for trial, values, value in zip(trials, MIXED.configurations(rows), fitness, strict=True):
        assert trial.params == values  # the active ones
        if np.isnan(value):
            assert trial.state == optuna.trial.TrialState.FAIL
        else:
            assert trial.value == value
            assert trial.state == optuna.trial.TrialState.COMPLETE


def test_trials_of_other_runs_are_made_use_of(tmp_path):
    path = tmp_path / "study.db"
    tuner = get_tuner(f"tpe:storage={path}:startup=6")
    run(tuner, Climbers(), PLAIN, n=3, units=4, budget=120, seed=1)
    later = run(tuner, Climbers(), PLAIN, n=3, units=4, budget=12, seed=2)
    alone = run(get_tuner("tpe:startup=6"), Climbers(), PLAIN, n=3, units=4, budget=12, seed=2)
    assert len(trials_of(path)) == 33

    def off(result):
        return np.abs(result.schedule.events[0].hyper - [0.7, 0.2]).sum(axis=1).mean()

    assert off(later) < off(alone)


def test_a_run_goes_on_as_it_began_whatever_others_did_meanwhile(tmp_path):
    path = tmp_path / "study.db"
    tuner = get_tuner(f"tpe:storage={path}:startup=6")
    run(tuner, Climbers(), PLAIN, n=3, units=4, budget=36, seed=1)
    heard = []
    begun = run(tuner, Climbers(), PLAIN, n=3, units=4, budget=24, seed=2, on_segment=heard.append)
    run(tuner, Climbers(), PLAIN, n=3, units=4, budget=120, seed=3)
    told = [done.fitness for done in heard]
    asked = [done.segment.hyper for done in heard]
    settings = {"n": 3, "units": 4, "budget": 48, "seed": 2, "told": told, "asked": asked}
    longer = run(tuner, Climbers(), PLAIN, **settings)
    for a, b in zip(begun.schedule.events, longer.schedule.events[:2], strict=True):
        np.testing.assert_array_equal(a.hyper, b.hyper)
    with pytest.raises(InputError, match="Segment 2 of the journal trained other"):
        run(tuner, Climbers(), PLAIN, **settings | {"asked": [asked[0], 1 - asked[1]]})


@pytest.mark.parametrize(
    "other",
    [
        Space.of({"x": uniform(0.0, 2.0), "y": uniform(0.0, 1.0)}),
        Space.of({"a": uniform(0.0, 1.0)}),
    ],
)
def test_a_study_of_another_space_is_refused(other, tmp_path):
    tuner = get_tuner(f"tpe:storage={tmp_path / 'study.db'}")
    run(tuner, Climbers(), PLAIN, **SETTINGS, budget=12)
    with pytest.raises(InputError, match=r"belongs to another space \(x, y\)"):
        run(tuner, Climbers(), other, **SETTINGS, budget=12)


def test_a_study_that_is_not_ours_is_refused(tmp_path):
    path = tmp_path / "study.db"
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    study = optuna.create_study(study_name="jaxnas", storage=storage)
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=1)
    storage.remove_session()
    storage.engine.dispose()
    with pytest.raises(InputError, match=r"another space \(unknown\)"):
        run(get_tuner(f"tpe:storage={path}"), Climbers(), PLAIN, **SETTINGS, budget=12)


def test_databases_that_cannot_be_opened(tmp_path):
    for storage in (tmp_path / "absent" / "study.db", "nonsense://there"):
        with pytest.raises(InputError, match="Cannot open the study database"):
            run(get_tuner(f"tpe:storage={storage}"), Climbers(), PLAIN, **SETTINGS, budget=12)


@pytest.mark.parametrize(
    ("name", "package", "said"),
    [
        ("tpe", "optuna", r"needs Optuna, which is not installed: pip install 'jaxnas\[hpo\]'"),
        ("cmaes", "cmaes", "needs the package cmaes"),
        ("gp", "torch", "needs PyTorch"),
    ],
)
def test_what_is_missing_is_said(name, package, said, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=said):
        run(get_tuner(name), Climbers(), PLAIN, **SETTINGS, budget=12)


def test_the_dashboard_reads_our_studies(tmp_path):
    """Its server answers with our trials."""
    dashboard = pytest.importorskip("optuna_dashboard")
    path = tmp_path / "study.db"
    run(get_tuner(f"tpe:storage={path}"), Climbers(), PLAIN, **SETTINGS, budget=24)
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    try:
        app = dashboard.wsgi(storage)
        answered = []

        def get(url):
            environment = {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": url,
                "QUERY_STRING": "after=0",
                "SERVER_NAME": "localhost",
                "SERVER_PORT": "80",
                "wsgi.url_scheme": "http",
                "wsgi.input": io.BytesIO(),
                "wsgi.errors": sys.stderr,
            }
            return b"".join(app(environment, lambda status, *rest: answered.append(status)))

        assert b'"jaxnas"' in get("/api/studies")
        assert get("/api/studies/1").count(b'"trial_id"') >= 6
        assert answered == ["200 OK"] * 2
    finally:
        storage.remove_session()
        storage.engine.dispose()


def test_a_last_segment_that_is_cut_short_is_kept_too(tmp_path):
    path = tmp_path / "study.db"
    found = run(get_tuner(f"tpe:storage={path}"), Climbers(), PLAIN, **SETTINGS, budget=20)
    assert [int(e.which.sum()) for e in found.schedule.events] == [3, 2]
    fitness = np.concatenate([e.fitness[e.which] for e in found.schedule.events])
    assert [t.value for t in trials_of(path)] == fitness.tolist()


def test_runs_of_one_seed_are_told_apart_by_name(tmp_path):
    path = tmp_path / "study.db"
    first, second = Climbers(), Climbers()
    run(get_tuner(f"tpe:storage={path}:run=a"), first, PLAIN, **SETTINGS, budget=12)
    run(get_tuner(f"tpe:storage={path}:run=b"), second, PLAIN, **SETTINGS, budget=12)
    assert len(first.trained) == len(second.trained) == 1
    assert len(trials_of(path)) == 6
