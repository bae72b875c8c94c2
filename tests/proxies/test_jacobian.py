"""jacov, epe_nas, ntk and vkdnw against their authors' formulas, in float64 from a plain network's
derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import Reference, by_name

from jaxnas.module_score import NO_CHOICES, as_network
from jaxnas.proxies.jacobian import epe_nas, jacov
from jaxnas.proxies.kernel import ntk, vkdnw
from jaxnas.proxies.relu_overlap import naswot
from jaxnas.proxies.spectrum import singular_values
from jaxnas.proxy import evaluate
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.search_spaces.nasbench201 import EDGES
from jaxnas.spaces import Size

ARCHS = np.array(
    [
        [3, 4, 1, 2, 0, 3],
        [2, 3, 2, 3, 2, 3],
        [1, 0, 0, 4, 1, 1],
        [4, 4, 4, 4, 4, 4],
        [0, 2, 3, 0, 2, 1],  # operations on nothing
        [3, 3, 0, 2, 0, 0],  # convolutions that lead nowhere
        [3, 0, 0, 0, 3, 1],
        [0, 0, 0, 1, 0, 0],
    ],
    np.int32,
)
ALL = [jacov, epe_nas, ntk, vkdnw]


@pytest.fixture(scope="module", params=[(1,), (1, 1)], ids=["one_cell", "two_stages"])
def case(request, space, batch):
    network = space.network(Size(channels=4, cells=request.param, resolution=8), classes=3)
    variables = confident(network.init(jax.random.key(2)))
    scores = score_per_architecture(network, variables, ARCHS, batch, ALL)
    return by_name(variables.params), scores


def confident(variables, factor=8.0):
    """With larger weights in the classifier: fresh ones give all classes about one probability."""

    def one(path, leaf):
        return leaf * factor if "classifier" in jax.tree_util.keystr(path) else leaf

    return variables._replace(params=jax.tree_util.tree_map_with_path(one, variables.params))


def own_kernels(weights, arch):
    """Those that the architecture's own network has and that bear on its output."""
    used = []
    for name in weights:
        if not name.endswith("kernel"):
            continue
        if ".edges." in name:
            edge, op = (int(name.split(".")[i]) for i in (3, 5))
            if arch[edge] != op or not on_a_path(arch, edge):
                continue
        used.append(name)
    return used


def on_a_path(arch, edge):
    def reached(node, last, back):
        ends = [(b, a) if back else (a, b) for a, b in EDGES]
        steps = [b for (a, b), op in zip(ends, arch, strict=True) if a == node and op != 0]
        return node == last or any(reached(step, last, back) for step in steps)

    start, end = EDGES[edge]
    return reached(start, 0, True) and reached(end, 3, False)


def image_gradients(weights, arch, images):
    def total(images):
        return Reference(weights, arch, images).logits.sum()

    return np.asarray(jax.jit(jax.grad(total))(images), np.float64).reshape(len(images), -1)


def jacov_by_hand(jacobian):
    v = np.linalg.eigvalsh(np.corrcoef(jacobian))
    return -sum(np.log(x + 1e-5) + 1 / (x + 1e-5) for x in v)


def epe_nas_by_hand(jacobian, labels, classes=3):
    sums = {}
    for c in sorted(set(labels.tolist())):
        alike = np.atleast_2d(np.corrcoef(jacobian[labels == c]))
        sums[c] = np.log(np.abs(alike) + 1e-5).sum() / (len(alike) if classes > 100 else 1)
    if classes > 100:
        return sum(abs(a - b) for a in sums.values() for b in sums.values()) / len(sums)
    return sum(abs(s) for s in sums.values())


def ntk_by_hand(weights, arch, images):
    kernels = own_kernels(weights, arch)

    def sums(some):
        return Reference(weights | some, arch, images).logits.sum(1)

    by_name = jax.jit(jax.jacrev(sums))({name: weights[name] for name in kernels})
    rows = [np.asarray(j, np.float64).reshape(len(images), -1) for j in by_name.values()]
    values = np.linalg.eigvalsh(sum(g @ g.T for g in rows))
    return values[-1] / values[0]


