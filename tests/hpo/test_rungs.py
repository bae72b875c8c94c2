"""Brackets against the papers' tables, and who is trained on against slow Python."""

from itertools import pairwise

import jax
import numpy as np
import pytest
from populations import MIXED, PLAIN, Climbers

from jaxnas.errors import InputError
from jaxnas.hpo import get_tuner, run
from jaxnas.hpo.boss import better_than_leader
from jaxnas.hpo.kde import imputed
from jaxnas.strategies.brackets import Bracket

HYPERBAND = [
    [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    [(34, 3), (11, 9), (3, 27), (1, 81)],
    [(15, 9), (5, 27), (1, 81)],
    [(8, 27), (2, 81)],
    [(5, 81)],
]
"""Table 1 of Hyperband, R = 81 and eta = 3: n_i and r_i of brackets s = 4 ... 0."""


def course(text, *, n, units, fitness, segments, space=PLAIN, seed=0):
    """Segments and the units behind each member after them, by a tuner told `fitness(rows, units)`."""
    tuner = get_tuner(text)
    state = tuner.init(space, n, units, jax.random.key(seed))
    behind, found = np.zeros(n, int), []
    for _ in range(segments):
        segment = tuner.ask(state)
        behind = np.where(segment.copy < 0, 0, behind[segment.copy])
        behind = behind + segment.units * segment.which
        value = fitness(segment.hyper, behind)
        found.append((segment, behind.copy(), value))
        state = tuner.tell(state, value)
    return found, state


def left(rows, behind):
    """Better to the left, whatever the units."""
    return -rows[:, 0]


@pytest.mark.parametrize("name", ["hyperband", "bohb"])
def test_brackets_are_those_of_the_paper(name):
    expected = [pair for bracket in HYPERBAND for pair in bracket]
    found, _ = course(name, n=81, units=81, fitness=left, segments=len(expected) + 1)
    trained = [(int(s.which.sum()), behind[s.which]) for s, behind, _ in found]
    assert [(n, units[0]) for n, units in trained] == [*expected, (81, 1)]
    assert all(len(set(units)) == 1 for _, units in trained)
    # Whoever is trained on has its weights still: a round costs what its rungs add.
    rest = [[0, *(r for _, r in bracket)] for bracket in HYPERBAND]
    cost = sum(
        n * (r - before)
        for bracket, steps in zip(HYPERBAND, rest, strict=True)
        for (n, r), before in zip(bracket, steps, strict=False)
    )
    assert sum(s.cost for s, _, _ in found[:-1]) == cost


@pytest.mark.parametrize("name", ["successive_halving", "hyperband"])
def test_the_best_of_each_rung_are_trained_on(name):
    found, _ = course(name, n=9, units=9, fitness=left, segments=3)
    for (before, _, value), (after, _, _) in pairwise(found):
        members = np.flatnonzero(before.which)
        best = members[np.argsort(-value[members])][: len(members) // 3]
        assert set(np.flatnonzero(after.which)) == set(best)
        np.testing.assert_array_equal(after.copy, np.arange(9))
        np.testing.assert_array_equal(after.hyper[after.which], before.hyper[after.which])


def test_a_bracket_larger_than_the_population_goes_in_waves():
    """27 begin in 9 members: whoever lost its place and is promoted begins anew, for all units."""
    found, state = course(
        "successive_halving:start=27", n=9, units=9, fitness=left, segments=12, seed=4
    )
    first = state.rows[state.bracket == 0]
    assert len(first) == 27
    by_merit = np.argsort(first[:, 0], kind="stable")
    for rung, count in ((1, 9), (2, 3)):
        known = np.flatnonzero(~np.isnan(state.merits[:27, rung]))
        assert set(known) == set(by_merit[:count])
    for segment, behind, _ in found:
        assert set(behind[segment.which]) <= {1, 3, 9}
        anew = segment.which & (segment.copy < 0)
        assert (behind[anew] == segment.units).all()


@pytest.mark.parametrize(
    ("s", "expected"),
    [(0, [(9, 1), (3, 3), (1, 9)]), (1, [(9, 3), (3, 9)]), (2, [(9, 9)])],
)
def test_asha_promotes_as_figure_1_of_its_paper_has_it(s, expected):
    """n = 9, r = 1, R = 9, eta = 3 and brackets s = 0, 1, 2: n_i and r_i."""
    found, _ = course(f"asha:s={s}", n=9, units=9, fitness=left, segments=len(expected))
    trained = [(int(x.which.sum()), int(behind[x.which][0])) for x, behind, _ in found]
    assert trained == expected


def asha_jobs(merits, count, eta, rungs):
    """Algorithm 2 of the paper with one worker, written with dictionaries: (trial, rung) of each job."""
    results, promoted, jobs, trials = (
        [{} for _ in range(rungs)],
        [set() for _ in range(rungs)],
        [],
        0,
    )
    for _ in range(count):
        job = None
        for rung in reversed(range(rungs - 1)):
            ordered = sorted(results[rung], key=lambda t: -results[rung][t])
            able = [t for t in ordered[: len(ordered) // eta] if t not in promoted[rung]]
            if able:
                promoted[rung].add(able[0])
                job = (able[0], rung + 1)
                break
        if job is None:
            job, trials = (trials, 0), trials + 1
        results[job[1]][job[0]] = merits[job]
        jobs.append(job)
    return jobs


def test_asha_with_one_member_is_the_papers_algorithm():
    rng = np.random.default_rng(7)
    merits = {(trial, rung): rng.random() for trial in range(60) for rung in range(4)}
    tuner = get_tuner("asha:eta=2")
    state = tuner.init(PLAIN, 1, 8, jax.random.key(0))
    jobs = []
    for _ in range(60):
        segment = tuner.ask(state)
        here = np.flatnonzero((state.rows == segment.hyper[0]).all(axis=1))
        trial = int(here[0]) if len(here) else len(state.rows)
        rung = int((~np.isnan(state.merits[trial])).sum()) if len(here) else 0
        jobs.append((trial, rung))
        # The only member has the last trial's weights: another one is trained for all its units.
        lives = trial == int(state.lives[0])
        assert segment.units == 2**rung - (2 ** (rung - 1) if lives and rung else 0)
        state = tuner.tell(state, np.array([merits[trial, rung]]))
    assert jobs == asha_jobs(merits, 60, 2, 4)
    assert {rung for _, rung in jobs} == {0, 1, 2, 3}


def test_who_diverged_is_not_promoted():
    def fitness(rows, behind):
        return np.where(rows[:, 0] < 0.5, np.nan, -rows[:, 0])

    for name in ("asha", "hyperband", "boss"):
        _, state = course(name, n=9, units=9, fitness=fitness, segments=8)
        diverged = np.isneginf(state.merits[:, 0])
        assert diverged.any()
        assert np.isnan(state.merits[diverged, 1:]).all()


def slow_better(merits, most):
    """The published rule, observation by observation."""
    seen = [[v for v in row if not np.isnan(v)] for row in merits]
    longest = max(map(len, seen))
    leader = max(
        (k for k in range(len(seen)) if len(seen[k]) == longest),
        key=lambda k: (sum(seen[k]) / len(seen[k]), -k),
    )
    found = []
    for k, own in enumerate(seen):
        if len(own) >= longest:
            continue
        windows = [
            sum(seen[leader][j : j + len(own)]) / len(own) for j in range(longest - len(own) + 1)
        ]
        if len(own) < most or sum(own) / len(own) >= min(windows):
            found.append(k)
    return found or [leader]


@pytest.mark.parametrize("most", [1, 2])
def test_sub_sampling_is_the_published_rule(most):
    rng = np.random.default_rng(0)
    for _ in range(50):
        merits = rng.random((6, 4))
        for row in merits:
            row[rng.integers(1, 5) :] = np.nan
        assert better_than_leader(merits, most).tolist() == slow_better(merits, most)


@pytest.mark.parametrize(("members", "everybody"), [(36, 1), (37, 2)])
def test_every_trial_of_a_large_bracket_is_observed_twice(members, everybody):
    """sqrt(log(K eta / (eta - 1))) is 2 from K = 37 on, where eta is 3."""
    text = "boss:random_fraction=1"
    tuner = get_tuner(text)
    state = tuner.init(PLAIN, members, 81, jax.random.key(0))
    bracket = Bracket((members, 1, 1, 1, 1), 0)
    for _ in range(everybody):
        wanted = tuner.within(state, 0, bracket)
        assert (wanted.new or len(wanted.trials)) == members
        merits = np.full((members, 5), np.nan) if wanted.new else state.merits.copy()
        merits[:, wanted.rung] = -np.arange(members)
        state = state._replace(
            merits=merits,
            bracket=np.zeros(members, np.int64),
            rows=np.full((members, 2), 0.5),
        )
    assert len(tuner.within(state, 0, bracket).trials) < members


def test_sub_sampling_trains_the_leader_where_nobody_beats_it():
    """Fitness that rises with units: after the first rung the best goes on alone."""
    found, _ = course("boss", n=9, units=9, fitness=lambda r, b: b - r[:, 0], segments=3)
    best = int(np.argmin(found[0][0].hyper[:, 0]))
    assert [np.flatnonzero(s.which).tolist() for s, _, _ in found[1:]] == [[best], [best]]


def test_what_is_inactive_has_values_of_others_in_the_densities():
    sgd = {"rate": 0.1, "kind": "sgd", "layers": 3, "size": 16, "nesterov": True}
    adam = {"rate": 0.1, "kind": "adam", "layers": 3, "size": 16}
    rows = MIXED.encode([adam, sgd | {"momentum": 0.2}, adam, sgd | {"momentum": 0.9}])
    found = imputed(MIXED, np.tile(rows, (50, 1)), np.random.default_rng(0))
    np.testing.assert_array_equal(found[[1, 3]], rows[[1, 3]])
    place = MIXED.names.index("momentum")
    values, counts = np.unique(found[::2, place], return_counts=True)
    np.testing.assert_array_equal(values, np.sort(rows[[1, 3], place]))
    assert counts.min() > 20
    alone = imputed(MIXED, np.tile(rows[:1], (200, 1)), np.random.default_rng(0))[:, place]
    assert np.histogram(alone, 4, (0, 1))[0].min() > 25


def test_densities_lead_to_where_good_trials_were():
    """BOHB's later brackets begin nearer to the best place than its first did."""
    result = {}
    for name in ("hyperband", "bohb:random_fraction=0.1"):
        _, state = course(
            name,
            n=27,
            units=27,
            fitness=lambda r, b: -np.abs(r[:, 0] - 0.8) - np.abs(r[:, 1] - 0.3),
            segments=20,
        )
        off = np.abs(state.rows - np.array([[0.8, 0.3]])).sum(axis=1)
        result[name] = off[state.bracket > 0].mean() / off[state.bracket == 0].mean()
    assert result["bohb:random_fraction=0.1"] < 0.7 < 0.9 < result["hyperband"]


@pytest.mark.parametrize(
    ("text", "units", "said"),
    [
        ("asha:s=3", 9, "s is 3, expected 0 to 2"),
        ("hyperband:least=10", 9, "shorter than the lowest"),
    ],
)
def test_rungs_that_cannot_be(text, units, said):
    with pytest.raises(InputError, match=said):
        get_tuner(text).init(PLAIN, 4, units, jax.random.key(0))


def test_a_run_trains_members_for_what_its_rungs_say():
    trials = Climbers()
    result = run(get_tuner("successive_halving"), trials, PLAIN, n=9, units=9, budget=21)
    assert [units for _, units in trials.trained] == [1, 2, 6]
    assert sorted(behind for _, behind in result.population) == [1] * 6 + [3, 3, 9]
