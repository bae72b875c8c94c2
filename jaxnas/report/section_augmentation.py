"""The ways to augment images that were compared, and what the chosen one makes of some of them."""

import math
from dataclasses import dataclass

from markupsafe import Markup

from jaxnas.report.formats import percent, share
from jaxnas.report.measure import metric_name
from jaxnas.report.model import Augmented, ComparedPolicy, ReportData
from jaxnas.report.pictures import LARGEST, levels, picture
from jaxnas.report.section import Section, figure, fill, wide_or_narrow
from jaxnas.report.svg import Frame, axis, polyline, tag

_COLOURS = 6
"""Lines of their own colour; those that follow are drawn with dashes."""


@dataclass(frozen=True)
class Row:
    """One policy: its metric after the last epoch, by which one is chosen, and its best."""

    name: str
    chosen: bool
    last: str
    best: str


def rows(data: ReportData) -> list[Row]:
    """The policies, the best after the last epoch first; those that diverged last."""
    return [
        Row(
            p.name,
            p.chosen,
            percent(p.val_metric[-1] if p.val_metric else None),
            percent(max(filter(math.isfinite, p.val_metric), default=None)),
        )
        for p in sorted(data.policies, key=lambda p: (-_last(p), not p.chosen))
    ]


def _last(policy: ComparedPolicy) -> float:
    value = policy.val_metric[-1] if policy.val_metric else math.nan
    return value if math.isfinite(value) else -math.inf


def _render(data: ReportData) -> Markup | None:
    if not data.policies and data.augmented is None:
        return None
    parts = [_compared(data)] if data.policies else []
    parts += [_examples(data.augmented)] if data.augmented is not None else []
    return Markup("").join(parts)


def _compared(data: ReportData) -> Markup:
    epochs = max(len(p.val_metric) for p in data.policies)
    said = (
        f"{len(data.policies)} ways to augment training images, each tried on a copy of the winner from "
        f"the same weights for {epochs} epoch{'s' * (epochs != 1)}; what counts is the validation "
        f"{metric_name(data)} after the last one."
    )
    drawn = Markup("")
    if epochs > 1:
        wide, narrow = (_chart(data, width=w, n=n) for w, n in ((1080, 12), (540, 6)))
        drawn = figure(wide_or_narrow(wide, narrow), legend=_legend(data))
    table = fill("augmentation.html", metric=metric_name(data), epochs=epochs, rows=rows(data))
    return tag("p", said, class_="lead") + drawn + table


def _classes(data: ReportData) -> dict[str, str]:
    """How each policy's line looks: the chosen one as winners do, others by colour, then by dashes."""
    others = [p.name for p in data.policies if not p.chosen]
    dashes = ["", " dashed", " dotted"]
    looks = {
        name: f"series-{k % _COLOURS}{dashes[k // _COLOURS % 3]}" for k, name in enumerate(others)
    }
    return {p.name: "winner" if p.chosen else looks[p.name] for p in data.policies}


def _chart(data: ReportData, *, width: int, n: int) -> Markup:
    looks = _classes(data)
    epochs = max(len(p.val_metric) for p in data.policies)
    values = [v for p in data.policies for v in p.val_metric]
    frame = Frame(
        axis("epoch", [1.0, float(epochs)], write="{:g}".format, integer=True, margin=0.02, n=n),
        axis(f"validation {metric_name(data)}", values, write=share),
        width=width,
    )
    lines = []
    for p in sorted(data.policies, key=lambda p: p.chosen):
        path = polyline([frame.at(float(e), v) for e, v in enumerate(p.val_metric, 1)])
        title = tag("title", f"{p.name}: {percent(_last(p))}")
        thick = tag("path", d=path, class_="hover")
        lines.append(tag("g", title, tag("path", d=path, class_=f"curve {looks[p.name]}"), thick))
    return frame.draw(Markup("").join(lines), f"{len(data.policies)} policies by epoch")


def _legend(data: ReportData) -> Markup:
    size = {"viewBox": "0 0 28 18", "width": 28, "height": 18, "aria_hidden": "true"}
    looks = _classes(data)
    items = [
        tag("li", tag("svg", tag("path", d="M1 9H27", class_=f"curve {look}"), **size), name)
        for name, look in looks.items()
    ]
    return tag("ul", *items, class_="legend")


def _examples(shown: Augmented) -> Markup:
    """Each image and what became of it, in a line."""
    n, draws = shown.made.shape[:2]
    originals = levels(shown.images)
    made = levels(shown.made.reshape(n * draws, *shown.made.shape[2:])).reshape(
        n, draws, *originals.shape[1:]
    )
    lines = []
    for i in range(n):
        drawn = [picture(m, f"draw {j} of image {i + 1}") for j, m in enumerate(made[i], 1)]
        first = picture(originals[i], f"image {i + 1} as it is")
        lines.append(tag("div", first, tag("span", class_="rule"), *drawn, class_="draws"))
    text = f"Training images, each followed by {draws} draws of {shown.policy}."
    if max(originals.shape[1:3]) > LARGEST:
        text += f" They are shown at {LARGEST} pixels."
    return (
        tag("h3", "What it does to images")
        + tag("p", text, class_="lead")
        + tag("div", *lines, class_="examples", style=f"--columns:{draws}")
    )


SECTION = Section("augmentation", "Augmentation", _render)
