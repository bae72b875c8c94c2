"""Where the time went: each stage's seconds, compilation apart."""

from markupsafe import Markup

from jaxnas.report.model import ReportData
from jaxnas.report.section import Section, fill


def _render(data: ReportData) -> Markup | None:
    seconds = data.result.get("seconds", {})
    work = data.result.get("multiply_adds", {})
    stages = [
        (stage, parts.get("run", 0.0), parts.get("compile", 0.0), work.get(stage))
        for stage, parts in seconds.items()
    ]
    longest = max((run + compiling for _, run, compiling, _ in stages), default=0.0)
    return fill("time.html", stages=stages, longest=longest) if longest else None


SECTION = Section("time", "Seconds by stage", _render)