class AtRest(Reference):
    """With the running averages that batch norm begins with."""

    def batch_norm(self, name, x):
        scale, bias = (self.weights[f"{name}.{k}"].reshape(1, 1, 1, -1) for k in ("scale", "bias"))
        return x / jnp.sqrt(jnp.float32(1 + 1e-5)) * scale + bias


def spectrum_entropy(jacobians, logits):
    """Of `[B, classes, weights]` and `[B, classes]`."""
    fisher = np.zeros((jacobians.shape[2],) * 2)
    for j, z in zip(jacobians.astype(np.float64), logits.astype(np.float64), strict=True):
        p = 0.95 * np.exp(z) / np.exp(z).sum() + 0.05 / len(z)
        fisher += j.T @ (np.diag(p) - np.outer(p, p)) @ j / len(logits)
    deciles = np.quantile(np.linalg.svd(fisher, compute_uv=False), np.arange(1, 10) / 10)
    share = deciles / (deciles.sum() + 1e-10)
    return -np.sum(share * np.log(share + 1e-10))


def vkdnw_by_hand(weights, arch, images):
    kernels = own_kernels(weights, arch)
    place = {name: (0,) * weights[name].ndim for name in kernels}

    def logits(firsts, image):
        moved = {n: weights[n].at[place[n]].set(firsts[i]) for i, n in enumerate(kernels)}
        return AtRest(weights | moved, arch, image[None]).logits[0]

    firsts = jnp.stack([weights[n][place[n]] for n in kernels])
    each = jax.jit(lambda image: (jax.jacrev(logits)(firsts, image), logits(firsts, image)))
    jacobians, z = zip(*(each(image) for image in images), strict=True)
    return len(kernels), spectrum_entropy(np.stack(jacobians), np.stack(z))


def test_jacov_against_the_formula(case, batch):
    weights, scores = case
    expected = [jacov_by_hand(image_gradients(weights, a, batch.images)) for a in ARCHS]
    np.testing.assert_allclose(scores["jacov"], expected, rtol=1e-4)


def test_epe_nas_against_the_formula(case, batch):
    weights, scores = case
    labels = np.asarray(batch.labels)
    expected = [epe_nas_by_hand(image_gradients(weights, a, batch.images), labels) for a in ARCHS]
    np.testing.assert_allclose(scores["epe_nas"], expected, rtol=1e-4)


def test_ntk_against_the_formula(case, batch):
    weights, scores = case
    expected = [ntk_by_hand(weights, arch, batch.images) for arch in ARCHS]
    np.testing.assert_allclose(scores["ntk"], expected, rtol=1e-4)


def test_vkdnw_against_the_formula(case, batch):
    weights, scores = case
    by_hand = [vkdnw_by_hand(weights, arch, batch.images) for arch in ARCHS]
    layers, entropies = np.array(by_hand).T
    np.testing.assert_allclose(scores["vkdnw"], layers + entropies, rtol=1e-4)
    assert ((entropies > 0.02) & (entropies < np.log(9))).all()
    np.testing.assert_allclose(scores["vkdnw"] - layers, entropies, rtol=1e-3)


