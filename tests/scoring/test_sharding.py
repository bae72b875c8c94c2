"""Scoring dealt out over 8 devices, simulated on the CPU in a program of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_trees_close

PROGRAM = """
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, sys.argv[1])
from helpers import compilations

from jaxnas.backend import enable_compilation_cache
from jaxnas.proxies import get_proxies
from jaxnas.proxy import Batch
from jaxnas.scoring.per_architecture import score_chunk, score_per_architecture
from jaxnas.search_spaces.nasbench201 import NASBench201
from jaxnas.spaces import Size

enable_compilation_cache()
space = NASBench201()
network = space.network(Size(channels=4, cells=(1,), resolution=8), classes=3)
variables = network.init(jax.random.key(0))
images = np.random.default_rng(0).standard_normal((8, 8, 8, 3))
batch = Batch(jnp.asarray(images, jnp.float32), jnp.arange(8, dtype=jnp.int32) % 3)
proxies = get_proxies(["naswot", "grad_norm", "params"])
archs = space.all()[:16]
devices = tuple(jax.devices())


def score(n, **settings):
    found = score_per_architecture(network, variables, archs[:n], batch, proxies, **settings)
    return {name: scores.tolist() for name, scores in found.items()}


result = {
    "devices": len(devices),
    "one": score(16, devices=devices[:1]),
    "all": score(16),
}
with compilations() as compiled:
    result["13 of 16"] = score(13)
result["compiled"] = compiled

there = jnp.arange(16) < 13
table = score_chunk(network, proxies[:2], devices, variables, archs, there, batch)
result["left out"] = np.asarray(table)[13:].tolist()
shards = table.addressable_shards
result["shape"] = table.shape
result["shards"] = [[s.device.id, s.index[0].indices(16)[:2], s.data.shape] for s in shards]
lowered = score_chunk.lower(network, proxies[:1], devices, variables, archs, there, batch)
text = lowered.compile().as_text()
result["conditionals"] = text.count(" conditional(")
result["collectives"] = [c for c in ("all-gather", "all-reduce", "all-to-all") if c in text]
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def ran():
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(Path(__file__).parents[1])],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_eight_devices_score_as_one_does(ran):
    assert ran["devices"] == 8
    assert ran["all"].keys() == {"naswot", "grad_norm", "params"}
    for name, scores in ran["one"].items():
        assert len(set(scores)) > 6
        assert_trees_close(np.array(ran["all"][name]), np.array(scores))


def test_so_they_do_when_rows_do_not_divide_by_eight(ran):
    for name, scores in ran["all"].items():
        assert ran["13 of 16"][name] == scores[:13]


def test_fewer_rows_of_as_many_turns_compile_nothing(ran):
    assert ran["compiled"] == []


def test_places_left_out_are_zero(ran):
    assert ran["left out"] == [[0, 0]] * 3


def test_every_device_has_its_own_rows(ran):
    assert ran["shape"] == [16, 2]
    expected = [[i, [2 * i, 2 * i + 2], [2, 2]] for i in range(8)]
    assert sorted(ran["shards"]) == expected


def test_each_computes_apart_and_only_the_branches_taken(ran):
    assert ran["conditionals"] >= 6
    assert ran["collectives"] == []
