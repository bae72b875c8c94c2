"""A cell drawn as a graph, in SVG."""

import math
import zlib
from collections.abc import Iterable, Sequence
from itertools import pairwise

from markupsafe import Markup

from jaxnas.graph import NO_OPERATION, CellGraph
from jaxnas.report.layout import Layout, Slot, lay_out
from jaxnas.report.svg import tag

_CHARACTER = 7.0  # width of one in the 11.5 px monospace font of the labels
_COLOURS = ("#2f6fb0", "#1f8a70", "#b8690f", "#8d55a3", "#b8473f", "#6b7f1c", "#3c8ea6", "#a3487b")
_NEUTRAL = "#7d858c"
_PASSING = ("skip", "identity", "concat")
_TEXT = "font: 11.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
_PAD = 10.0
_LEGEND_ROW = 24.0


def operation_colours(operations: Iterable[str]) -> dict[str, str]:
    """A CSS colour for each operation: neutral for those that pass their input on.

    A name keeps its colour from one graph to the next unless another of `operations` took it
    first. Each is a variable of the page (`--op-0`, ...) with a fallback that reads on white and on
    black; after eight the colours repeat.
    """
    colours: dict[str, str] = {}
    free: list[int] = []
    for name in sorted(set(operations) - NO_OPERATION):
        if name.lower().startswith(_PASSING):
            colours[name] = f"var(--op-pass, {_NEUTRAL})"
            continue
        free = free or list(range(len(_COLOURS)))
        start = zlib.crc32(name.encode()) % len(_COLOURS)
        k = min(free, key=lambda k: (k - start) % len(_COLOURS))
        free.remove(k)
        colours[name] = f"var(--op-{k}, {_COLOURS[k]})"
    return colours


def draw_graph_svg(
    graph: CellGraph, *, vertical: bool = False, operations: Iterable[str] = ()
) -> str:
    """Draw a cell as a complete `<svg>` element.

    Nodes stand in columns from left to right by their longest path from an input, each edge
    carries its operation's name, and a legend gives the operations' colours. Absent edges are
    left out; edges that do not lie on a path from an input to an output are dashed and faint.

    Args:
        graph: what to draw.
        vertical: from top to bottom instead, for narrow pages.
        operations: all that share the colours, where several graphs are drawn beside each other.
    """
    drawn = [k for k, edge in enumerate(graph.edges) if edge[2] not in NO_OPERATION]
    used = sorted({graph.edges[k][2] for k in drawn})
    colours = operation_colours([*operations, *used])
    live = graph.live_edges()

    def size(text: str, height: float, pad: float) -> tuple[float, float]:
        width = _CHARACTER * len(text) + pad
        return (height, width) if vertical else (width, height)

    layout = lay_out(
        [edge[:2] for edge in graph.edges],
        [(*graph.edges[k][:2], size(graph.edges[k][2], 22.0, 16.0)) for k in drawn],
        [size(label, 32.0, 26.0) for label in graph.nodes],
        column_gap=28.0,
        slot_gap=16.0,
    )
    edges = [(graph.edges[k][2], live[k]) for k in drawn]
    body = _body(graph, layout, edges, colours, vertical)
    return str(_canvas(body, layout, [(name, colours[name]) for name in used], vertical))


def _body(
    graph: CellGraph,
    layout: Layout,
    edges: Sequence[tuple[str, bool]],
    colours: dict[str, str],
    vertical: bool,
) -> Markup:
    routes = list(zip(edges, layout.routes, strict=True))
    touched = {id(end) for (_, live), route in routes if live for end in (route[0], route[-1])}
    lines = [_line(colours[name], live, route, vertical) for (name, live), route in routes]
    labels = [_label(name, colours[name], live, route, vertical) for (name, live), route in routes]
    nodes = [
        _node(label, slot, id(slot) in touched, vertical)
        for label, slot in zip(graph.nodes, layout.nodes, strict=True)
    ]
    return Markup("").join([*lines, *nodes, *labels])


def _canvas(
    body: Markup, layout: Layout, legend: Sequence[tuple[str, str]], vertical: bool
) -> Markup:
    width, height = layout.size[::-1] if vertical else layout.size
    width = max(width, *(_legend_width(name) for name, _ in legend), 1.0)
    key, key_height = _legend(legend, width)
    shift = (width - (layout.size[1] if vertical else layout.size[0])) / 2
    total_width, total_height = width + 2 * _PAD, height + key_height + 2 * _PAD
    return tag(
        "svg",
        tag("g", body, transform=f"translate({_PAD + shift:.1f} {_PAD})"),
        tag("g", key, transform=f"translate({_PAD} {_PAD + height + 30:.1f})"),
        xmlns="http://www.w3.org/2000/svg",
        class_="cell",
        viewBox=f"0 0 {total_width:.0f} {total_height:.0f}",
        width=round(total_width),
        height=round(total_height),
        style=_TEXT,
        role="img",
        aria_label="A cell as a graph: its nodes, and the operation on each edge",
    )


