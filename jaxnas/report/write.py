"""The page: its sections in order, and writing it."""

import os
from importlib import resources
from pathlib import Path

from markupsafe import Markup

from jaxnas.report import (
    section_cell,
    section_config,
    section_cost,
    section_curves,
    section_ranking,
    section_summary,
    section_table,
    section_time,
)
from jaxnas.report.model import ReportData
from jaxnas.report.section import Section, fill

SECTIONS: tuple[Section, ...] = (
    section_summary.SECTION,
    section_cell.SECTION,
    section_ranking.SECTION,
    section_curves.SECTION,
    section_cost.SECTION,
    section_table.SECTION,
    section_time.SECTION,
    section_config.SECTION,
)
"""The sections in the page's order. A new one is its file and a line here."""


def render_report(data: ReportData) -> str:
    """The page as HTML: one file without scripts that asks nothing of any other."""
    rendered = [(section, section.render(data)) for section in SECTIONS]
    css = resources.files("jaxnas.report").joinpath("style.css").read_text(encoding="utf-8")
    shown = [(section, content) for section, content in rendered if content is not None]
    return str(fill("page.html", data=data, css=Markup(css), sections=shown))


def write_report(path: Path, data: ReportData) -> None:
    """Write the page to `path`, whole or not at all: beside it first, then renamed over it.

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    path = Path(path)
    page = render_report(data)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
