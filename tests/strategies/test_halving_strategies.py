"""Successive halving, Hyperband and ASHA against the papers' tables and slow Python."""

import numpy as np
import pytest
from toys import make_task, search, values

from jaxnas.strategies import get_strategy
from jaxnas.strategies.brackets import rung_counts

TABLE = [
    [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    [(34, 3), (11, 9), (3, 27), (1, 81)],
    [(15, 9), (5, 27), (1, 81)],
    [(8, 27), (2, 81)],
    [(5, 81)],
]
"""Table 1 of Hyperband, R = 81 and eta = 3: n_i and r_i of brackets s = 4 ... 0."""


def test_hyperbands_brackets_are_the_papers():
    epochs = (1, 3, 9, 27, 81)
    brackets = get_strategy("hyperband").brackets(make_task(60, fidelities=epochs))
    found = [[(n, epochs[b.first + i]) for i, n in enumerate(b.counts)] for b in brackets]
    assert found == TABLE


def test_rungs_keep_one_of_eta_and_reach_the_top():
    assert rung_counts(27, 4, 3) == (27, 9, 3, 1)
    assert rung_counts(10, 3, 2) == (10, 5, 2)
    assert rung_counts(2, 4, 3) == (2, 1, 1, 1)
    assert rung_counts(5, 1, 3) == (5,)


def test_successive_halving_takes_the_budget_in_one_round():
    strategy = get_strategy("successive_halving")
    task = make_task(20, fidelities=(1, 3, 9))
    (bracket,) = strategy.brackets(task)
    spent = sum(n * e for n, e in zip(bracket.counts, task.fidelities, strict=True))
    more = rung_counts(bracket.counts[0] + 1, 3, 3)
    assert spent <= 20 * 9 < sum(n * e for n, e in zip(more, task.fidelities, strict=True))
    assert get_strategy("successive_halving:n=9").brackets(task)[0].counts == (9, 3, 1)


@pytest.mark.parametrize("name", ["hyperband", "successive_halving:n=18"])
def test_each_rung_trains_the_best_of_the_one_before(name):
    strategy = get_strategy(name)
    task = make_task(60, fidelities=(1, 3, 9))
    table = values(task, failing=0.15)
    plan = [
        (rung + b.first, n, rung)
        for b in strategy.brackets(task)
        for rung, n in enumerate(b.counts)
    ]
    total = sum(n for _, n, _ in plan)
    rows, levels, _ = search(strategy, task, table, trainings=2 * total)
    at, seen, before = 0, set(), []
    for level, n, rung in plan * 2:  # the second round begins anew
        mine = rows[at : at + n].tolist()
        assert levels[at : at + n].tolist() == [level] * n
        if rung:
            order = sorted(before, key=lambda r: -np.nan_to_num(table[level - 1, r], nan=-np.inf))
            good = [r for r in order if not np.isnan(table[level - 1, r])]
            assert mine[: len(good)] == good[:n]
            new = mine[len(good) :]
        else:
            new = mine
        assert len(set(new)) == len(new)
        assert not seen.intersection(new)
        seen.update(new)
        before, at = mine, at + n


def test_asha_is_the_papers_get_job():
    strategy = get_strategy("asha:eta=2")
    task = make_task(25, fidelities=(1, 2, 4))
    table = values(task, failing=0.2)
    rows, levels, _ = search(strategy, task, table, trainings=90)
    rungs = [[], [], []]
    promoted = [set(), set(), set()]
    ups = 0
    for row, level in zip(rows.tolist(), levels.tolist(), strict=True):
        wanted = None
        for k in (1, 0):
            top = sorted(rungs[k], key=lambda each: -each[0])[: len(rungs[k]) // 2]
            open_ = [r for value, r in top if r not in promoted[k] and value > -np.inf]
            if open_:
                wanted = (open_[0], k + 1)
                promoted[k].add(open_[0])
                break
        if wanted is None:
            assert level == 0
            assert row not in [r for _, r in rungs[0]]
        else:
            assert (row, level) == wanted
            ups += 1
        value = table[level, row]
        rungs[level].append((-np.inf if np.isnan(value) else value, row))
    assert ups > 25
    assert rungs[2]


@pytest.mark.parametrize("name", ["asha", "hyperband", "successive_halving:n=18"])
def test_a_batch_promotes_nobody_twice(name):
    task = make_task(40, fidelities=(1, 3, 9))
    rows, levels, _ = search(get_strategy(name), task, values(task), batch=8, trainings=120)
    pairs = list(zip(rows.tolist(), levels.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert (levels == 2).any()
