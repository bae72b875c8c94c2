"""What a super-net's training reported, epoch by epoch: losses, and whether it collapses to skips."""

from collections.abc import Sequence

from markupsafe import Markup

from jaxnas.report.formats import share
from jaxnas.report.model import ReportData
from jaxnas.report.section import Section, figure, figures, paragraph
from jaxnas.report.svg import Frame, axis, polyline, tag


def _render(data: ReportData) -> Markup | None:
    drawn = {name: values for name, values in data.curves.items() if values}
    if not drawn:
        return None
    about = paragraph(
        "One set of weights for all architectures; each line is a figure of its training."
    )
    return about + figures(*(figure(_chart(name, values)) for name, values in drawn.items()))


def _chart(name: str, values: Sequence[float]) -> Markup:
    epochs = [float(e) for e in range(1, len(values) + 1)]
    is_share = name.startswith("share")
    frame = Frame(
        axis("epoch", epochs, write="{:g}".format, integer=True, margin=0.02, n=8),
        axis(
            name,
            [*values, *([0.0, 1.0] if is_share else [])],
            write=share if is_share else "{:g}".format,
        ),
    )
    path = polyline([frame.at(e, v) for e, v in zip(epochs, values, strict=True)])
    dots = [
        tag(
            "circle",
            tag("title", f"epoch {e:g}: {v:.4g}"),
            cx=x,
            cy=y,
            r=3.5,
            class_="mark candidate",
        )
        for e, v in zip(epochs, values, strict=True)
        for x, y in [frame.at(e, v)]
    ]
    line = tag("path", d=path, class_="curve candidate")
    return frame.draw(line + Markup("").join(dots), f"{name} by epoch")


SECTION = Section("super-net", "The super-net", _render)
