"""Graphs, axes and numbers of the report."""

import itertools
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnas.errors import InputError
from jaxnas.report import CellGraph, draw_graph_svg
from jaxnas.report.dag import operation_colours
from jaxnas.report.formats import architecture, duration, number, percent, si
from jaxnas.report.svg import axis, nice_ticks, polyline, tag

OPERATIONS = ("none", "skip_connect", "nor_conv_3x3", "max_pool_3x3", "a")


@st.composite
def graphs(draw) -> CellGraph:
    n = draw(st.integers(2, 7))
    pairs = list(itertools.combinations(range(n), 2))
    edge = st.tuples(st.sampled_from(pairs), st.sampled_from(OPERATIONS))
    edges = draw(st.lists(edge, max_size=14))
    return CellGraph(tuple(f"node {k}" for k in range(n)), tuple((*p, op) for p, op in edges))


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """x, y, width and height of the nodes' and labels' rectangles."""
    pattern = r'<rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"'
    found = [tuple(map(float, box)) for box in re.findall(pattern, svg)]
    assert len(found) == svg.count("<rect")
    return found  # type: ignore[return-value]


@settings(max_examples=60, deadline=None)
@given(graphs(), st.booleans())
def test_no_label_or_node_overlaps_another(graph, vertical):
    svg = draw_graph_svg(graph, vertical=vertical)
    for (x, y, w, h), (u, v, s, t) in itertools.combinations(boxes(svg), 2):
        assert x + w <= u + 0.2 or u + s <= x + 0.2 or y + h <= v + 0.2 or v + t <= y + 0.2


@settings(max_examples=30, deadline=None)
@given(graphs(), st.booleans())
def test_every_edge_is_drawn_but_absent_ones(graph, vertical):
    svg = draw_graph_svg(graph, vertical=vertical)
    drawn = [op for *_, op in graph.edges if op != "none"]
    assert svg.count('class="edge-label"') == len(drawn)
    assert svg.count('class="node"') == len(graph.nodes)
    width, height = map(float, re.findall(r'viewBox="0 0 (\S+) (\S+)"', svg)[0])
    for x, y, w, h in boxes(svg):
        assert x >= -0.1
        assert y >= -0.1
        assert x + w <= width
        assert y + h <= height


def cell(*operations: str) -> CellGraph:
    edges = itertools.combinations(range(len(operations) - 1), 2)
    return CellGraph(("in", "mid", "out"), tuple((*e, o) for e, o in zip(edges, operations)))  # noqa: B905


def test_nodes_run_from_left_to_right():
    svg = draw_graph_svg(cell("a", "b", "c", "c"))
    lefts = [float(x) for x in re.findall(r'<rect x="(\S+)"[^>]*class="node"', svg)]
    assert lefts == sorted(lefts)
    assert len(set(lefts)) == 3


def test_live_edges():
    graph = CellGraph(
        ("in", "1", "2", "out"),
        ((0, 1, "none"), (1, 3, "a"), (0, 2, "b"), (2, 3, "c"), (1, 2, "a"), (0, 3, "none")),
    )
    assert graph.live_edges() == (False, False, True, True, False, False)
    svg = draw_graph_svg(graph)
    assert svg.count("on no path") == 2
    cut = CellGraph(("in", "1", "out"), ((0, 1, "a"), (1, 2, "none"), (0, 2, "zero")))
    assert cut.live_edges() == (False, False, False)


def test_multi_edges_have_a_label_each():
    svg = draw_graph_svg(CellGraph(("in", "out"), ((0, 1, "a"), (0, 1, "b"), (0, 1, "a"))))
    assert len(set(boxes(svg))) == 5


@pytest.mark.parametrize("edge", [(1, 0, "a"), (0, 0, "a"), (0, 2, "a"), (-1, 1, "a")])
def test_backward_edge_is_refused(edge):
    with pytest.raises(InputError, match="must run from a node to a later one"):
        CellGraph(("in", "out"), (edge,))


def test_colours_are_stable_and_distinct():
    few = operation_colours(["nor_conv_3x3"])
    more = operation_colours(["skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool"])
    assert "none" not in more
    assert len(set(more.values())) == 4
    assert (
        few["nor_conv_3x3"] == operation_colours(["nor_conv_3x3", "skip_connect"])["nor_conv_3x3"]
    )
    assert "pass" in more["skip_connect"]
    assert len(set(operation_colours(f"op{k}" for k in range(8)).values())) == 8


@given(
    st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 10), st.booleans()
)  # fmt: skip
def test_ticks(low, span, n, integer):
    high = low + span
    if high == low:
        return
    ticks = nice_ticks(low, high, n, integer=integer)
    assert len(ticks) <= n + 1
    margin = 1e-6 * max(abs(low), abs(high), 1.0)
    assert all(low - margin <= t <= high + margin for t in ticks)
    assert ticks == sorted(set(ticks))
    assert not integer or all(t == round(t) for t in ticks)


def test_ticks_by_hand():
    assert nice_ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert nice_ticks(-0.3, 12.2, 5) == [0, 2.5, 5, 7.5, 10]
    assert nice_ticks(0.6, 3.4, 8, integer=True) == [1, 2, 3]


@pytest.mark.parametrize("values", [[], [math.nan], [3.0], [0.0, 0.0], [-math.inf, 2.0], [1e-30]])
def test_axis_of_degenerate_values(values):
    found = axis("x", values, write=str)
    assert found.low < found.high
    assert found.ticks
    assert all(0 <= found.place(v) <= 1 for v in values if math.isfinite(v))


def test_polyline_breaks_where_a_value_is_missing():
    assert polyline([(0, 1), (1, 2), (2, math.nan), (3, 4)]) == "M0.0 1.0L1.0 2.0M3.0 4.0"


def test_tag_escapes():
    made = tag("a", "<b>", class_='"x"', data_y=1.25)
    assert made == '<a class="&#34;x&#34;" data-y="1.2">&lt;b&gt;</a>'


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (si(1_073_466), "1.07 M"),
        (si(153_270_000), "153 M"),
        (si(999_950), "1 M"),
        (si(12), "12"),
        (si(math.nan), "NaN"),
        (percent(0.98333), "98.33 %"),
        (percent(None), "–"),
        (percent(math.nan), "–"),
        (duration(0.04), "0.0 s"),
        (duration(59.96), "1 min 0 s"),
        (duration(192.3), "3 min 12 s"),
        (duration(3_725), "1 h 2 min"),
        (number(-math.inf), "−∞"),
        (number(math.nan), "NaN"),
        (number(15_625), "15,625"),
        (number(-2.19722), "−2.1972"),
    ],
)
def test_numbers(written, expected):
    assert written.replace("\xa0", " ") == expected


@pytest.mark.parametrize("arch", ["|a~0|+|b~0|c~1|", "0120", "a<b,c:d", "++", "", 7])
def test_architecture_keeps_its_text(arch):
    import html

    assert html.unescape(re.sub("</?(span|wbr)[^>]*>", "", architecture(arch))) == str(arch)
