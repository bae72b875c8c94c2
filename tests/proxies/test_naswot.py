"""NASWOT against the paper's formula over every ReLU of a network written out in plain XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import Reference, by_name

from jaxnas.proxies.naswot import BinaryCodeKernel, log_determinant, naswot
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.search_spaces.nasbench201 import NONE
from jaxnas.spaces import Size

ARCHS = np.array(
    [
        [1, 1, 1, 1, 1, 1],
        [2, 3, 2, 3, 2, 3],
        [3, 4, 1, 2, 0, 3],
        [4, 4, 4, 4, 4, 4],
        [0, 2, 3, 0, 3, 2],
        [2, 2, 2, 2, 2, 2],
        [0, 0, 0, 3, 0, 0],
        [1, 3, 0, 4, 2, 1],
    ],
    np.int32,
)


def hamming_kernel(codes):
    """K_H of the paper: the units of a ReLU on which two images agree, image by image."""
    kernel = np.zeros((len(codes), len(codes)))
    for i, one in enumerate(codes):
        for j, other in enumerate(codes):
            kernel[i, j] = one.size - np.count_nonzero(one != other)
    return kernel


def reference(variables, arch, images):
    seen = Reference(by_name(variables.params), arch, images).pre_activations
    kernel = sum(hamming_kernel(np.asarray(x) > 0) for x in seen)
    return np.linalg.slogdet(kernel)[1], len(seen)


@pytest.mark.parametrize("cells", [(1,), (1, 1)], ids=["one_cell", "two_stages"])
def test_against_the_formula_over_every_relu(space, batch, cells):
    network = space.network(Size(channels=4, cells=cells, resolution=8), classes=3)
    variables = network.init(jax.random.key(2))
    scores = score_per_architecture(network, variables, ARCHS, batch, [naswot])["naswot"]
    for arch, score in zip(ARCHS, scores, strict=True):
        expected, relus = reference(variables, arch, batch.images)
        convolutions = np.isin(arch, [2, 3]).sum()
        assert relus == len(cells) * convolutions + 2 * (len(cells) - 1) + 1
        assert score == pytest.approx(expected, rel=1e-4)


def test_the_reference_network_is_the_network(space, batch):
    network = space.network(Size(channels=4, cells=(1, 1), resolution=8), classes=3)
    variables = network.init(jax.random.key(2))
    for arch in ARCHS[:3]:
        expected = Reference(by_name(variables.params), arch, batch.images).logits
        got = jax.jit(lambda x, a=arch: network.apply(variables, a, x).logits)(batch.images)
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (5, 3, 4, 2)])
def test_one_relus_kernel_counts_the_units_that_agree(shape):
    x = np.random.default_rng(0).integers(-1, 2, shape).astype(np.float32)
    kernel = BinaryCodeKernel().contribution("pre_activation", jnp.asarray(x))
    assert kernel.dtype == jnp.float32
    np.testing.assert_array_equal(kernel, hamming_kernel(x > 0))


def test_zero_is_not_active():
    x = jnp.array([[0.0, -0.0], [-1.0, -1.0], [1.0, 1.0]])
    kernel = BinaryCodeKernel().contribution("pre_activation", x)
    np.testing.assert_array_equal(kernel, [[2, 2, 0], [2, 2, 0], [0, 0, 2]])


def test_log_determinant():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 40))
    kernel = (a @ a.T).astype(np.float32)
    expected = np.log(np.linalg.eigvalsh(kernel.astype(np.float64))).sum()
    assert log_determinant(jnp.asarray(kernel)) == pytest.approx(expected, rel=1e-5)
    # A determinant far beyond float32, and one whose sign is -1.
    assert log_determinant(jnp.eye(32) * 1e6) == pytest.approx(32 * np.log(1e6), rel=1e-5)
    assert log_determinant(jnp.array([[0.0, 2.0], [3.0, 0.0]])) == pytest.approx(np.log(6))


def test_two_images_of_equal_codes_make_it_minus_infinity(tiny, variables, batch):
    twins = batch._replace(images=batch.images.at[1].set(batch.images[0]))
    scores = score_per_architecture(tiny, variables, ARCHS, twins, [naswot])["naswot"]
    assert (scores == -np.inf).all()


def test_an_edge_without_a_path_to_the_output_still_has_its_relu(space, tiny, variables, batch):
    # So architectures are scored pruned: a convolution that leads nowhere would add to the kernel.
    leads_nowhere = np.array([[2, NONE, NONE, 3, NONE, NONE]], np.int32)
    both = np.concatenate([leads_nowhere, space.pruned(leads_nowhere), ARCHS[2:]])
    scores = score_per_architecture(tiny, variables, both, batch, [naswot])["naswot"]
    assert scores[0] > scores[1]
