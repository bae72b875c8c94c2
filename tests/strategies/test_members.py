"""Neighbours, mutation chances and the members that decisions mean, against the space's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import SPACE, make_task

from jaxnas.predictor import Candidates
from jaxnas.search_spaces import get_space
from jaxnas.strategies.draws import first_unseen, mutant, rows_of, unseen
from jaxnas.strategies.members import members
from jaxnas.strategy import Task

NB201 = get_space("nasbench201")


def test_a_whole_space_has_its_own_neighbours():
    pool = members(make_task())
    for row in (0, 1, 3000, 6560):
        near = pool.neighbours[row]
        expected = SPACE.index(SPACE.neighbours(pool.archs[row]))
        assert sorted(near[near >= 0].tolist()) == sorted(expected.tolist())


def test_each_decision_is_as_likely_however_many_choices_it_has():
    space = get_space("transnas_macro")
    archs = space.all()
    pool = members(Task(Candidates(space, archs), 5))
    row = 1234
    drawn = jax.vmap(lambda k: mutant(pool, k, jnp.asarray(row)))(
        jax.random.split(jax.random.key(0), 6000)
    )
    changed = (archs[np.asarray(drawn)] != archs[row]).sum(0)
    near = space.neighbours(archs[row])
    possible = (near != archs[row]).any(0)
    share = changed[possible] / 6000
    assert ((near != archs[row]).sum(1) == 1).all()
    np.testing.assert_allclose(share, 1 / possible.sum(), atol=0.025)


def test_a_pruned_pool_moves_to_pruned_neighbours():
    archs = np.unique(NB201.pruned(NB201.all()), axis=0)
    pool = members(Task(Candidates(NB201, archs), 5))
    row = 5000
    near = {tuple(a) for a in NB201.pruned(NB201.neighbours(archs[row])).tolist()}
    near.discard(tuple(archs[row].tolist()))
    found = pool.neighbours[row]
    assert {tuple(a) for a in archs[found[found >= 0]].tolist()} == near


def test_a_sample_has_its_nearest_members():
    pool = members(make_task(size=60))
    apart = (pool.archs[:, None] != pool.archs[None]).sum(2)
    one = (apart == 1).sum(1)
    few = np.flatnonzero(one < 4)
    assert 0 < len(few) <= 60
    for row in few.tolist():
        near = pool.neighbours[row][pool.neighbours[row] >= 0]
        assert row not in near
        others = np.delete(apart[row], row)
        assert sorted(apart[row][near].tolist()) == sorted(others.tolist())[: len(near)]
    for row in np.flatnonzero(one >= 4).tolist():
        near = pool.neighbours[row][pool.neighbours[row] >= 0]
        assert set(near.tolist()) == set(np.flatnonzero(apart[row] == 1).tolist())


@pytest.mark.parametrize("size", [None, 60])
def test_decisions_mean_the_member_that_is_nearest(size):
    pool = members(make_task(size=size))
    archs = SPACE.all()[::97]
    apart = (archs[:, None] != pool.archs[None]).sum(2)
    for lookup in (pool, pool._replace(row_of=pool.row_of[:0])):
        found = np.asarray(rows_of(lookup, jnp.asarray(archs)))
        assert (apart[np.arange(len(archs)), found] == apart.min(1)).all()


def test_equal_functions_share_a_class():
    archs = NB201.all()[::7]
    pool = members(Task(Candidates(NB201, archs), 5))
    canonical = NB201.canonical(archs)
    assert pool.kinds == len(np.unique(canonical, axis=0))
    same = pool.classes == pool.classes[17]
    assert ((canonical == canonical[17]).all(1) == same).all()


def test_unseen_members_differ_and_are_new():
    pool = members(make_task(size=60))
    seen = jnp.zeros(pool.kinds, bool).at[jnp.asarray(pool.classes)[:50]].set(True)
    found = np.asarray(unseen(pool, jax.random.key(0), seen, 8))
    assert len(set(found.tolist())) == 8
    assert (found >= 50).all()
    rows = jnp.asarray([3, 55, 55, 57])
    assert np.asarray(first_unseen(pool, rows, seen, 2)).tolist() == [1, 3]
    assert np.asarray(first_unseen(pool, rows, seen, 1)).tolist() == [1]
