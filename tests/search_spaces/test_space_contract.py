"""What every search space promises; a new one is tested by its line in `SPACES`."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close, compilations, parameters_used, traced_macs

import jaxnas
from jaxnas.errors import InputError
from jaxnas.search_spaces import SPACES, get_space
from jaxnas.spaces import Size

SMALL = {
    "darts": Size(channels=2, cells=(0, 0), resolution=8),
    "nasnet": Size(channels=2, cells=(1,), resolution=8),
    "dnet": Size(channels=8, cells=(1, 1), resolution=8),
    "autoformer": Size(channels=15, cells=(3,), resolution=8),
    "mlp": Size(channels=256, cells=(4,), resolution=8),
    "mobilenet": Size(channels=1, cells=(1, 3, 1, 1, 1), resolution=8),
    "nasbench101": Size(channels=7, cells=(1, 1), resolution=8),
    "nasbench201": Size(channels=4, cells=(1, 1), resolution=8),
    "nats_size": Size(channels=8, cells=(1, 1, 1), resolution=8),
    "resnet": Size(channels=1, cells=(1, 2, 1), resolution=8),
    "nasbench_macro": Size(channels=2, cells=(2, 3, 3), resolution=8),
    "transnas_macro": Size(channels=2, cells=(1,), resolution=8),
    "transnas_micro": Size(channels=2, cells=(2, 1), resolution=8),
}
"""A size of each space that a test can afford."""


def small_network(space, classes=3, image_channels=3, kind=0, **changes):
    size = replace(SMALL[space.name], **changes)
    return space.network(size, classes=classes, image_channels=image_channels, shape_class=kind)


def images_for(network, n=4, seed=0):
    side = network.resolution
    shape = (n, side, side, network.image_channels)
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.fixture(scope="module", params=SPACES)
def case(request):
    """A space, some of its rows, and a small network of one class, compiled once for all of them."""
    space = get_space(request.param)
    archs = space.sample(jax.random.key(1), 60)
    degenerate = np.zeros_like(archs[:1])
    archs = np.concatenate([archs, degenerate[space.valid(degenerate)]])
    kinds = space.shape_classes(archs)
    kind = int(np.bincount(kinds).argmax())
    network = small_network(space, kind=kind)
    variables = network.init(jax.random.key(0))

    @jax.jit
    def logits(row, images):
        return network.apply(network.specialise(variables, row), row, images).logits

    yield SimpleNamespace(
        space=space,
        network=network,
        variables=variables,
        images=images_for(network),
        logits=logits,
        archs=archs,
        of_class=archs[kinds == kind][-30:],
        kind=kind,
    )
    jax.clear_caches()  # the programs of fifteen spaces would fill gigabytes


def choices(space):
    return np.array([len(d.choices) for d in space.decisions])


def population(space):
    """All architectures, or many where there are too many."""
    return space.all() if space.enumerable else space.sample(jax.random.key(2), 2000)


def test_it_describes_itself(case):
    space = case.space
    assert SPACES[space.name].endswith(f":{type(space).__name__}")
    assert "arXiv" in space.paper
    assert len({d.name for d in space.decisions}) == len(space.decisions)
    # Descriptions address decisions by name, and the default notation is separated by blanks.
    assert not any(c.isspace() for d in space.decisions for c in d.name + "".join(d.choices))
    assert all(len(set(d.choices)) == len(d.choices) > 1 for d in space.decisions)
    assert space.programs >= 1
    assert space.size > 1
    for size in (space.official_size, space.proxy_size, space.train_size):
        assert size.channels > 0
        assert size.cells
        assert size.resolution > 0


def test_all_lists_every_row_once_in_the_order_of_index(case):
    space = case.space
    if not space.enumerable:
        with pytest.raises(InputError, match="too many to list"):
            space.all()
        return
    archs = space.all()
    assert archs.shape == (space.size, len(space.decisions))
    assert archs.dtype == np.int32
    assert len(np.unique(archs, axis=0)) == space.size
    space.check(archs)
    np.testing.assert_array_equal(space.index(archs), np.arange(space.size))


def test_what_all_returns_is_the_callers_own(case):
    if case.space.enumerable:
        case.space.all()[:] = 0
        assert len(np.unique(case.space.all(), axis=0)) == case.space.size


def test_rows_out_of_range_are_refused(case):
    archs = case.archs[:3].copy()
    archs[1, 0] = len(case.space.decisions[0].choices)
    with pytest.raises(InputError, match=r"1 of 3 rows .* the first is row 1"):
        case.space.check(archs)
    with pytest.raises(InputError, match="rows of"):
        case.space.check(archs[:, 1:])


def test_strings_round_trip(case):
    for arch in case.space.pruned(case.archs):
        row = case.space.from_string(case.space.to_string(arch))
        assert row.dtype == np.int32
        np.testing.assert_array_equal(case.space.pruned(row[None])[0], arch)


@pytest.mark.parametrize("text", ["", "no such architecture", "|", "0"])
def test_a_malformed_string_is_refused_in_one_sentence(case, text):
    with pytest.raises(InputError, match=r"^[^\n]+\.$") as caught:
        case.space.from_string(text)
    assert repr(text) in str(caught.value)


def test_samples_are_rows_of_the_space_drawn_by_the_key_alone(case):
    space = case.space
    drawn = space.sample(jax.random.key(3), 500)
    assert drawn.shape == (500, len(space.decisions))
    assert drawn.dtype == np.int32
    space.check(drawn)
    if space.size == np.prod(choices(space), dtype=object):
        for column, n in zip(drawn.T, choices(space), strict=True):
            # Six standard deviations of a uniform draw.
            counts = np.bincount(column, minlength=n)
            assert (np.abs(counts - 500 / n) < 6 * np.sqrt(500 / n)).all()
    np.testing.assert_array_equal(drawn, space.sample(jax.random.key(3), 500))
    assert (drawn != space.sample(jax.random.key(4), 500)).any()


def test_distinct_samples_differ_in_more_than_inactive_decisions(case):
    drawn = case.space.sample_distinct(jax.random.key(3), 200)
    assert 0 < len(drawn) <= 200
    assert len(np.unique(case.space.pruned(drawn), axis=0)) == len(drawn)


def test_neighbours_are_all_the_rows_one_decision_away(case):
    space, arch = case.space, case.archs[0]
    neighbours = space.neighbours(arch)
    assert neighbours.dtype == np.int32
    expected = set()
    for d, n in enumerate(choices(space)):
        for choice in range(n):
            row = arch.copy()
            row[d] = choice
            if choice != arch[d] and space.valid(row[None])[0]:
                expected.add(tuple(row.tolist()))
    assert {tuple(r) for r in neighbours.tolist()} == expected
    assert len(neighbours) == len(expected)


def test_pruning_leaves_the_active_decisions_and_no_others(case):
    active, pruned = case.space.active_decisions(case.archs), case.space.pruned(case.archs)
    assert active.dtype == bool
    assert active.shape == case.archs.shape
    np.testing.assert_array_equal(pruned, np.where(active, case.archs, 0))
    np.testing.assert_array_equal(case.space.pruned(pruned), pruned)
    assert pruned.dtype == np.int32
    case.space.check(pruned)


def test_rows_and_shape_classes_depend_on_active_decisions_alone(case):
    space = case.space
    pruned = space.pruned(case.archs)
    np.testing.assert_array_equal(space.rows(case.archs), space.rows(pruned))
    np.testing.assert_array_equal(space.shape_classes(case.archs), space.shape_classes(pruned))
    kinds = space.shape_classes(population(space))
    assert kinds.min() >= 0
    assert kinds.max() < space.programs
    assert space.rows(case.archs).dtype == np.int32


def test_canonical_rows_stand_for_themselves_and_are_pruned(case):
    space, archs = case.space, population(case.space)
    rows = space.canonical(archs)
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(space.canonical(rows), rows)
    np.testing.assert_array_equal(space.pruned(rows), rows)
    np.testing.assert_array_equal(space.connected(rows), space.connected(archs))
    np.testing.assert_array_equal(space.canonical(space.pruned(archs)), rows)


def test_scored_rows_stand_for_themselves_and_have_the_same_sizes(case):
    space, archs = case.space, population(case.space)
    rows = space.scored(archs)
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(space.scored(rows), rows)
    np.testing.assert_array_equal(space.pruned(rows), rows)
    np.testing.assert_array_equal(space.connected(rows), space.connected(archs))
    np.testing.assert_array_equal(space.shape_classes(rows), space.shape_classes(archs))
    np.testing.assert_array_equal(space.canonical(rows), space.canonical(archs))
    counts = [space.count(each, space.proxy_size, classes=10) for each in (rows, archs)]
    np.testing.assert_array_equal(*counts)


def test_inactive_decisions_do_not_bear_on_the_output(case):
    """What changes in them, while they stay inactive, changes nothing that the network reads."""
    space = case.space
    for arch in case.of_class[:10]:
        neighbours = space.neighbours(arch)
        changed = (neighbours != arch).argmax(axis=1)
        before = space.active_decisions(arch[None])[0][changed]
        after = space.active_decisions(neighbours)[np.arange(len(changed)), changed]
        quiet = neighbours[~before & ~after]
        expected = np.repeat(space.rows(arch[None]), len(quiet), axis=0)
        np.testing.assert_array_equal(space.rows(quiet), expected)


def test_connected_tells_whether_the_images_bear_on_the_output(case):
    connected = case.space.connected(case.of_class)
    assert connected.dtype == bool
    for arch, expected in zip(case.space.rows(case.of_class), connected, strict=True):
        differ = case.logits(arch, case.images) - case.logits(arch, 1 - case.images)
        assert (jnp.abs(differ).max() > 1e-5) == expected, arch


def test_counted_parameters_are_those_that_the_output_is_computed_from(case):
    # Of a cell that connects nothing the skeleton is counted, though nothing leads through it.
    archs = case.of_class[case.space.connected(case.of_class)][-6:]
    counts = case.space.count(archs, SMALL[case.space.name], classes=3).params
    assert counts.dtype == np.int64
    for row, count in zip(case.space.rows(archs), counts, strict=True):

        def logits(params, row=row):
            variables = case.variables._replace(params=params)
            return case.network.apply(variables, row, case.images).logits

        masks = case.network.active(row)
        used = parameters_used(logits, case.variables.params, masks)
        assert used == count, row


def test_masks_have_as_many_weights_as_are_counted(case):
    """And what they leave out has no part in the output."""
    rows = case.space.rows(case.of_class)
    counts = case.network.count(rows).params
    shapes = jax.tree.map(lambda p: np.ones(p.shape, np.float32), case.variables.params)
    for row, count in zip(rows[-6:], counts[-6:], strict=True):
        masks = case.network.active(row)
        there = jax.tree.map(lambda m, p: np.sum(np.asarray(m) * p), masks, shapes)
        assert sum(jax.tree.leaves(there)) == count, row
        noise = jax.tree.map(lambda m, p: p + 7.0 * (1 - m), masks, case.variables.params)
        noisy = case.variables._replace(params=noise)
        got = case.network.apply(noisy, row, case.images).logits
        clean = case.network.apply(case.variables, row, case.images).logits
        assert_trees_close(got, clean, rtol=1e-4, atol=1e-5)


def test_counted_macs_are_those_of_the_traced_network(case):
    """Channels beyond a chosen width are computed and not counted: there the count is lower."""
    archs = case.of_class[-6:]
    counts = case.space.count(archs, SMALL[case.space.name], classes=3)
    assert counts.macs.dtype == np.int64
    for row, count in zip(case.space.rows(archs), counts.macs, strict=True):
        traced = traced_macs(lambda x, r=row: case.network.apply(case.variables, r, x), case.images)
        count = count * len(case.images)
        assert traced >= count if case.network.elastic else traced == count, row


def test_counts_leave_out_what_does_not_reach_the_output(case):
    size = SMALL[case.space.name]
    pruned = case.space.count(case.space.pruned(case.archs), size, classes=3)
    for got, expected in zip(case.space.count(case.archs, size, classes=3), pruned, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_one_program_serves_all_architectures_and_agrees_with_each_ones_own(case):
    rows = case.space.rows(case.of_class)
    case.logits(rows[0], case.images)
    with compilations() as compiled:
        served = [case.logits(row, case.images) for row in rows[:3]]
    assert compiled == []
    for row, got in zip(rows[:3], served, strict=True):
        assert got.shape == (4, 3)
        assert got.dtype == jnp.float32
        fitted = case.network.specialise(case.variables, row)
        own = jax.jit(lambda x, r=row, v=fitted: case.network.apply(v, r, x).logits)
        assert_trees_close(got, own(case.images), rtol=1e-3, atol=1e-4)


def test_choices_are_switched_and_not_all_computed(case):
    row = case.space.rows(case.of_class)[0]
    program = jax.make_jaxpr(lambda r, x: case.network.apply(case.variables, r, x).logits)
    choosing = any(len(names) > 1 for names in case.network.survey.decisions.values())
    widths_alone = "cond[" not in str(program(row, case.images))
    assert choosing
    assert not widths_alone or case.network.elastic


def test_training_leaves_masked_weights_at_zero(case):
    if not case.network.elastic:
        return
    row = case.space.rows(case.of_class)[0]
    start = case.network.specialise(case.variables, row)

    def loss(params):
        outputs = case.network.apply(
            start._replace(params=params), row, case.images, batch_norm="update"
        )
        return jnp.sum(outputs.logits**2)

    gradient = jax.grad(loss)(start.params)
    masks = case.network.active(row)
    for tree in (start.params, gradient):
        outside = jax.tree.map(
            lambda m, g: jnp.abs((1 - m) * g).max(), widths_only(case, masks), tree
        )
        assert max(map(float, jax.tree.leaves(outside))) == 0.0


def widths_only(case, masks):
    """The masks without branches not taken, whose weights are not zero but wait."""
    return jax.tree.map(lambda m: jnp.where(m.max() > 0, m, 1.0), masks)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_and_other_numbers_of_classes(case, channels):
    network = small_network(case.space, classes=2, image_channels=channels, kind=case.kind)
    variables = jax.eval_shape(network.init, jax.random.key(0))
    images = jax.eval_shape(lambda: images_for(network, 2))
    row = case.space.rows(case.of_class[:1])[0]
    logits = jax.eval_shape(lambda v, x: network.apply(v, row, x).logits, variables, images)
    assert logits.shape == (2, 2)
    assert network.image_channels == channels


@pytest.mark.parametrize("resolution", [9, 14])
def test_odd_sides_are_halved_alike_everywhere(case, resolution):
    network = small_network(case.space, kind=case.kind, resolution=resolution)
    variables = jax.eval_shape(network.init, jax.random.key(0))
    images = jax.eval_shape(lambda: images_for(network, 1))
    row = case.space.rows(case.of_class[:1])[0]

    def logits(variables, images):
        return network.apply(variables, row, images).logits

    count = network.count(row[None]).macs[0]
    traced = traced_macs(logits, variables, images)
    assert traced >= count if network.elastic else traced == count


def test_there_is_something_to_draw_for_every_architecture(case):
    for arch in case.archs:
        graphs = case.space.graphs(arch)
        assert graphs
        assert all(caption and graph.nodes for caption, graph in graphs)


def test_it_is_scored(case):
    """By its own proxies: every member that connects has a finite score, in its place."""
    space = case.space
    archs = case.of_class[:6]
    ranking = jaxnas.rank(
        space,
        np.asarray(images_for(case.network, 16)),
        np.arange(16) % 3,
        size=SMALL[space.name],
        archs=archs,
        batch_size=8,
    )
    connected = space.connected(archs)[ranking["index"]]
    assert np.isfinite(ranking["score"][connected]).all()
    assert ranking["arch"].tolist() == [space.to_string(a) for a in archs[ranking["index"]]]
    assert set(space.default_proxies) < set(ranking.columns)


def test_an_unknown_space_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"Unknown search space 'nasbench-201'.*nasbench201"):
        get_space("nasbench-201")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.such.module:space", "there is no module 'no.such.module'"),
        ("jaxnas.spaces:Spade", "Unknown attribute of jaxnas.spaces 'Spade'"),
        ("jaxnas.spaces:ENUMERABLE", "is a int, expected a jaxnas SearchSpace"),
    ],
)
def test_a_place_that_holds_no_space_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        get_space(name)
