"""The winner's cells, drawn."""

from markupsafe import Markup

from jaxnas.report.dag import draw_graph_svg
from jaxnas.report.model import ReportData
from jaxnas.report.section import Section, figure, wide_or_narrow
from jaxnas.report.svg import tag


def _render(data: ReportData) -> Markup | None:
    if not data.graphs:
        return None
    operations = {operation for _, graph in data.graphs for *_, operation in graph.edges}
    drawn = []
    for caption, graph in data.graphs:
        wide, narrow = (
            Markup(draw_graph_svg(graph, vertical=vertical, operations=operations))
            for vertical in (False, True)
        )
        drawn.append(figure(wide_or_narrow(wide, narrow), caption=caption))
    return tag("div", *drawn, class_="cells")


SECTION = Section("cell", "The winner's cell", _render, untrained="The cell ranked first")
