"""The page: its sections in order, and writing it."""

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from markupsafe import Markup

from jaxnas.report import (
    section_augmentation,
    section_cell,
    section_config,
    section_confusion,
    section_cost,
    section_curves,
    section_decisions,
    section_front,
    section_mistakes,
    section_ranking,
    section_summary,
    section_super_net,
    section_table,
    section_time,
    section_tuning,
)
from jaxnas.report.model import ReportData
from jaxnas.report.section import Section, fill

SECTIONS: tuple[Section, ...] = (
    section_summary.SECTION,
    section_cell.SECTION,
    section_ranking.SECTION,
    section_decisions.SECTION,
    section_curves.SECTION,
    section_super_net.SECTION,
    section_cost.SECTION,
    section_front.SECTION,
    section_tuning.SECTION,
    section_augmentation.SECTION,
    section_confusion.SECTION,
    section_mistakes.SECTION,
    section_table.SECTION,
    section_time.SECTION,
    section_config.SECTION,
)
"""The sections in the page's order. A new one is its file and a line here."""


def render_report(data: ReportData) -> str:
    """The page as HTML: one file without scripts that asks nothing of any other."""
    rendered = [(s.id, s.heading(data), s.render(data)) for s in SECTIONS]
    return render_page(data.title, [(i, h, c) for i, h, c in rendered if c is not None])


def render_page(title: str, sections: Sequence[tuple[str, str, Markup]]) -> str:
    """A page of sections, each `(anchor, heading, content)`."""
    return str(fill("page.html", title=title, css=Markup(style()), sections=sections))


def style() -> str:
    """The style sheet of pages and drawings."""
    return resources.files("jaxnas.report").joinpath("style.css").read_text(encoding="utf-8")


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