def _point(slot: Slot, vertical: bool) -> tuple[float, float]:
    return (slot.across, slot.along) if vertical else (slot.along, slot.across)


def _line(colour: str, live: bool, route: Sequence[Slot], vertical: bool) -> Markup:
    """A smooth curve through the slots' centres that ends in an arrow at the last one's border."""
    end = route[-1].along - route[-1].size[0] / 2 - 1
    stops = [
        (route[0].along + route[0].size[0] / 2, route[0].across),
        *((slot.along, slot.across) for slot in route[1:-1]),
        (end - 8, route[-1].across),
    ]
    x, y = (route[-1].across, end) if vertical else (end, route[-1].across)
    head = f"M{x:.1f} {y:.1f}l-4.5 -9h9Z" if vertical else f"M{x:.1f} {y:.1f}l-9 -4.5v9Z"
    faint = {} if live else {"stroke_dasharray": "3 4"}
    return tag(
        "g",
        tag("path", d=_curve(stops, vertical), fill="none", stroke=colour, stroke_width=2, **faint),
        tag("path", d=head, fill=colour),
        opacity=1 if live else 0.45,
    )


def _curve(stops: Sequence[tuple[float, float]], vertical: bool) -> str:
    """Path data of the monotone cubic through `stops` (along, across), level at both ends.

    Slopes are harmonic means of the neighbouring secants (Fritsch and Butland 1984), so that a
    curve never leaves the band between two stops, where it could run into a label.
    """
    secants = [(after[1] - before[1]) / (after[0] - before[0]) for before, after in pairwise(stops)]
    inner = [2 * a * b / (a + b) if a * b > 0 else 0.0 for a, b in pairwise(secants)]
    slopes = [0.0, *inner, 0.0]

    def write(along: float, across: float) -> str:
        return f"{across:.1f} {along:.1f} " if vertical else f"{along:.1f} {across:.1f} "

    path = "M" + write(*stops[0])
    for k, ((x, y), (u, v)) in enumerate(pairwise(stops)):
        third = (u - x) / 3
        path += "C" + write(x + third, y + slopes[k] * third)
        path += write(u - third, v - slopes[k + 1] * third) + write(u, v)
    return path


def _label(name: str, colour: str, live: bool, route: Sequence[Slot], vertical: bool) -> Markup:
    slot = next(slot for slot in route if slot.kind == "label")
    x, y = _point(slot, vertical)
    width, height = slot.size[::-1] if vertical else slot.size
    note = name if live else f"{name}: on no path from an input to an output"
    return tag(
        "g",
        tag("title", note),
        tag(
            "rect",
            x=x - width / 2,
            y=y - height / 2,
            width=width,
            height=height,
            rx=height / 2,
            class_="edge-label",
            fill="var(--card, #fff)",
            stroke=colour,
            stroke_opacity=1 if live else 0.45,
            **({} if live else {"stroke_dasharray": "3 4"}),
        ),
        tag("text", name, x=x, y=y + 4, text_anchor="middle", fill=colour),
    )


def _node(label: str, slot: Slot, touched: bool, vertical: bool) -> Markup:
    x, y = _point(slot, vertical)
    width, height = slot.size[::-1] if vertical else slot.size
    box = tag(
        "rect",
        x=x - width / 2,
        y=y - height / 2,
        width=width,
        height=height,
        rx=7,
        class_="node",
        fill="var(--node, #e9edf1)",
        stroke="var(--node-line, #b9c2ca)",
    )
    text = tag(
        "text", label, x=x, y=y + 4, text_anchor="middle", fill="var(--ink, #1c2126)",
        font_weight=600,
    )  # fmt: skip
    return tag("g", box, text, opacity=1 if touched else 0.4)


def _legend_width(name: str) -> float:
    return 24 + _CHARACTER * len(name) + 18


def _legend(entries: Sequence[tuple[str, str]], width: float) -> tuple[Markup, float]:
    """A row (or several) of swatches and names, and its height."""
    x, row, parts = 0.0, 0, []
    for name, colour in entries:
        if x and x + _legend_width(name) > width:
            x, row = 0.0, row + 1
        y = row * _LEGEND_ROW
        parts.append(tag("path", d=f"M{x:.1f} {y:.1f}h18", stroke=colour, stroke_width=3))
        parts.append(tag("text", name, x=x + 24, y=y + 4, fill="var(--muted, #667079)"))
        x += _legend_width(name)
    height = 30 + row * _LEGEND_ROW + 8 if entries else 0.0
    return Markup("").join(parts), math.ceil(height)
