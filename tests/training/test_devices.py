"""Candidates dealt out over simulated devices, and over two processes: as on one device."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from candidates import CLOSE, train

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
result = {str(n): numbers(over(n)) for n in (2, 8)}
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
    "apart": list(Layout.fitting(3).devices) == jax.local_devices(),
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


@pytest.fixture(scope="module")
def expected(tiny):
    history = train(tiny)
    variables = history[-1][0].variables
    return {
        "head": jax.tree.leaves(variables.params)[-1][:3],
        "averages": jax.tree.leaves(variables.statistics)[-1][:3],
        "metrics": [np.stack(m) for _, m in history],
    }


class TestDevices:
    @pytest.mark.parametrize("n", ["2", "8"])
    def test_as_on_one_device(self, devices, expected, n):
        assert_same(devices[n], expected)

    def test_every_device_has_its_own_candidates(self, devices):
        assert devices["where"]["2"] == [[0, [0, 4]], [1, [4, 8]]]
        assert devices["where"]["8"] == [[i, [i, i + 1]] for i in range(8)]

    def test_another_population_compiles_nothing(self, devices):
        assert devices["compiled"] == []

    def test_one_that_dies_is_not_noticed(self, devices):
        lost, whole = np.array(devices["dying"]["metrics"]), np.array(devices["8"]["metrics"])
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


class TestProcesses:
    @pytest.mark.parametrize("i", range(2))
    def test_each_has_what_one_process_has(self, processes, expected, i):
        assert processes[i]["devices"] == [2, 1]
        assert_same(processes[i]["dealt"], expected)

    def test_one_program_for_all_epochs(self, processes):
        assert [one["compiled"] for one in processes] == [["jit(train_epoch)"]] * 2

    def test_places_that_cannot_be_dealt_out_are_trained_by_both(self, processes):
        assert [one["apart"] for one in processes] == [True, True]
