"""report.html of an evaluation: one self-contained page, without scripts."""

import shlex
from collections.abc import Sequence

import numpy as np
import yaml
from markupsafe import Markup

from jaxnas.benchmarks.evaluation import plots
from jaxnas.benchmarks.evaluation.findings import Evaluation
from jaxnas.benchmarks.evaluation.plots import short
from jaxnas.benchmarks.evaluation.population import Target
from jaxnas.benchmarks.evaluation.text import (
    BASELINE_NAMES,
    correlation_rows,
    dtype_rows,
    published_rows,
    seconds_rows,
    top_rows,
)
from jaxnas.report.formats import duration, number
from jaxnas.report.section import figure, figures, fill, paragraph, wide_or_narrow
from jaxnas.report.svg import tag
from jaxnas.report.write import render_page

_RETRAINED = {"ceiling": "trained again, as often", "one_training": "trained again, once"}

type Content = tuple[str, str, Markup]
"""A section: anchor, heading, what stands in it."""


def render(found: Evaluation) -> str:
    """The page as HTML."""
    sections = [_summary(found)]
    sections += [_correlations(found), _tops(found), _scatters(found)]
    sections += [s for s in (_matrix(found), _cost(found), _published(found)) if s is not None]
    sections.append(_protocol(found))
    return render_page(f"Proxies on {found.space.name}", sections)


def _summary(found: Evaluation) -> Content:
    target = found.targets[0]
    best = found.rows_of(target).iloc[0]
    spent = found.seconds
    data = found.manifest["data"]
    tiles = [
        ("Architectures", number(len(found.population)), f"subset {found.manifest['subset']}"),
        (f"Best Spearman with {target.name}", short(best["spearman"]), str(best["name"])),
        *_ceiling_tile(found, target),
        (
            "Draws",
            number(len(found.manifest["seeds"])),
            f"of weights and {found.manifest['batch_size']} of {data['images']:,} images",
        ),
        (
            "Scoring",
            duration(spent["run"] + spent["compile"]),
            f"{duration(spent['compile'])} to compile",
        ),
    ]
    facts = [f"{data['name']}, training images only", str(found.manifest["device"])]
    facts += [f"{k} {found.manifest['versions'][k]}" for k in ("jaxnas", "jax")]
    names = ", ".join(t.name for t in found.targets)
    content = fill(
        "summary.html",
        notes=found.notes,
        heading=f"How well training-free scores rank {found.space.name} by {names}",
        arch=", ".join(found.asked.names),
        facts=facts,
        tiles=tiles,
    )
    return "summary", "Summary", content


def _ceiling_tile(found: Evaluation, target: Target) -> list[tuple[str, str, str]]:
    rows = found.baselines_of(target)
    rows = rows[rows["name"].isin(list(_RETRAINED))]
    if not len(rows):
        return []
    row = rows.iloc[0]
    return [
        (
            "Noise ceiling",
            short(row["spearman"]),
            _RETRAINED[str(row["name"])],
        )
    ]


def _correlations(found: Evaluation) -> Content:
    parts = [
        paragraph(
            "Mean over seeds, ± the standard deviation over seeds; in brackets the bootstrap's 95 % "
            "interval of that mean over architectures. The top tenth is that by the target. The noise "
            "ceiling is what the same trainings done again would reach, one more training what one of "
            "them would."
        )
    ]
    for target in found.targets:
        parts.append(_title(target))
        parts.append(html_table(*correlation_rows(found, target)))
    return "correlation", "Rank correlation", Markup("").join(parts)


def _tops(found: Evaluation) -> Content:
    parts = [
        paragraph(
            "Precision: the share of the proxy's top k that is in the target's top k. Best: the best "
            "target in the proxy's top k. Regret: what that is short of the best of all. Ties at the "
            "border of a top k count with their expected value."
        )
    ]
    for target in found.targets:
        parts.append(_title(target))
        parts.append(html_table(*top_rows(found, target)))
    return "top", "The top of the ranking", Markup("").join(parts)


def _scatters(found: Evaluation) -> Content:
    target = found.targets[0]
    values = target.values[~np.isnan(target.values)]
    said = f"First seed, {found.manifest['dtypes'][0]}."
    if len(values) > plots.MANY:
        said += " The stronger the shade, the more architectures."
    if below := int((values < plots.lowest(values)).sum()):
        said += f" The worst {below:,} are drawn at the bottom."
    drawn = [figure(plots.scatter(found, target, name)) for name in found.asked.names]
    lead = paragraph(said)
    return "scores", f"Score against {target.name}", lead + figures(*drawn)


def _matrix(found: Evaluation) -> Content | None:
    lead = paragraph("Spearman's correlation of scores with each other, mean over seeds.")
    parts = [lead, _scrolled(figure(plots.matrix(found)), "Heat map")]
    if len(found.agreement):
        parts.append(tag("h3", f"Between {' and '.join(found.manifest['dtypes'])}"))
        parts.append(html_table(*dtype_rows(found)))
    return "agreement", "What agrees with what", Markup("").join(parts)


def _cost(found: Evaluation) -> Content | None:
    target = found.targets[0]
    wide, narrow = (plots.cost(found, target, width=w) for w in (1080, 540))
    if wide is None or narrow is None:
        return None
    lead = paragraph(
        f"Each alone on {found.manifest['timed']} architectures, the faster of two calls after the "
        "first; over a whole space the shared-prefix executor is faster. Lines are 95 % intervals."
    )
    table = html_table(*seconds_rows(found))
    return "cost", "Correlation against cost", lead + figure(wide_or_narrow(wide, narrow)) + table


def _published(found: Evaluation) -> Content | None:
    columns, rows = published_rows(found)
    if not rows:
        return None
    lead = paragraph("Published figures are of other draws and of the benchmark's own network.")
    return "published", "Beside published figures", lead + html_table(columns, rows)


def _protocol(found: Evaluation) -> Content:
    content = fill(
        "config.html",
        command=bool(found.command),
        words=map(shlex.quote, shlex.split(found.command)),
        config=yaml.safe_dump(found.manifest, sort_keys=False, width=1000),
        facts={
            "device": found.manifest["device"],
            "network": _size(found),
            "table": found.manifest["table"]["file"],
            "table, SHA-256": found.manifest["table"]["sha256"],
            "data": found.manifest["data"]["name"],
            **found.manifest["versions"],
        },
    )
    return "protocol", "Protocol", content


def _size(found: Evaluation) -> str:
    size = found.manifest["size"]
    cells = ",".join(map(str, size["cells"]))
    return f"{size['channels']} channels, cells {cells}, {size['resolution']} pixels"


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A table whose first column is a name; rows of baselines are set apart."""
    head = [
        tag("th", c, scope="col", **({} if i else {"class_": "name"}))
        for i, c in enumerate(columns)
    ]
    body = []
    for row in rows:
        cells = [tag("td", row[0], class_="name"), *(tag("td", cell) for cell in row[1:])]
        kind = {"class_": "baseline"} if row[0] in BASELINE_NAMES.values() else {}
        body.append(tag("tr", *cells, **kind))
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    return _scrolled(table, "Table")


def _scrolled(content: Markup, label: str) -> Markup:
    return tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=label)


def _title(target: Target) -> Markup:
    return tag("h3", f"{target.name}, {target.measured:,} architectures")
