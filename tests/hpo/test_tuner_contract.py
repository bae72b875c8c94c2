"""What every tuner of the registry keeps to."""

import subprocess
import sys
from importlib.util import find_spec

import jax
import numpy as np
import pytest
from populations import MIXED, PLAIN, Climbers

from jaxnas.errors import InputError
from jaxnas.hpo import TUNERS, get_tuner, run
from jaxnas.hpo.__main__ import main

NEEDS = {"tpe": ("optuna",), "gp": ("optuna", "torch"), "cmaes": ("optuna", "cmaes")}
NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            any(find_spec(package) is None for package in NEEDS.get(name, ())),
            reason=f"needs {' and '.join(NEEDS.get(name, ()))}",
        ),
    )
    for name in TUNERS
]
SHORT = {"tpe": ":startup=4", "gp": ":startup=4", "grid": ":levels=2", "bohb": ":eta=2"}


def made(name):
    return get_tuner(name + SHORT.get(name, ""))


def same(a, b):
    """Trees of arrays, job and all, equal bit for bit, but for what Optuna's samplers note of trials.

    CMA-ES notes itself there with memory that it has not used yet; the same is asked from it.
    """
    leaves, tree = jax.tree.flatten(a)
    others, other = jax.tree.flatten(b)
    assert tree == other
    for x, y in zip(leaves, others, strict=True):
        if np.asarray(x).dtype != object:
            np.testing.assert_array_equal(x, y)


def fitness_of(space, segment, rng):
    """Better where the first column is .3, and noise."""
    return -np.abs(segment.hyper[:, 0] - 0.3) + 0.01 * rng.standard_normal(len(segment.which))


@pytest.mark.parametrize("space", [PLAIN, MIXED], ids=["plain", "mixed"])
@pytest.mark.parametrize("name", NAMES)
def test_states_are_pure_repeat_by_key_and_replay(name, space):
    tuner, n, units = made(name), 5, 9
    state = tuner.init(space, n, units, jax.random.key(3))
    rng, told, states = np.random.default_rng(0), [], []
    for _ in range(6):
        segment = tuner.ask(state)
        if segment is None:
            assert name == "grid"
            break
        same(segment, tuner.ask(state))
        assert segment.copy.shape == segment.which.shape == (n,)
        assert segment.hyper.shape == (n, space.dimensions)
        assert segment.which.any()
        assert np.all((segment.copy >= -1) & (segment.copy < n))
        assert 1 <= segment.units <= units
        rows = segment.hyper[segment.which]
        assert space.allowed(rows).all()
        np.testing.assert_allclose(space.canonical(rows), rows, atol=1e-12)
        fitness = fitness_of(space, segment, rng)
        if len(told) == 2:
            fitness[np.flatnonzero(segment.which)[0]] = np.nan  # one diverged
        before = jax.tree.map(np.copy, state)
        after = tuner.tell(state, fitness)
        same(state, before)
        same(after, tuner.tell(state, fitness))
        told.append(fitness)
        states.append(after)
        state = after
    again = tuner.init(space, n, units, jax.random.key(3))
    # A job is told apart by identity: the same one for the comparison.
    again = again._replace(job=state.job)
    for fitness, known in zip(told, states, strict=True):
        again = tuner.tell(again, fitness)
        same(again, known)
    same(tuner.ask(again), tuner.ask(state))


@pytest.mark.parametrize("name", NAMES)
def test_runs_spend_the_budget_and_repeat(name):
    tuner, trials = made(name), Climbers()
    heard = []
    settings = {"n": 4, "units": 9, "budget": 100, "seed": 5}
    result = run(tuner, trials, PLAIN, **settings, on_segment=heard.append)
    spent = sum(len(who) * units for who, units in trials.trained)
    assert result.spent == spent == heard[-1].spent == result.schedule.spent
    assert spent == (36 if name == "grid" else pytest.approx(100, abs=8))
    other = run(made(name), Climbers(), PLAIN, **settings)
    assert other.population == result.population
    assert other.schedule.to_json() == result.schedule.to_json()
    if name != "grid":
        unlike = run(made(name), Climbers(), PLAIN, **settings | {"seed": 6})
        assert unlike.schedule.to_json() != result.schedule.to_json()


