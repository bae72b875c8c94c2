"""The report of a run: one self-contained HTML page, without scripts.

Each section is a file `section_*.py` that turns `ReportData` into a fragment of HTML, and stands in
`jaxnas.report.write.SECTIONS`.
"""

from jaxnas.graph import CellGraph
from jaxnas.report.dag import draw_graph_svg
from jaxnas.report.model import (
    DEVIATION,
    Augmented,
    ComparedPolicy,
    Decision,
    Judged,
    ReportData,
    TrainedCandidate,
    TunedMember,
    score_columns,
)
from jaxnas.report.write import render_report, write_report

__all__ = [
    "DEVIATION",
    "Augmented",
    "CellGraph",
    "ComparedPolicy",
    "Decision",
    "Judged",
    "ReportData",
    "TrainedCandidate",
    "TunedMember",
    "draw_graph_svg",
    "render_report",
    "score_columns",
    "write_report",
]
