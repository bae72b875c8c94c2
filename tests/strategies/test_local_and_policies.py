"""Local search, lists and REINFORCE against what their papers say, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import BEST, make_task, search, values

from jaxnas.strategies import get_strategy
from jaxnas.strategies.members import members
from jaxnas.strategy import Asked, Told


@pytest.mark.parametrize("whole", [True, False])
def test_local_search_climbs_neighbour_by_neighbour(whole):
    strategy = get_strategy(f"local:initial=5:whole={str(whole).lower()}")
    task = make_task(150)
    table = values(task)
    fit = table[0]
    rows, _, _ = search(strategy, task, table, trainings=150)
    near = [set(n[n >= 0].tolist()) for n in members(task).neighbours]
    assert len(set(rows.tolist())) == 150
    done, drawn, here, restarts = set(), [], None, 0
    for row in rows.tolist():
        if here is None:
            drawn.append(row)
            done.add(row)
            if len(drawn) < 5:
                continue
            here, drawn = max(drawn, key=lambda r: fit[r]), []
            restarts += 1
        else:
            assert row in near[here] - done
            done.add(row)
        while here is not None:
            known = sorted(near[here] & done, key=lambda r: -fit[r])
            better = bool(known) and fit[known[0]] > fit[here]
            missing = near[here] - done
            if missing and (whole or not better):
                break
            here = known[0] if better else None
    assert restarts >= 1


def test_lists_are_in_their_order_and_repeat_no_function():
    task = make_task(30)
    table = values(task)
    rows = search(get_strategy("proxy"), task, table, trainings=30)[0]
    assert rows.tolist() == np.argsort(-task.pool.prior, kind="stable")[:30].tolist()
    rows = search(get_strategy("largest"), task, table, trainings=30)[0]
    sizes = task.cost_table[:, 0]
    assert sizes[rows].tolist() == sorted(sizes.tolist())[::-1][:30]


def test_a_grid_is_spread_evenly_whatever_its_length():
    task = make_task(100)
    rows = search(get_strategy("grid"), task, values(task), trainings=100)[0]
    for n in (5, 21, 100):
        gaps = np.diff(np.sort(rows[:n]), append=rows[:n].min() + 6561)
        assert gaps.max() / gaps.min() < 3  # of a golden walk at most 2.62


def test_reinforce_is_adam_on_the_moving_averages_gain():
    strategy = get_strategy("reinforce:learning_rate=0.2:decay=0.8")
    task = make_task(10)
    archs = task.pool.archs
    state = strategy.init(task, jax.random.key(0))
    logits = np.asarray(state.logits, np.float64)
    assert np.abs(logits).max() < 0.01
    m = v = np.zeros_like(logits)
    average = []
    # The first three take each choice once: gains sum to 0, and Adam would blow up what rounding leaves.
    batches = [
        ([0, 3280, 6560], [0.3, 0.9, 0.5]),
        ([17, 5, 900], [0.5, 0.1, 0.2]),
        ([4000, 44, 9], [0.7, np.nan, 0.4]),
    ]
    for step, (rows, rewards) in enumerate(batches, 1):
        fine = [not np.isnan(r) for r in rewards]
        known = [r for r, ok in zip(rewards, fine, strict=True) if ok]
        average.append(np.mean(known))
        weights = [0.8 ** (len(average) - 1 - i) for i in range(len(average))]
        base = np.average(average, weights=weights)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        gradient = np.zeros_like(logits)
        for row, reward, ok in zip(rows, rewards, fine, strict=True):
            if ok:
                gradient -= (reward - base) * (np.eye(3)[archs[row]] - p) / len(known)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        logits -= 0.2 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        asked = Asked(jnp.asarray(rows), jnp.zeros(3, jnp.int32))
        told = Told(jnp.nan_to_num(jnp.asarray(rewards)), ~jnp.asarray(fine))
        state = strategy.tell(task, state, asked, told)
        np.testing.assert_allclose(state.logits, logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["reinforce", "rnn_controller"])
def test_policies_learn_nothing_of_failures_and_sample_what_they_learnt(name):
    strategy = get_strategy(name)
    task = make_task(400)
    state = strategy.init(task, jax.random.key(0))
    asked = strategy.ask(task, state, 4)
    failed = Told(jnp.full(4, 99.0), jnp.ones(4, bool))
    after = strategy.tell(task, state, asked, failed)
    policy = lambda s: (s.logits, s.average) if name == "reinforce" else s.policy  # noqa: E731
    for a, b in zip(jax.tree.leaves(policy(after)), jax.tree.leaves(policy(state)), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    table = values(task)
    rows = search(strategy, task, table, batch=4, trainings=400)[0]
    right = (task.pool.archs[rows] == BEST).mean(1)
    assert right[-80:].mean() > right[:80].mean() + 0.15