@pytest.mark.parametrize("name", NAMES)
def test_a_run_resumes_from_its_journal_with_or_without_weights(name):
    settings = {"n": 4, "units": 9, "budget": 120, "seed": 1}
    heard = []
    whole = run(made(name), Climbers(), PLAIN, **settings, on_segment=heard.append)
    middle = len(heard) // 2
    told = [done.fitness for done in heard[:middle]]
    for population in (None, heard[middle - 1].state if middle else None):
        later = []
        result = run(
            made(name),
            Climbers(),
            PLAIN,
            **settings,
            told=told,
            population=population,
            on_segment=later.append,
        )
        assert result.schedule.to_json() == whole.schedule.to_json()
        assert result.population == whole.population
        assert [done.index for done in later] == [done.index for done in heard[middle:]]


@pytest.mark.parametrize("name", NAMES)
def test_a_member_that_always_diverges_does_no_harm(name):
    result = run(made(name), Climbers(failing=[1]), PLAIN, n=4, units=9, budget=100, seed=2)
    _, member = result.schedule.best
    assert member != 1
    assert np.isfinite(result.fitness)


@pytest.mark.parametrize("name", [n for n in NAMES if n.values[0] not in ("grid", "random")])
def test_what_was_told_is_made_use_of(name):
    """Told to prefer the left and then the right, two runs of one key part."""
    tuner = made(name)

    def rows(sign):
        state, found = tuner.init(PLAIN, 6, 9, jax.random.key(0)), []
        for _ in range(8):
            segment = tuner.ask(state)
            found.append(segment.hyper[segment.which])
            state = tuner.tell(state, sign * segment.hyper[:, 0])
        return np.concatenate(found)

    left, right = rows(-1), rows(1)
    assert left[-6:, 0].mean() < right[-6:, 0].mean()


def test_rows_to_begin_with_come_first():
    known = PLAIN.encode([{"x": 0.25, "y": 0.75}])
    for name in TUNERS:
        if any(find_spec(package) is None for package in NEEDS.get(name, ())):
            continue
        tuner = made(name)
        segment = tuner.ask(tuner.init(PLAIN, 3, 9, jax.random.key(0), first=known))
        np.testing.assert_array_equal(segment.hyper[0], known[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pbtt", "Unknown tuner 'pbtt'; did you mean pbt"),
        ("pbt:intervall=3", "Unknown parameter of pbt 'intervall'; did you mean interval"),
        ("pbt:interval=x", "expected a whole number"),
        ("pbt:share=x", "expected a number"),
        ("pbt:exploit=truncate", "Unknown way to exploit 'truncate'; did you mean truncation"),
        ("pbt:share=2", "share is 2, expected 0 to 1"),
        ("pbt:resample=-1", "resample is -1"),
        ("pbt:down=0", "not above 0"),
        ("pb2:window=0", "window is 0"),
        ("asha:eta=1", "eta is 1, expected at least 2"),
        ("hyperband:least=0", "least is 0"),
        ("successive_halving:start=-1", "start is -1 trials"),
        ("bohb:candidates=0", "candidates is 0, expected at least 1"),
        ("bohb:random_fraction=2", "random_fraction is 2.0, expected 0 to 1"),
        ("boss:most=-1", "most is -1 observations"),
    ],
)
def test_names_and_parameters_that_do_not_exist(text, said):
    with pytest.raises(InputError, match=said):
        get_tuner(text)


def test_a_url_may_be_a_parameter():
    tuner = get_tuner("tpe:storage=sqlite:///a/b.db:startup=3")
    assert (tuner.storage, tuner.startup) == ("sqlite:///a/b.db", 3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n": 0}, "0 members"),
        ({"units": 0}, "lasts 0 units"),
        ({"budget": 0}, "budget is 0"),
        ({"told": [np.zeros(2)] * 50}, "journal has 50 segments"),
        ({"told": [np.zeros(3)]}, "expected one number for each of 2"),
        ({"first": np.full((3, 2), 0.5)}, "3 rows to begin with, for 2 members"),
        ({"first": np.full((2, 3), 0.5)}, r"have shape \(2, 3\), expected \[k, 2\]"),
    ],
)
def test_runs_that_cannot_be(settings, said):
    with pytest.raises(InputError, match=said):
        run(
            get_tuner("asha"),
            Climbers(),
            PLAIN,
            **{"n": 2, "units": 4, "budget": 20} | settings,
        )


def test_the_list_names_all(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in TUNERS)


def test_optuna_is_imported_when_it_is_used():
    code = "import sys, jaxnas.hpo; sys.exit('optuna' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
