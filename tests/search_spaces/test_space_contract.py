"""What every search space promises; a new one is tested by its line in `SPACES`."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close, compilations, parameters_used, traced_macs

from jaxnas.errors import InputError
from jaxnas.search_spaces import SPACES, get_space
from jaxnas.spaces import Size

IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 8, 3)), jnp.float32)


@pytest.fixture(scope="module", params=SPACES)
def case(request):
    """A space, some of its rows, and a small network of it, compiled once for all of them."""
    space = get_space(request.param)
    network = space.network(Size(channels=4, cells=(1, 1), resolution=8), classes=3)
    variables = network.init(jax.random.key(0))

    @jax.jit
    def logits(arch, images):
        return network.apply(variables, arch, images).logits

    archs = np.concatenate([space.sample(jax.random.key(1), 40), np.zeros_like(space.all()[:1])])
    return SimpleNamespace(
        space=space,
        network=network,
        variables=variables,
        logits=logits,
        archs=archs,
    )


def choices(space):
    return np.array([len(d.choices) for d in space.decisions])


def test_it_describes_itself(case):
    space = case.space
    assert SPACES[space.name].endswith(f":{type(space).__name__}")
    assert "arXiv" in space.paper
    assert len({d.name for d in space.decisions}) == len(space.decisions)
    assert all(len(set(d.choices)) == len(d.choices) > 1 for d in space.decisions)
    for size in (space.official_size, space.proxy_size, space.train_size):
        assert size.channels > 0
        assert size.cells
        assert size.resolution % 2 ** (len(size.cells) - 1) == 0


def test_all_lists_every_row_once_in_the_order_of_index(case):
    space, archs = case.space, case.space.all()
    assert archs.shape == (space.size, len(space.decisions))
    assert archs.dtype == np.int32
    assert space.size == np.prod(choices(space))
    assert len(np.unique(archs, axis=0)) == space.size
    assert (archs >= 0).all()
    assert (archs < choices(space)).all()
    np.testing.assert_array_equal(space.index(archs), np.arange(space.size))


def test_what_all_returns_is_the_callers_own(case):
    case.space.all()[:] = 0
    assert len(np.unique(case.space.all(), axis=0)) == case.space.size


def test_strings_round_trip(case):
    for arch in case.archs:
        row = case.space.from_string(case.space.to_string(arch))
        assert row.dtype == np.int32
        np.testing.assert_array_equal(row, arch)


@pytest.mark.parametrize("text", ["", "no such architecture", "|", "0"])
def test_a_malformed_string_is_refused_in_one_sentence(case, text):
    with pytest.raises(InputError, match=r"^[^\n]+\.$") as caught:
        case.space.from_string(text)
    assert repr(text) in str(caught.value)


def test_samples_are_rows_of_the_space_drawn_by_the_key_alone(case):
    space = case.space
    drawn = space.sample(jax.random.key(3), 500)
    assert drawn.dtype == np.int32
    for column, n in zip(drawn.T, choices(space), strict=True):
        counts = np.bincount(column, minlength=n)
        assert len(counts) == n
        # Six standard deviations of a uniform draw.
        assert (np.abs(counts - 500 / n) < 6 * np.sqrt(500 / n)).all()
    np.testing.assert_array_equal(drawn, space.sample(jax.random.key(3), 500))
    assert (drawn != space.sample(jax.random.key(4), 500)).any()


def test_neighbours_are_all_the_rows_one_decision_away(case):
    arch = case.archs[0]
    neighbours = case.space.neighbours(arch)
    assert neighbours.dtype == np.int32
    distance = (case.space.all() != arch).sum(1)
    expected = case.space.all()[distance == 1]
    assert {tuple(r) for r in neighbours} == {tuple(r) for r in expected}
    assert len(neighbours) == len(expected)


def test_pruning_leaves_the_active_decisions_and_no_others(case):
    active, pruned = case.space.active_decisions(case.archs), case.space.pruned(case.archs)
    assert active.dtype == bool
    assert active.shape == case.archs.shape
    np.testing.assert_array_equal(pruned, np.where(active, case.archs, 0))
    np.testing.assert_array_equal(case.space.pruned(pruned), pruned)
    assert pruned.dtype == np.int32


def test_canonical_rows_stand_for_themselves_and_are_pruned(case):
    space, archs = case.space, case.space.all()
    rows = space.canonical(archs)
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(space.canonical(rows), rows)
    np.testing.assert_array_equal(space.pruned(rows), rows)
    np.testing.assert_array_equal(space.connected(rows), space.connected(archs))
    np.testing.assert_array_equal(space.canonical(space.pruned(archs)), rows)


def test_inactive_decisions_do_not_bear_on_the_output(case):
    pruned = case.space.pruned(case.archs)
    assert (pruned != case.archs).any()
    for arch, row in zip(case.archs, pruned, strict=True):
        assert_trees_close(case.logits(arch, IMAGES), case.logits(row, IMAGES))


def test_connected_tells_whether_the_images_bear_on_the_output(case):
    connected = case.space.connected(case.archs)
    assert connected.dtype == bool
    assert set(connected) == {True, False}
    for arch, expected in zip(case.archs, connected, strict=True):
        differ = jnp.abs(case.logits(arch, IMAGES) - case.logits(arch, 1 - IMAGES)).max()
        assert (differ > 1e-4) == expected, arch


def test_counted_parameters_are_those_that_the_output_is_computed_from(case):
    # Of a cell that connects nothing the skeleton is counted, though nothing leads through it.
    archs = case.space.pruned(case.archs[case.space.connected(case.archs)])[-8:]
    counts = case.network.count(archs).params
    assert counts.dtype == np.int64
    for arch, count in zip(archs, counts, strict=True):

        def logits(params, arch=arch):
            return case.network.apply(case.variables._replace(params=params), arch, IMAGES).logits

        assert parameters_used(logits, case.variables.params) == count, arch


def test_counted_macs_are_those_of_the_traced_network(case):
    macs = case.network.count(case.archs).macs
    assert macs.dtype == np.int64
    for arch, count in list(zip(case.space.pruned(case.archs), macs, strict=True))[-8:]:
        traced = traced_macs(lambda x, a=arch: case.network.apply(case.variables, a, x), IMAGES)
        assert traced == count * len(IMAGES), arch


def test_counts_leave_out_what_does_not_reach_the_output(case):
    pruned = case.network.count(case.space.pruned(case.archs))
    for got, expected in zip(case.network.count(case.archs), pruned, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_one_program_serves_all_architectures_and_agrees_with_each_ones_own(case):
    case.logits(case.archs[0], IMAGES)
    with compilations() as compiled:
        served = [case.logits(arch, IMAGES) for arch in case.archs[:3]]
    assert compiled == []
    for arch, got in zip(case.archs[:3], served, strict=True):
        assert got.shape == (4, 3)
        assert got.dtype == jnp.float32
        own = jax.jit(lambda x, a=arch: case.network.apply(case.variables, a, x).logits)
        assert_trees_close(got, own(IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_and_other_numbers_of_classes(case, channels):
    size = Size(channels=4, cells=(1,), resolution=8)
    network = case.space.network(size, classes=2, image_channels=channels)
    variables = jax.eval_shape(network.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, 8, 8, channels), jnp.float32)
    logits = jax.eval_shape(
        lambda v, x: network.apply(v, case.archs[0], x).logits, variables, images
    )
    assert logits.shape == (2, 2)
    assert network.image_channels == channels


@pytest.mark.parametrize("resolution", [9, 14])
def test_odd_sides_are_halved_alike_everywhere(case, resolution):
    network = case.space.network(
        Size(channels=4, cells=(1, 1, 1), resolution=resolution), classes=3
    )
    variables = jax.eval_shape(network.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, resolution, resolution, 3), jnp.float32)
    arch = case.space.pruned(case.archs[:1])

    def logits(variables, images):
        return network.apply(variables, arch[0], images).logits

    assert traced_macs(logits, variables, images) == network.count(arch).macs[0]


def test_there_is_something_to_draw_for_every_architecture(case):
    for arch in case.archs:
        graphs = case.space.graphs(arch)
        assert graphs
        assert all(caption and graph.nodes for caption, graph in graphs)


def test_an_unknown_space_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"Unknown search space 'nasbench-201'.*nasbench201"):
        get_space("nasbench-201")
