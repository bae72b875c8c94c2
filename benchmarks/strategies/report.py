"""report.html of simulated searches: one self-contained page, without scripts."""

import shlex

import yaml
from markupsafe import Markup

from jaxnas.benchmarks.evaluation.report import html_table
from jaxnas.benchmarks.strategies import plots, text
from jaxnas.benchmarks.strategies.findings import Findings
from jaxnas.report.formats import duration, number
from jaxnas.report.section import figure, fill, paragraph
from jaxnas.report.write import render_page

type Content = tuple[str, str, Markup]
"""A section: anchor, heading, what stands in it."""


def render(found: Findings) -> str:
    """The page as HTML."""
    sections = [_summary(found), _results(found), *_curves(found)]
    columns, rows = text.published_rows(found)
    if rows:
        sections.append(("published", "Beside published figures", html_table(columns, rows)))
    return render_page(f"Searches of {found.manifest['space']}", [*sections, _protocol(found)])


def drawings(found: Findings) -> dict[str, Markup]:
    """The regret curves by file name."""
    drawn = {}
    for column in dict.fromkeys((found.target, found.report)):
        best = float(found.results[f"{column}_best"].iloc[0])
        drawn[f"regret-queries-{column}.svg"] = plots.regret(
            found.queries, "queries", column, best, column
        )
        if found.seconds is not None:
            drawn[f"regret-seconds-{column}.svg"] = plots.regret(
                found.seconds, "seconds", column, best, column
            )
    return drawn


def _summary(found: Findings) -> Content:
    about, best = found.manifest, found.results.iloc[0]
    spent = sum(each["run"] for each in about["took"].values())
    tiles = [
        ("Architectures", number(about["architectures"]), about["table"]),
        (f"Best {found.report}", f"{best[f'{found.report}_mean']:.2f}", str(best["strategy"])),
        ("Budget", number(about["budget"]), "full trainings a search"),
        ("Searches", number(about["runs"]), "of each strategy"),
        ("Simulating", duration(spent), "all searches, compiling apart"),
    ]
    content = fill(
        "summary.html",
        notes=found.notes,
        heading=f"Searches of {about['space']} by {found.target}",
        arch=", ".join(about["strategies"]),
        facts=[str(about["device"])],
        tiles=tiles,
    )
    return "summary", "Summary", content


def _results(found: Findings) -> Content:
    said = (
        f"Mean ± standard deviation over {found.manifest['runs']:,} searches of what was told "
        f"({found.target}) and of {found.report} of the last incumbent: the best by fitness of those "
        "trained at the highest fidelity."
    )
    ranks = (
        f"Ranks of {found.report} among the strategies' runs of one number; Wilcoxon's signed-rank test, "
        "two-sided, corrected by Holm."
    )
    parts = [paragraph(said), html_table(*text.result_rows(found))]
    parts += [paragraph(f"Mean {found.target} of the incumbent by queries:")]
    parts += [html_table(*text.milestone_rows(found))]
    parts += [paragraph(ranks), html_table(*text.rank_rows(found))]
    return "results", "At the end of the budget", Markup("").join(parts)


def _curves(found: Findings) -> list[Content]:
    lead = paragraph(
        "Regret: the best of the table less the incumbent's value; lines are means, bands the middle "
        f"half of the searches, and what is below {plots.FLOOR:g} is drawn there."
    )
    drawn = Markup("").join(figure(each) for each in drawings(found).values())
    return [("curves", "Regret", lead + drawn)]


def _protocol(found: Findings) -> Content:
    content = fill(
        "config.html",
        command=bool(found.manifest["command"]),
        words=map(shlex.quote, shlex.split(found.manifest["command"])),
        config=yaml.safe_dump(found.manifest, sort_keys=False, width=1000),
        facts={"device": found.manifest["device"], **found.manifest["versions"]},
    )
    return "protocol", "Protocol", content