def test_vkdnw_of_a_module(batch):
    class Small(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(3)
            self.conv = nnx.Conv(3, 5, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(5, rngs=rngs)
            self.classifier = nnx.Linear(5, 3, rngs=rngs)

        def __call__(self, x):
            return self.classifier(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))

    network, variables = as_network(Small(), (8, 8, 3))
    score = jax.jit(lambda: evaluate([vkdnw], network, variables, NO_CHOICES, batch)["vkdnw"])()
    weights = by_name(variables.params)
    names = [name for name in weights if name.endswith("kernel")]

    def logits(firsts, image):
        moved = {n: weights[n].at[(0,) * weights[n].ndim].set(firsts[n]) for n in names}
        conv, classifier = (
            {k: (weights | moved)[f"{n}.{k}"] for k in ("kernel", "bias")}
            for n in ("conv", "classifier")
        )
        layout = ("NHWC", "HWIO", "NHWC")
        x = (
            jax.lax.conv_general_dilated(
                image[None], conv["kernel"], (1, 1), "SAME", dimension_numbers=layout
            )[0]
            + conv["bias"][None, None]
        )
        x = jnp.maximum(x / jnp.sqrt(jnp.float32(1 + 1e-5)), 0).mean((0, 1))
        return x @ classifier["kernel"] + classifier["bias"]

    firsts = {n: weights[n][(0,) * weights[n].ndim] for n in names}
    columns = [jax.jacrev(logits)(firsts, image) for image in batch.images]
    jacobians = np.stack([np.stack([c[n] for n in names], axis=1) for c in columns])
    z = np.stack([logits(firsts, image) for image in batch.images])
    assert score == pytest.approx(2 + spectrum_entropy(jacobians, z), rel=1e-4)


def test_epe_nas_of_more_than_a_hundred_classes_compares_them(space, batch):
    network = space.network(Size(channels=4, cells=(1,), resolution=8), classes=101)
    variables = network.init(jax.random.key(3))
    labels = jnp.asarray([100, 4, 4, 100, 4, 7, 7, 0])
    scores = score_per_architecture(
        network, variables, ARCHS[:3], batch._replace(labels=labels), [epe_nas]
    )["epe_nas"]
    weights = by_name(variables.params)
    expected = [
        epe_nas_by_hand(image_gradients(weights, a, batch.images), np.asarray(labels), 101)
        for a in ARCHS[:3]
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_singular_values_are_as_precise_as_the_matrix():
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    right, _ = np.linalg.qr(rng.standard_normal((300, 6)))
    expected = np.array([3.0, 1.0, 0.1, 0.01, 0.003, 0.001])
    matrix = jnp.asarray((left * expected) @ right.T, jnp.float32)
    parts = [matrix[:, :100], matrix[:, 100:]]
    np.testing.assert_allclose(singular_values(parts), expected, rtol=1e-3)
    gram = np.sqrt(np.abs(np.linalg.eigvalsh(np.asarray(matrix @ matrix.T))))
    assert abs(gram.min() / 0.001 - 1) > 1e-2  # what it is for


def test_singular_values_of_what_has_none():
    assert (singular_values([jnp.zeros((4, 7))]) == 0).all()
    assert jnp.isnan(singular_values([jnp.zeros((4, 7)).at[1, 2].set(jnp.nan)])).all()
    thin = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    np.testing.assert_allclose(
        singular_values([jnp.asarray(thin)])[:2], np.linalg.svd(thin)[1], rtol=1e-5
    )


def test_equal_images_make_the_kernel_singular(tiny, variables, batch):
    twice = batch._replace(images=batch.images.at[1].set(batch.images[0]))
    score = score_per_architecture(tiny, variables, ARCHS[:1], twice, [ntk, jacov])
    assert score["ntk"] == np.inf
    assert -1e5 - 100 < score["jacov"] < -0.9e5  # one eigenvalue is 0


def test_a_gradient_without_contrast_has_no_correlation(tiny, variables, batch):
    class Passed:
        image_gradients = jnp.ones((8, 8, 8, 3)).at[1:].multiply(batch.images[1:])
        logits, labels = jnp.zeros((8, 3)), batch.labels

    assert jacov.score(Passed) == epe_nas.score(Passed) == -np.inf  # pyright: ignore
    Passed.image_gradients = Passed.image_gradients.at[3].set(jnp.nan)
    assert jnp.isnan(jacov.score(Passed) + epe_nas.score(Passed))  # pyright: ignore


def test_the_scale_of_gradients_does_not_matter(tiny, variables, batch):
    found, expected = (
        score_per_architecture(tiny, v, ARCHS, batch, [jacov, epe_nas])
        for v in (confident(variables, 1e-25), variables)
    )
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-4)


@pytest.mark.parametrize(
    ("together", "dearest"),
    [
        ([jacov, epe_nas, vkdnw], [jacov, vkdnw]),
        ([jacov, epe_nas], [jacov]),
        ([naswot, ntk], [ntk]),
    ],
)
def test_passes_are_shared(together, dearest, tiny, variables, batch):
    def convolutions(proxies):
        def run(arch):
            return evaluate(proxies, tiny, variables, arch, batch)

        return jax.jit(run).lower(ARCHS[0]).as_text().count("stablehlo.convolution")

    assert convolutions(together) == convolutions(dearest) > 0
