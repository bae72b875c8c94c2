"""Candidates one after another, in chunks, over simulated devices and in two processes: all the same."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
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


BEFORE = """
import json
import sys

import jax
import numpy as np

sys.path[:0] = sys.argv[1:3]
"""

AFTER = """
from candidates import ARCHS, HYPER, SEEDS, train
from helpers import compilations
from jaxnas.backend import enable_compilation_cache
from jaxnas.search_spaces.nasbench201 import NASBench201
from jaxnas.spaces import Size
from jaxnas.training.layout import Layout

enable_compilation_cache()
network = NASBench201().network(Size(channels=4, cells=(1,), resolution=8), classes=3)


def numbers(history):
    last = {"head": [], "averages": []}
    if history:
        variables = history[-1][0].variables
        last["head"] = jax.tree.leaves(variables.params)[-1][:3].tolist()
        last["averages"] = jax.tree.leaves(variables.statistics)[-1][:3].tolist()
    return last | {"metrics": [np.stack(m).tolist() for _, m in history]}


def seeds(capacity):
    return np.resize(np.append(SEEDS, np.zeros(capacity, np.uint32)), capacity)
"""

DEVICES = (
    BEFORE
    + AFTER
    + """
devices = tuple(jax.devices())


def over(n, **settings):
    return train(network, seeds=seeds(8), layout=Layout(None, devices[:n]), **settings)


from jaxnas.training import population as module

where = {}
usual = module.train_epoch


def watched(network, options, layout, *arrays):
    found = usual(network, options, layout, *arrays)
    lies = [[[s.device.id, s.index[0].indices(8)[:2]] for s in leaf.addressable_shards]
            for leaf in jax.tree.leaves(found)]
    assert all(one == lies[0] for one in lies)
    where[len(layout.devices)] = sorted(lies[0])
    return found


module.train_epoch = watched
result = {str(n): numbers(over(n)) for n in (1, 2, 8)}
result["where"] = where
with compilations() as compiled:
    over(8, archs=ARCHS[::-1][:2], hyper=HYPER.rows(slice(0, 2)))
result["compiled"] = compiled
dead = HYPER._replace(learning_rate=np.array([0.05, np.nan, 0.2]))
result["dying"] = numbers(train(network, dead, seeds=seeds(8)))
module.train_epoch = usual
layout = Layout(None, devices[3:4])
lies = layout.dealt(module.init_population(network, seeds(4), ARCHS)).seeds
result["alone on"] = [d.id for d in lies.devices()]
chosen = [Layout.fitting(c) for c in (8, 16, 4)]
result["default"] = [[d.id for d in layout.devices] for layout in chosen]
print(json.dumps(result))
"""
)

PROCESSES = (
    BEFORE
    + """
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[3], 2, int(sys.argv[4]), heartbeat_timeout_seconds=900)
"""
    + AFTER
    + """
with compilations() as compiled:
    dealt = numbers(train(network, seeds=SEEDS))
result = {
    "devices": [len(jax.devices()), len(jax.local_devices())],
    "dealt": dealt,
    "compiled": [name for name in compiled if "train_epoch" in name],
    # Three places are no multiple of two: each process trains them all.
    "apart": numbers(train(network, seeds=SEEDS[:3], epochs=1)),
}
print(json.dumps(result))
"""
)


def run(programs: Sequence[Sequence[str]], **environment: str) -> list[Any]:
    """What programs that run beside each other print at last, as JSON."""
    here = Path(__file__).parent
    environment = os.environ | {"JAX_PLATFORMS": "cpu"} | environment
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", text, str(here), str(here.parent), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for text, *arguments in programs
    ]
    try:
        printed = [process.communicate(timeout=600) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, printed, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(text.splitlines()[-1]) for text, _ in printed]


def assert_same(got: Any, expected: Any) -> None:
    assert got.keys() == expected.keys()
    for name, numbers in expected.items():
        np.testing.assert_allclose(np.array(got[name]), np.array(numbers), **CLOSE)


@pytest.fixture(scope="module")
def devices():
    flags = "--xla_force_host_platform_device_count=8"
    (result,) = run([[DEVICES]], XLA_FLAGS=flags)
    return result


class TestDevices:
    @pytest.mark.parametrize("n", ["2", "8"])
    def test_as_on_one_device(self, devices, n):
        assert np.isfinite(devices["1"]["metrics"]).all()
        assert_same(devices[n], devices["1"])

    def test_every_device_has_its_own_candidates(self, devices):
        assert devices["where"]["1"] == [[0, [0, 8]]]
        assert devices["where"]["2"] == [[0, [0, 4]], [1, [4, 8]]]
        assert devices["where"]["8"] == [[i, [i, i + 1]] for i in range(8)]

    def test_another_population_compiles_nothing(self, devices):
        assert devices["compiled"] == []

    def test_one_that_dies_is_not_noticed(self, devices):
        lost, whole = np.array(devices["dying"]["metrics"]), np.array(devices["1"]["metrics"])
        assert np.isnan(lost[:, :, 1]).all()
        np.testing.assert_allclose(lost[:, :, [0, 2]], whole[:, :, [0, 2]], **CLOSE)

    def test_a_device_by_itself_is_the_one_that_is_named(self, devices):
        assert devices["alone on"] == [3]

    def test_by_default_all_devices_or_where_that_does_not_divide_one(self, devices):
        assert devices["default"] == [list(range(8)), list(range(8)), [0]]


@pytest.fixture(scope="module")
def processes():
    with socket.create_server(("localhost", 0)) as free:
        address = f"localhost:{free.getsockname()[1]}"
    return run([[PROCESSES, address, str(i)] for i in range(2)])


@pytest.fixture(scope="module")
def expected(tiny):
    history = train(tiny)
    variables = history[-1][0].variables
    return {
        "head": jax.tree.leaves(variables.params)[-1][:3],
        "averages": jax.tree.leaves(variables.statistics)[-1][:3],
        "metrics": [np.stack(m) for _, m in history],
    }


class TestProcesses:
    @pytest.mark.parametrize("i", range(2))
    def test_each_has_what_one_process_has(self, processes, expected, i):
        assert processes[i]["devices"] == [2, 1]
        assert_same(processes[i]["dealt"], expected)

    def test_one_program_for_all_epochs(self, processes):
        assert [one["compiled"] for one in processes] == [["jit(train_epoch)"]] * 2

    def test_places_that_cannot_be_dealt_out_are_trained_by_both(self, processes, tiny):
        expected = [np.stack(m) for _, m in train(tiny, seeds=SEEDS[:3], epochs=1)]
        for one in processes:
            np.testing.assert_allclose(one["apart"]["metrics"], expected, **CLOSE)
