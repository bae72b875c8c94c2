"""Graphs of operations, Weisfeiler-Lehman labels and the shape of paths, against cells done by hand."""

import itertools

import jax
import numpy as np
import pytest

from jaxnas.predictor import Candidates
from jaxnas.predictors.dags import Vertex, dag, dags, padded, path_counts, weisfeiler_lehman
from jaxnas.predictors.structure import shape, structure
from jaxnas.search_spaces import get_space
from jaxnas.search_spaces.nasbench201 import NASBench201

DIAMOND = (
    Vertex("input", ()),
    Vertex("conv", (0,)),
    Vertex("pool", (0,)),
    Vertex("conv", (1, 2)),
    Vertex("skip_connect", (0,)),
)
CHAIN = (Vertex("input", ()), Vertex("conv", (0,)), Vertex("conv", (1,)))


def test_a_cell_of_nasbench201_by_hand():
    space = NASBench201()
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
    found = dag(space, space.from_string(text))
    assert [v.label for v in found] == [
        "input",
        "nor_conv_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "nor_conv_1x1",
    ]
    assert [v.before for v in found] == [(), (0,), (0,), (1,), (3,)]


def test_operations_on_vertices_are_vertices():
    space = get_space("nasbench101")
    arch = space.pruned(space.sample(jax.random.key(3), 8))
    for each in arch:
        labels = [v.label for v in dag(space, each)]
        nodes = space.graphs(each)[0][1].nodes
        assert all(labels.count(name) >= nodes.count(name) for name in nodes[:-1])


@pytest.mark.parametrize("name", ["darts", "mobilenet", "resnet", "nasbench_macro", "autoformer"])
def test_other_spaces_have_graphs_in_order(name):
    space = get_space(name)
    pool = Candidates(space, space.pruned(space.sample(jax.random.key(0), 16)))
    for each in dags(pool):
        assert each
        assert all(b < i for i, vertex in enumerate(each) for b in vertex.before)
    assert np.isfinite(structure(pool)).all()


def test_refined_labels_by_hand():
    zero, one, two = (w.toarray() for w in weisfeiler_lehman([DIAMOND, CHAIN], 2))
    # input, conv, pool, skip_connect
    np.testing.assert_array_equal(zero, [[1, 2, 1, 1], [1, 1 + 1, 0, 0]])
    # input; conv of input; pool of input; conv of conv and pool; skip of input; conv of conv
    np.testing.assert_array_equal(one, [[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 1]])
    assert (two[0] @ two[1]) == 2  # what the chain's second conv reads is nowhere in the diamond


def test_refined_labels_do_not_depend_on_the_order_of_what_is_read():
    turned = (*DIAMOND[:1], Vertex("pool", (0,)), Vertex("conv", (0,)), *DIAMOND[3:])
    for counts in weisfeiler_lehman([DIAMOND, turned], 2):
        np.testing.assert_array_equal(*counts.toarray())


def every_path(member) -> list[list[str]]:
    """All paths by walking back from the ends."""
    read = {b for v in member for b in v.before}

    def back(i: int) -> list[list[str]]:
        vertex = member[i]
        if not vertex.before:
            return [[vertex.label]]
        return [[*path, vertex.label] for b in vertex.before for path in back(b)]

    ends = [i for i in range(len(member)) if i not in read]
    return list(itertools.chain.from_iterable(back(i) for i in ends))


@pytest.mark.parametrize("name", ["nasbench201", "darts", "nasbench101"])
def test_shape_and_paths_against_all_paths_written_out(name):
    space = get_space(name)
    archs = space.sample(jax.random.key(1), 200)
    archs = space.pruned(archs[space.connected(archs)])
    members = dags(Candidates(space, archs))
    found, counts = shape(members), path_counts(members)
    ignored = {"skip_connect", "identity", "skip", "concat"}
    names = sorted({v.label for m in members for v in m} - ignored)
    for member, row, counted in zip(members, found, counts, strict=True):
        paths = every_path(member)
        written = [" > ".join(path) for path in paths]
        assert counted == {text: written.count(text) for text in written}
        kept = [[label for label in path[1:] if label not in ignored] for path in paths]
        table = np.array([[path.count(n) for n in names] for path in kept])
        depth = np.array([len(path) for path in kept])
        expected = [*table.max(0), *table.mean(0), depth.max(), depth.mean(), depth.min()]
        np.testing.assert_allclose(row, [*expected, np.log(len(paths))], atol=1e-12)


def test_padding_keeps_labels_and_who_reads_whom():
    found = padded([DIAMOND, CHAIN])
    assert found.labels.shape == (2, 5)
    assert found.vocabulary == 5
    np.testing.assert_array_equal(found.labels[1] > 0, [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(
        np.argwhere(found.reads[0]), [[1, 0], [2, 0], [3, 1], [3, 2], [4, 0]]
    )
    assert found.labels[0, 1] == found.labels[0, 3] == found.labels[1, 2]
