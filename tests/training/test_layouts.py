"""Candidates one after another, or several at once: all the same."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from candidates import ARCHS, CLOSE, HYPER, SEEDS, pick, train
from helpers import assert_trees_close, assert_trees_equal

from jaxnas.errors import InputError
from jaxnas.training.layout import Layout, padded, spread, to_host
from jaxnas.training.population import init_population

ONE = tuple(jax.devices()[:1])
TWO_AT_ONCE = Layout(2, ONE)


def dying(hyper, row):
    """With a candidate whose weights, and then whose loss, are no numbers."""
    rate = np.array(hyper.learning_rate)
    rate[row] = np.nan
    return hyper._replace(learning_rate=rate)


class TestSpread:
    """On toys: each member's state is a pair of numbers, the member another, and 10 is for all."""

    @pytest.fixture
    def started(self):
        return []

    @pytest.fixture
    def turn(self, started):
        def one(state: Any, member: jax.Array, shared: jax.Array) -> Any:
            jax.debug.callback(lambda m: started.append(int(m)), member)
            return {"a": state["a"] * shared + member, "b": state["b"] + 1}

        def turn(layout: Layout, which: np.ndarray) -> Any:
            n = len(which)
            state = {"a": jnp.arange(n) + 1.0, "b": jnp.zeros((n, 2))}
            run = jax.jit(lambda s, w: spread(one, layout, s, jnp.arange(n), jnp.float32(10), w))
            found = jax.block_until_ready(run(state, which))
            jax.effects_barrier()
            return found

        return turn

    @pytest.mark.parametrize("chunk", [None, 1, 2, 3, 4, 9])
    @pytest.mark.parametrize("named", [[], [0], [3], [1, 3], [0, 1, 2], [0, 1, 2, 3, 4]], ids=str)
    def test_those_named_have_one_turn_and_the_others_none(self, turn, started, chunk, named):
        which = np.isin(np.arange(5), named)
        found = turn(Layout(chunk, ONE), which)
        expected = [(i + 1) * 10 + i if i in named else i + 1 for i in range(5)]
        assert found["a"].tolist() == expected
        assert found["b"].tolist() == [[float(i in named)] * 2 for i in range(5)]
        assert set(named) <= set(started)
        size = min(chunk or 1, 5)
        assert len(started) == -(-len(named) // size) * size

    def test_one_after_another_computes_only_those_named(self, turn, started):
        turn(Layout(None, ONE), np.array([True, False, True, False, True]))
        assert started == [0, 2, 4]


def test_the_least_capacity_is_a_multiple_of_the_devices():
    layout = Layout(None, ONE * 8)
    assert [layout.places(n) for n in (1, 8, 9, 16, 17)] == [8, 8, 16, 16, 24]


def test_free_places_have_rows_of_zeros():
    assert padded(ARCHS[:1], 3).tolist() == [ARCHS[0].tolist(), [0] * 6, [0] * 6]
    assert padded(ARCHS, 3).dtype == np.int32


def test_to_host_of_what_lies_here():
    found = to_host(jnp.arange(3))
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [0, 1, 2]


def test_the_default_is_every_device():
    assert Layout.default() == Layout.fitting(1) == Layout(None, tuple(jax.devices()))


@pytest.fixture(scope="module")
def one_after_another(tiny):
    return train(tiny, layout=Layout(None, ONE))


@pytest.fixture(scope="module")
def together(tiny):
    """Two and two, the last of them a free place."""
    return train(tiny, layout=TWO_AT_ONCE)


class TestChunks:
    def test_as_one_after_another(self, together, one_after_another):
        rows = (0, 1, 2)
        assert_trees_close(pick(together, *rows), pick(one_after_another, *rows), **CLOSE)

    def test_the_free_place_beside_them_stays_as_it_was(self, tiny, together):
        fresh = jax.tree.map(lambda a: a[3], init_population(tiny, SEEDS, ARCHS))
        for population, _ in together:
            assert_trees_equal(jax.tree.map(lambda a: a[3], population), fresh)

    def test_a_candidate_that_dies_is_frozen_and_the_others_close_ranks(self, tiny, together):
        history = train(tiny, dying(HYPER, 0), layout=TWO_AT_ONCE)
        # 1 and 2, which had been in two chunks, are one now.
        assert_trees_close(pick(history, 1, 2), pick(together, 1, 2), **CLOSE)
        states = pick(history, 0)
        for state, metrics in states:
            assert all(np.isnan(m).all() for m in metrics)
            assert_trees_equal(state, states[0][0])

    def test_the_caller_says_who_takes_part(self, tiny, together):
        alive = np.array([True, False, True])
        history = train(tiny, layout=TWO_AT_ONCE, alive=alive)
        assert_trees_close(pick(history, 0, 2), pick(together, 0, 2), **CLOSE)
        fresh = jax.tree.map(lambda a: a[1:2], init_population(tiny, SEEDS, ARCHS))
        assert_trees_equal(pick(history, 1)[-1][0], fresh)


def test_a_capacity_that_does_not_divide_is_refused(tiny):
    with pytest.raises(InputError) as refused:
        train(tiny, layout=Layout(None, ONE * 3))
    assert str(refused.value) == (
        "A population of capacity 4 cannot be dealt out over 3 devices; expected a multiple."
    )
