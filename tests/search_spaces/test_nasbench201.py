"""NAS-Bench-201 against the authors' tables, its own definitions written slowly, and itself run."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close, tied
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from jaxnas.errors import InputError
from jaxnas.search_spaces.nasbench201 import EDGES, NONE, OPS, NASBench201, official_unique_string
from jaxnas.spaces import Size

SPACE = NASBench201()
ARCHS = SPACE.all()
VALID = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"

cells = st.integers(0, len(ARCHS) - 1)


def reachable(arch):
    """Edges that lie on a path from node 0 to node 3 along operations other than none."""
    found = set()
    for path in [(0, 3), (0, 1, 3), (0, 2, 3), (0, 1, 2, 3)]:
        edges = [EDGES.index(step) for step in itertools.pairwise(path)]
        if all(arch[e] != NONE for e in edges):
            found.update(edges)
    return [e in found for e in range(6)]


class TestStrings:
    def test_all_print_in_official_order(self, accuracies):
        assert [SPACE.to_string(a) for a in ARCHS] == accuracies.arch_str.tolist()
        assert accuracies["index"].tolist() == list(range(15_625))

    def test_all_parse(self, accuracies):
        parsed = np.stack([SPACE.from_string(s) for s in accuracies.arch_str])
        np.testing.assert_array_equal(parsed, ARCHS)

    def test_space_around_a_string_does_not_matter(self):
        np.testing.assert_array_equal(SPACE.from_string(f" {VALID}\n"), SPACE.from_string(VALID))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", ["has 1 nodes", "expected 3", "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"]),
            (VALID + "+|none~0|", ["has 4 nodes", "expected 3"]),
            (VALID.removeprefix("|"), ["node 1", "between bars"]),
            (VALID.removesuffix("|"), ["node 3", "between bars"]),
            ("|+" * 2 + "|", ["node 1", "('|')", "between bars"]),
            (VALID.replace("|none~0", ""), ["node 2", "1 edges, expected 2"]),
            (VALID.replace("|none~2", "|none~2|none~3"), ["node 3", "4 edges, expected 3"]),
            (VALID.replace("none~0", "none~1"), ["node 2", "'none~1'", "'~0'"]),
            (VALID.replace("none~2", "none2"), ["node 3", "'none2'", "'~2'"]),
            (VALID.replace("none~2", "none~2~2"), ["node 3", "'none~2~2'", "'~2'"]),
            (VALID.replace("none~2", "none~²"), ["node 3", "'none~²'", "'~2'"]),
            (VALID.replace("conv_3x3", "conv_3x"), ["node 1", "'nor_conv_3x'", "nor_conv_3x3"]),
            (VALID.replace("none~2", "NONE~2"), ["node 3", "'NONE'", "near: none"]),
            (VALID.replace("none~2", "~2"), ["node 3", "''", *OPS]),
        ],
    )
    def test_a_malformed_one_is_refused_where_it_goes_wrong(self, text, said):
        with pytest.raises(InputError) as caught:
            SPACE.from_string(text)
        message = str(caught.value)
        assert all(part in message for part in [repr(text), *said]), message

    tokens = st.sampled_from([*OPS, "|", "~", "+", "0", "1", "2", "~0|", "none~1|", " ", "é", ""])

    @settings(max_examples=300)
    @given(st.one_of(st.text(), st.lists(tokens, max_size=25).map("".join)))
    def test_any_text_parses_or_is_refused(self, text):
        try:
            arch = SPACE.from_string(text)
        except InputError:
            return
        assert SPACE.to_string(arch) == text.strip()

    @settings(max_examples=300)
    @given(cells, st.integers(0, 90), st.integers(0, 3), st.text(max_size=3))
    def test_a_valid_string_spoilt_somewhere_parses_or_is_refused(self, cell, at, drop, put):
        valid = SPACE.to_string(ARCHS[cell])
        text = valid[:at] + put + valid[at + drop :]
        try:
            arch = SPACE.from_string(text)
        except InputError:
            return
        assert SPACE.to_string(arch) == text.strip()


class TestRows:
    @pytest.mark.parametrize(
        "rows",
        [
            np.zeros(6, np.int32),
            np.zeros((2, 5), np.int32),
            np.full((1, 6), 5),
            np.array([[0, 0, 0, 0, 0, -1]]),
        ],
    )
    @pytest.mark.parametrize("method", ["index", "canonical"])
    def test_others_are_refused(self, method, rows):
        with pytest.raises(InputError, match="six integers 0 to 4"):
            getattr(SPACE, method)(rows)

    def test_no_rows_are_fine(self):
        none = np.zeros((0, 6), np.int32)
        assert SPACE.index(none).shape == (0,)
        assert SPACE.canonical(none).shape == SPACE.active_decisions(none).shape == (0, 6)

    def test_active_decisions_are_those_on_a_path(self):
        expected = np.array([reachable(a) for a in ARCHS])
        np.testing.assert_array_equal(SPACE.active_decisions(ARCHS), expected)
        np.testing.assert_array_equal(SPACE.connected(ARCHS), expected.any(1))

    def test_the_published_cells_are_those_without_unreachable_operations(self, published):
        spare = (ARCHS != NONE) & ~SPACE.active_decisions(ARCHS)
        assert sorted(published["index"]) == np.flatnonzero(~spare.any(1)).tolist()

    def test_the_drawn_cell_has_the_active_edges_alive(self):
        for arch, active in zip(ARCHS[:300], SPACE.active_decisions(ARCHS[:300]), strict=True):
            ((_, graph),) = SPACE.graphs(arch)
            if active.any():
                assert graph.live_edges() == tuple(active)


class TestSizes:
    def counted(self, published):
        network = SPACE.network(SPACE.official_size, classes=10)
        return network.count(ARCHS[published["index"]])

    def test_parameters_match_the_published(self, published):
        millions = self.counted(published).params / 1e6
        np.testing.assert_allclose(millions, published.c10_params, rtol=0, atol=5e-9)

    def test_macs_match_the_published_flops(self, published):
        # fvcore counts batch norm and pooling beside the multiply-adds: ../shared/data/README.md.
        archs = ARCHS[published["index"]]
        convolutions = np.isin(archs, [2, 3]).sum(1)
        pools = (archs == 4).sum(1)
        flops = self.counted(published).macs + 430_080 * convolutions + 1_290_240 * pools + 160_832
        np.testing.assert_allclose(flops / 1e6, published.c10_flops, rtol=1e-7)

    def test_the_best_cells(self):
        counts = SPACE.network(SPACE.official_size, classes=10).count(ARCHS[[6111]])
        assert counts.params.tolist() == [1_073_466]
        assert counts.macs.tolist() == [153_272_960]


def unique_string(string):
    """The authors' recursion, over the printed string: one term an edge, `#` for what is zero."""
    value = ["0"]
    for node in string.split("+"):
        terms = []
        for edge in node.strip("|").split("|"):
            op, source = edge.split("~")
            inner = value[int(source)]
            if op == "none" or inner == "#":
                terms.append("#")
            else:
                terms.append(inner if op == "skip_connect" else f"({inner})@{op}")
        value.append("+".join(sorted(terms)))
    return value[-1]


