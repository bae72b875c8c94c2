"""NASWOT, SWAP-Score and linear regions against their formulas over every ReLU, one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import Reference, by_name

import jaxnas
from jaxnas.errors import InputError
from jaxnas.proxies import PROXIES
from jaxnas.proxies.regions import RegionCodes, distinct_codes, linear_regions, patches
from jaxnas.proxies.relu_overlap import (
    BinaryCodeKernel,
    SamplePatterns,
    distinct_patterns,
    log_determinant,
    naswot,
    swap,
    swap_reg,
    swap_regularised,
)
from jaxnas.proxy import Batch
from jaxnas.ranking import check_applies
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.scoring.shared_prefix import score_shared_prefix
from jaxnas.search_spaces import get_space
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


def one_arch(network, variables, arch, images, name):
    proxy = PROXIES[name]
    archs = np.asarray(arch)[None]
    return score_per_architecture(network, variables, archs, Batch(images, None), [proxy])[name][0]


def units(variables, arch, images):
    """The 0/1 code of every ReLU unit over the images, `bool[B, units]`."""
    seen = Reference(by_name(variables.params), arch, images).pre_activations
    return np.concatenate([np.asarray(x).reshape(len(x), -1) > 0 for x in seen], axis=1)


def images_of(number, seed=3):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((number, 8, 8, 3)), jnp.float32)


class TestSwap:
    @pytest.mark.parametrize(("cells", "number"), [((1,), 40), ((1, 1), 32)])
    def test_against_the_patterns_counted(self, space, cells, number):
        network = space.network(Size(channels=4, cells=cells, resolution=8), classes=3)
        variables, images = network.init(jax.random.key(2)), images_of(number)
        for arch in ARCHS[[0, 1, 2, 7]]:
            patterns = {unit.tobytes() for unit in units(variables, arch, images).T}
            found = one_arch(network, variables, arch, images, "swap")
            assert found == pytest.approx(len(patterns), rel=1e-4)

    @pytest.mark.parametrize("batch", [1, 31, 32, 33, 64, 70])
    def test_the_patterns_of_several_relus(self, batch):
        rng = np.random.default_rng(batch)
        shapes = [(batch, 2, 3, 4), (batch, 7), (batch, 5, 5)]
        values = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        values[0][..., :2] = values[1][0, 0]  # patterns that meet again, and all off or on
        values[1][:, 3:] = values[1][:, :1]
        values[2][:] = 1
        tap = SamplePatterns(100)
        carry = tap.init(batch)
        for value in values:
            carry = tap.fold(carry, tap.contribution("pre_activation", jnp.asarray(value)))
        flat = np.concatenate([v.reshape(batch, -1) > 0 for v in values], axis=1)
        assert distinct_patterns(carry) == len(np.unique(flat, axis=1).T)

    def test_channels_that_are_not_there_do_not_count(self):
        tap, rng = SamplePatterns(60), np.random.default_rng(0)
        value = jnp.asarray(rng.standard_normal((40, 3, 5)), jnp.float32).at[..., 2:].set(1)
        active = jnp.array([1.0, 1.0, 0.0, 0.0, 0.0])
        for there, expected in ((active, 6), (None, 7)):
            carry = tap.fold(tap.init(40), tap.contribution("pre_activation", value, there))
            assert distinct_patterns(carry) == expected

    def test_no_unit_has_no_pattern(self):
        assert distinct_patterns(SamplePatterns(4).init(40)) == 0

    def test_more_units_than_there_is_room_for_are_no_score(self, tiny, variables):
        larger = jnp.ones((4, 16, 16, 3))
        assert np.isnan(one_arch(tiny, variables, ARCHS[1], larger, "swap"))

    def test_regularised_by_the_parameters(self, space, tiny, variables, batch):
        rows = space.pruned(ARCHS)
        own = swap_regularised("own", mu=0.4, sigma=0.02)
        scores = score_per_architecture(tiny, variables, rows, batch, [swap, swap_reg, own])
        thousands = tiny.count(rows).params / 1e3
        largest = tiny.count(space.all()).params.max() / 1e3
        factor = np.exp(-(((thousands - largest) / largest) ** 2))
        np.testing.assert_allclose(scores["swap_reg"], scores["swap"] * factor, rtol=1e-4)
        factor = np.exp(-((thousands - 0.4) ** 2) / 0.02)
        np.testing.assert_allclose(scores["own"], scores["swap"] * factor, rtol=1e-4)

    def test_both_executors_regularise_alike(self, space, tiny, variables, batch):
        rows = space.pruned(ARCHS)
        both = [
            score(tiny, variables, rows, batch, [swap_reg, swap])["swap_reg"]
            for score in (score_per_architecture, score_shared_prefix)
        ]
        np.testing.assert_allclose(*both, rtol=1e-5)


class TestLinearRegions:
    @pytest.mark.parametrize("cells", [(1,), (1, 1)], ids=["one_cell", "two_stages"])
    def test_against_the_patterns_of_the_first_channels(self, space, cells):
        network = space.network(Size(channels=4, cells=cells, resolution=8), classes=3)
        variables, images = network.init(jax.random.key(2)), images_of(12)
        cut = [x[r : r + 3, c : c + 3] for x in images for r in (0, 3) for c in (0, 3)]
        counts = []
        for arch in ARCHS[:4]:
            seen = Reference(by_name(variables.params), arch, jnp.stack(cut)).pre_activations
            codes = [np.asarray(x)[..., 0].reshape(len(cut), -1) > 0 for x in seen]
            counts.append(len(np.unique(np.concatenate(codes, axis=1), axis=0)))
        found = [one_arch(network, variables, arch, images, "linear_regions") for arch in ARCHS[:4]]
        np.testing.assert_allclose(found, counts, rtol=1e-4)
        assert len(set(counts)) > 1

    def test_small_images_are_one_square(self):
        assert patches(Batch(jnp.ones((2, 2, 7, 3)), None)).shape == (4, 2, 3, 3)
        assert patches(Batch(jnp.ones((2, 3, 3, 1)), None)).shape == (2, 3, 3, 1)

    def test_in_which_relu_a_pattern_is_matters(self):
        tap, (a, b) = RegionCodes(), np.random.default_rng(0).standard_normal((2, 2, 3, 3, 1))
        first, second = jnp.asarray([a[0], b[0]]), jnp.asarray([b[0], a[0]])
        carry = tap.init(2)
        for value in (first, second):
            carry = tap.fold(carry, tap.contribution("pre_activation", value))
        assert distinct_codes(carry) == 2
        same = jnp.asarray([a[0], a[0]])
        assert distinct_codes(tap.fold(tap.init(2), tap.contribution("", same))) == 1

    def test_it_tells_architectures_of_nasbench201_apart(self, space):
        """On blurred noise at the size that the space is ranked at."""
        network = space.network(space.proxy_size, classes=10)
        noise = np.random.default_rng(0).standard_normal((32, 18, 18, 3))
        blurred = sum(noise[:, r : r + 16, c : c + 16] for r in range(3) for c in range(3)) / 3
        batch = Batch(jnp.asarray(blurred, jnp.float32), None)
        rows = np.unique(space.pruned(space.sample(jax.random.key(0), 40)), axis=0)
        rows = rows[space.connected(rows)]
        scores = score_shared_prefix(
            network, network.init(jax.random.key(0)), rows, batch, [linear_regions]
        )["linear_regions"]
        # Of 25 squares an image; those of natural images are more alike than these.
        assert (scores < 25 * 32).mean() > 0.8
        assert len(np.unique(scores)) > len(rows) / 2

    def test_networks_of_one_resolution_are_refused(self):
        space = get_space("mlp")
        network = space.network(space.proxy_size, classes=3)
        with pytest.raises(
            InputError, match=r"linear_regions is computed on squares of 3x3.*8x8 p"
        ):
            check_applies(network, [linear_regions])
        check_applies(network, [naswot, swap])

    def test_modules_of_one_resolution_are_refused(self):
        class Flat(nnx.Module):
            def __init__(self):
                self.linear = nnx.Linear(5 * 5, 3, rngs=nnx.Rngs(0))

            def __call__(self, x):
                return nnx.relu(self.linear(x.reshape(len(x), -1)))

        images = np.random.default_rng(0).standard_normal((6, 5, 5, 1)).astype(np.float32)
        assert jaxnas.score(Flat(), images, proxies="swap")["swap"] > 1
        with pytest.raises(InputError, match=r"images of shape \(2, 3, 3, 1\)"):
            jaxnas.score(Flat(), images, proxies="linear_regions")
