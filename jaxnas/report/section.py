"""What a section of the report is, and the pieces that several sections share."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jaxnas.report import formats
from jaxnas.report.model import ReportData
from jaxnas.report.svg import tag


@dataclass(frozen=True)
class Section:
    """A section: its anchor, its heading, and what it says of a run (None: nothing, left out).

    `untrained` is the heading for a run that trained nothing, where it is another.
    """

    id: str
    title: str
    render: Callable[[ReportData], Markup | None]
    untrained: str = ""

    def heading(self, data: ReportData) -> str:
        """What stands above it in this run's report."""
        return self.title if data.trained else self.untrained or self.title


@functools.cache
def _templates() -> Environment:
    loader = PackageLoader("jaxnas.report", ".")
    templates = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    writers = (formats.si, formats.percent, formats.duration, formats.number, formats.architecture)
    templates.filters.update({writer.__name__: writer for writer in writers})
    return templates


def fill(template: str, **values: object) -> Markup:
    """A template of this folder, filled; every value is escaped unless it is `Markup`."""
    return Markup(_templates().get_template(template).render(**values))


def paragraph(text: str) -> Markup:
    """A `<p>`."""
    return tag("p", text)


def figure(drawing: Markup, *, legend: Markup | str = "", caption: str = "") -> Markup:
    """A `<figure>` with its legend above and its caption below."""
    below = (tag("figcaption", caption),) if caption else ()
    return tag("figure", legend, drawing, *below)


def wide_or_narrow(wide: Markup, narrow: Markup) -> Markup:
    """Two drawings of the same, of which CSS shows the one that fits the page."""
    return tag("div", wide, class_="wide") + tag("div", narrow, class_="narrow")


def figures(*drawn: Markup) -> Markup:
    """Figures beside each other where the page is wide enough."""
    return tag("div", *drawn, class_="figures")