class TestEquivalence:
    def test_the_authors_unique_strings_make_6466_classes(self):
        strings = [official_unique_string(a) for a in ARCHS]
        assert len(set(strings)) == 6466
        assert strings == [unique_string(SPACE.to_string(a)) for a in ARCHS]

    def test_canonical_makes_4660_classes_of_whole_official_ones(self):
        classes = SPACE.index(SPACE.canonical(ARCHS))
        assert len(set(classes.tolist())) == 4660
        strings = [official_unique_string(a) for a in ARCHS]
        assert len(set(zip(strings, classes.tolist(), strict=True))) == 6466

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ((3, 0, 0, 0, 1, 0), (0, 0, 0, 3, 0, 0), True),  # a skip after a convolution
            ((2, 0, 0, 0, 3, 0), (0, 2, 0, 0, 0, 3), True),  # through node 1 or node 2
            ((0, 0, 3, 1, 0, 2), (0, 0, 0, 1, 0, 0), True),  # operations on nothing
            ((1, 1, 1, 0, 0, 4), (4, 4, 1, 0, 0, 1), True),  # pooling is linear: p(x + x)
            ((0, 1, 0, 1, 0, 1), (0, 0, 0, 1, 0, 0), False),  # x + x is not x
            ((4, 0, 0, 0, 3, 0), (3, 0, 0, 0, 4, 0), False),  # pooling and convolution
            ((1, 1, 1, 0, 0, 3), (3, 3, 1, 0, 0, 1), False),  # conv(x + x)
        ],
    )
    def test_by_example(self, one, other, same):
        rows = SPACE.canonical(np.array([one, other]))
        assert (rows[0] == rows[1]).all() == same

    def test_cells_of_one_form_and_as_many_convolutions_are_scored_once(self):
        rows = SPACE.scored(ARCHS)
        assert len(np.unique(rows, axis=0)) == 5022
        # A convolution before a skip is one after it; twice the same one is not two.
        before, after = [3, 0, 0, 0, 0, 0], [0, 0, 0, 3, 0, 0]
        alike = np.array([[3, 0, 0, 0, 1, 0], [1, 0, 0, 0, 3, 0], after, before], np.int32)
        scored = SPACE.scored(alike)
        np.testing.assert_array_equal(scored[0], scored[1])
        np.testing.assert_array_equal(scored[0], scored[2])
        assert (scored[3] != scored[2]).any()
        twice = np.array([[3, 0, 1, 0, 1, 1], [3, 3, 0, 0, 1, 1]], np.int32)
        assert (SPACE.scored(twice)[0] != SPACE.scored(twice)[1]).any()

    def test_the_representative_has_the_fewest_parameters_of_its_class(self):
        network = SPACE.network(SPACE.official_size, classes=10)
        params = network.count(ARCHS).params
        classes = SPACE.index(SPACE.canonical(ARCHS))
        fewest = np.full(len(ARCHS), np.iinfo(np.int64).max)
        np.minimum.at(fewest, classes, params)
        np.testing.assert_array_equal(params[classes], fewest[classes])


