"""Non-dominated sorting, crowding and constraints against loops; what NSGA-II and CARS find."""

import jax.numpy as jnp
import numpy as np
import pytest
from toys import make_task, values

from jaxnas.benchmarks.strategies.simulate import simulate
from jaxnas.strategies import get_strategy
from jaxnas.strategies.domination import crowding, fronts
from jaxnas.strategies.genetic import Group


def beats(a, b, va, vb):
    if va != vb:
        return va < vb
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(
        x < y for x, y in zip(a, b, strict=True)
    )


def slow_fronts(points, violation):
    """Deb's fast non-dominated sort: counts of dominators and lists of who is dominated."""
    n = len(points)
    dominated = [
        [q for q in range(n) if beats(points[p], points[q], violation[p], violation[q])]
        for p in range(n)
    ]
    counts = [sum(p in dominated[q] for q in range(n)) for p in range(n)]
    rank, front, level = [None] * n, [p for p in range(n) if counts[p] == 0], 0
    while front:
        following = []
        for p in front:
            rank[p] = level
            for q in dominated[p]:
                counts[q] -= 1
                if counts[q] == 0:
                    following.append(q)
        front, level = following, level + 1
    return rank


def slow_crowding(points, rank):
    """Deb's crowding-distance assignment, front by front."""
    distance = np.zeros(len(points))
    for level in set(rank):
        front = [i for i in range(len(points)) if rank[i] == level]
        for m in range(points.shape[1]):
            front.sort(key=lambda i: points[i, m])
            reach = points[front[-1], m] - points[front[0], m]
            distance[front[0]] = distance[front[-1]] = np.inf
            for k in range(1, len(front) - 1):
                distance[front[k]] += (points[front[k + 1], m] - points[front[k - 1], m]) / reach
    return distance


@pytest.mark.parametrize("m", [1, 2, 3])
def test_fronts_and_crowding_are_debs(m):
    rng = np.random.default_rng(m)
    points = rng.permuted(np.tile(np.arange(40.0)[:, None], m), axis=0)
    violation = np.where(rng.random(40) < 0.3, rng.integers(1, 4, 40), 0.0)
    violation[:2] = np.inf
    rank = fronts(jnp.asarray(points), jnp.asarray(violation))
    assert rank.tolist() == slow_fronts(points, violation)
    found = crowding(jnp.asarray(points), rank)
    np.testing.assert_allclose(found, slow_crowding(points, rank.tolist()), rtol=1e-5)


def test_equal_points_share_a_front_and_have_no_gap():
    points = jnp.asarray([[1.0, 2.0], [1.0, 2.0], [0.0, 3.0], [2.0, 2.0], [1.0, 2.0]])
    rank = fronts(points, jnp.zeros(5))
    assert rank.tolist() == [0, 0, 0, 1, 0]
    assert np.isfinite(np.asarray(crowding(points, rank))).tolist() == [
        False,
        True,
        False,
        False,
        False,
    ]


def hypervolume(task, table, rows):
    """Of fitness above 0 and size below 20, by counting up the staircase."""
    points = sorted({(task.cost_table[r, 0], float(table[-1, r])) for r in rows})
    area, best = 0.0, 0.0
    ends = [p[0] for p in points[1:]] + [20.0]
    for (size, value), end in zip(points, ends, strict=True):
        best = max(best, value)
        area += best * (end - size)
    return area


@pytest.mark.parametrize("name", ["nsga2", "cars"])
def test_they_find_more_of_the_front_than_random_search(name):
    strategy = get_strategy(name)
    task = make_task(160, fidelities=(1, 3) if name == "cars" else (1,))
    table = values(task)
    found = simulate(strategy, task, table, runs=6, seed=0)
    random = simulate(get_strategy("random"), task, table, runs=6, seed=0)
    share = np.array(task.fidelities)[found.fidelity] / task.fidelities[-1]
    paid = share.cumsum(1) <= task.budget + 1e-6
    mine = [
        hypervolume(task, table, rows[ok & (level == task.full)])
        for rows, ok, level in zip(found.rows, paid, found.fidelity, strict=True)
    ]
    theirs = [hypervolume(task, table, rows) for rows in random.rows]
    assert np.mean(mine) > np.mean(theirs) + 3 * np.std(theirs) / 6**0.5


def test_limits_are_kept_to():
    task = make_task(120, limits=(6.0,))
    table = values(task)
    found = simulate(get_strategy("nsga2"), task, table, runs=4, seed=0)
    sizes = task.cost_table[:, 0][found.rows]
    assert (sizes[:, :20] <= 6).mean() < 0.4
    assert (sizes[:, -40:] <= 6).mean() > 0.5


def test_cars_trains_its_parents_on_and_protects_who_learns_fast():
    task = make_task(60, fidelities=(1, 3, 9))
    strategy = get_strategy("cars:population=6")
    table = values(task)
    found = simulate(strategy, task, table, runs=2, seed=0)
    for rows, levels in zip(found.rows, found.fidelity, strict=True):
        done = set()
        for row, level in zip(rows.tolist(), levels.tolist(), strict=True):
            assert level == 0 or (row, level - 1) in done
            done.add((row, level))
        assert {level for _, level in done} == {0, 1, 2}
        assert (levels[:12] == 0).all()  # nobody to train on yet
        assert (levels[12:18] == 1).all()
    # Worst in fitness and in the middle by size, but the fastest: in the first front all the same.
    rows = jnp.argsort(jnp.asarray(task.cost_table[:, 0]))[jnp.asarray([10, 2000, 4000, 6000])]
    merits = jnp.asarray([0.9, 0.8, 0.7, 0.6])
    growth = jnp.asarray([0.1, 0.2, 0.05, 0.3])
    none = jnp.zeros(4, jnp.int32)
    order = strategy.order(task, Group(rows, none, merits, growth, none == 0))
    assert order.front.tolist() == [0, 0, 1, 0]
