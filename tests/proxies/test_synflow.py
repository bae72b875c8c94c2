"""synflow against float64 NumPy, at depths where float32 and then float64 overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import by_name

import jaxnas
from jaxnas.proxies import get_proxies
from jaxnas.proxy import Batch, evaluate
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.search_spaces.nasbench201 import CONV1, CONV3, EDGES, NONE, POOL, SKIP
from jaxnas.spaces import Size

ARCHS = np.array(
    [
        [CONV3, POOL, SKIP, CONV1, NONE, CONV3],
        [CONV1, CONV3, CONV1, CONV3, CONV1, CONV3],
        [SKIP, NONE, NONE, POOL, SKIP, SKIP],
        [CONV3] * 6,
        [CONV3, NONE, NONE, NONE, NONE, CONV1],  # operations, and no path
    ],
    np.int32,
)

SYNFLOW = get_proxies(["synflow"])


class Flow:
    """sum of w dR/dw, which is the slope of R where all kernels are scaled together, in float64.

    Each value goes with its slope. All are positive, so that ReLUs do nothing.
    """

    def __init__(self, weights, arch, resolution):
        self.weights = {n: abs(np.asarray(w, np.float64)) for n, w in weights.items()}
        ones = np.ones((resolution, resolution, 3))
        x = self.conv("stem.modules.0", (ones, 0 * ones))
        for i in range(1 + max(int(n.split(".")[1]) for n in weights if n.startswith("blocks"))):
            name = f"blocks.{i}"
            reduces = f"{name}.conv_a.modules.1.kernel" in weights
            x = self.reduction(name, x) if reduces else self.cell(name, arch, x)
        value, slope = (part.mean((0, 1)) for part in x)
        kernel, bias = self.weights["classifier.kernel"], self.weights["classifier.bias"]
        self.total = (value @ kernel + bias).sum()
        self.slope = (slope @ kernel + value @ kernel).sum()

    def conv(self, name, x, stride=1):
        kernel = self.weights[f"{name}.kernel"]
        value, slope = (self.slide(part, kernel, stride) for part in x)
        return value, slope + value

    def slide(self, x, kernel, stride):
        pad = len(kernel) // 2
        x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
        rows, columns = (x.shape[axis] - 2 * pad for axis in (0, 1))
        taps = (
            x[i : i + rows : stride, j : j + columns : stride] @ kernel[i, j]
            for i in range(len(kernel))
            for j in range(len(kernel))
        )
        return sum(taps)

    def cell(self, name, arch, x):
        nodes = [x, *((0 * x[0], 0 * x[1]) for _ in range(3))]
        for e, (a, b) in enumerate(EDGES):
            y = self.operation(f"{name}.edges.{e}", arch[e], nodes[a])
            nodes[b] = (nodes[b][0] + y[0], nodes[b][1] + y[1])
        return nodes[3]

    def operation(self, name, op, x):
        if op in (CONV1, CONV3):
            return self.conv(f"{name}.branches.{op}.modules.1", x)
        if op == POOL:
            box = np.ones((3, 3))[..., None, None] * np.eye(x[0].shape[-1])
            cells = self.slide(np.ones_like(x[0]), box, 1)
            return self.slide(x[0], box, 1) / cells, self.slide(x[1], box, 1) / cells
        return x if op == SKIP else (0 * x[0], 0 * x[1])

    def reduction(self, name, x):
        inner = self.conv(f"{name}.conv_a.modules.1", x, stride=2)
        inner = self.conv(f"{name}.conv_b.modules.1", inner)
        pooled = tuple((p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2]) / 4 for p in x)
        shortcut = self.conv(f"{name}.shortcut.modules.1", pooled)
        return shortcut[0] + inner[0], shortcut[1] + inner[1]


def expected(network, variables, archs):
    weights = by_name(variables.params)
    flows = [Flow(weights, arch, network.resolution) for arch in archs]
    with np.errstate(divide="ignore"):
        return np.log([flow.slope for flow in flows])


def one_by_one(network, variables, archs):
    """Scores with the choices made while tracing, operation by operation: nothing is compiled."""
    batch = Batch(jnp.zeros((2, network.resolution, network.resolution, 3)), None)
    found = [evaluate(SYNFLOW, network, variables, arch, batch) for arch in archs]
    return np.array([float(each["synflow"]) for each in found])


@pytest.mark.parametrize("cells", [(1,), (1, 1)], ids=["one_cell", "two_stages"])
def test_shallow_networks_score_the_logarithm_of_the_plain_sum(space, batch, cells):
    network = space.network(Size(channels=4, cells=cells, resolution=8), classes=3)
    variables = network.init(jax.random.key(2))
    scores = score_per_architecture(network, variables, ARCHS, batch, SYNFLOW)["synflow"]
    np.testing.assert_allclose(scores, expected(network, variables, ARCHS), rtol=1e-5)
    assert scores[-1] == -np.inf


def test_the_official_network_overflows_float32_and_is_scored(space):
    network = space.network(Size(channels=16, cells=(5, 5, 5), resolution=8), classes=10)
    variables = network.init(jax.random.key(0))
    scores = one_by_one(network, variables, ARCHS[:4])
    wanted = expected(network, variables, ARCHS[:4])
    assert wanted.max() > np.log(np.finfo(np.float32).max)
    np.testing.assert_allclose(scores, wanted, rtol=1e-5)
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(np.exp(wanted)))


def test_a_hundred_cells(space):
    network = space.network(Size(channels=4, cells=(100,), resolution=4), classes=3)
    variables = network.init(jax.random.key(0))
    scores = one_by_one(network, variables, ARCHS[[0, 3]])
    wanted = expected(network, variables, ARCHS[[0, 3]])
    assert wanted.max() > 3 * np.log(np.finfo(np.float32).max)
    np.testing.assert_allclose(scores, wanted, rtol=1e-5)


def test_weights_beyond_any_float64(space):
    network = space.network(Size(channels=4, cells=(100,), resolution=4), classes=3)
    variables = network.init(jax.random.key(0))
    larger = jax.tree.map(lambda w: 1e4 * w, variables.params)
    arch = np.array([[NONE, NONE, NONE, CONV3, NONE, NONE]], np.int32)  # a chain of 102 kernels
    before, after = (
        one_by_one(network, v, arch) for v in (variables, variables._replace(params=larger))
    )
    np.testing.assert_allclose(after - before, 102 * np.log(1e4), rtol=1e-5)


class Deep(nnx.Module):
    """A Flax module of ReLU layers that gain a factor of about `gain` each."""

    def __init__(self, layers, gain):
        init = nnx.initializers.constant(gain / 4)
        dense = [nnx.Linear(4, 4, kernel_init=init, rngs=nnx.Rngs(0)) for _ in range(layers)]
        self.layers = nnx.List(dense)
        self.norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0))

    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.norm(x)


def test_a_module_of_ones_own_runs_unscaled():
    images = np.random.default_rng(0).standard_normal((2, 1, 1, 4)).astype(np.float32)
    found = jaxnas.score(Deep(6, 10.0), images, proxies="synflow")["synflow"]
    # 4 logits of 10^6, each the sum of 6 layers; batch norm divides by sqrt(1 + epsilon).
    assert found == pytest.approx(np.log(4 * 6 * 1e6 / np.sqrt(1 + 1e-5)), rel=1e-5)


def test_where_it_overflows_the_score_is_nan():
    images = np.random.default_rng(0).standard_normal((2, 1, 1, 4)).astype(np.float32)
    assert np.isnan(jaxnas.score(Deep(60, 10.0), images, proxies="synflow")["synflow"])