def by_operation(keys):
    """A parameter's name without the edge that it is on."""
    at = keys.index("edges") + 1 if "edges" in keys else len(keys)
    return keys[:at] + keys[at + 1 :]


def runner(cells, *, noise=0.0, batch_norm="batch"):
    """`archs -> logits [N, B * classes]` of a small network with weights tied by operation."""
    network = SPACE.network(Size(channels=4, cells=cells, resolution=8), classes=10)
    variables = network.init(jax.random.key(0))
    variables = variables._replace(params=tied(variables.params, by_operation, noise=noise))
    images = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 8, 3)), jnp.float32)

    def one(arch):
        return network.apply(variables, arch, images, batch_norm=batch_norm).logits.reshape(-1)

    return jax.jit(lambda archs: jax.lax.map(one, archs))


@pytest.fixture(scope="module")
def two_cells():
    return runner((1, 1))


CLASSES = SPACE.index(SPACE.canonical(ARCHS))
_, SIZES = np.unique(CLASSES, return_counts=True)
SHARED = np.split(np.argsort(CLASSES, kind="stable"), np.cumsum(SIZES)[:-1])


class TestEquivalenceByRunning:
    @settings(max_examples=60)
    @given(st.sampled_from([c for c in SHARED if len(c) > 1]), st.data())
    def test_equal_canonical_rows_give_equal_logits(self, two_cells, members, data):
        pair = data.draw(
            st.lists(st.sampled_from(list(members)), min_size=2, max_size=2, unique=True)
        )
        one, other = np.asarray(two_cells(ARCHS[pair]))
        assert_trees_close(one, other, rtol=1e-3, atol=1e-3 * np.abs(one).max())

    def test_functions_are_equal_exactly_where_canonical_rows_are(self):
        # All 15,625 cells with arbitrary batch norm: with the batch's statistics x and x + x would
        # come out alike, so running averages; zero stays zero without what is unreachable.
        run = runner((1,), noise=0.3, batch_norm="running")
        logits = np.asarray(run(SPACE.pruned(ARCHS)))
        assert_trees_close(logits, logits[CLASSES], rtol=1e-5, atol=1e-5)
        distinct = logits[np.unique(CLASSES)]
        nearest = KDTree(distinct).query(distinct, k=2)[0][:, 1]
        assert nearest.min() > 1e-3
