"""What came out: the winner and its figures, before everything else."""

from markupsafe import Markup

from jaxnas.report.formats import MISSING, duration, number, percent, si
from jaxnas.report.model import ReportData
from jaxnas.report.section import Section, fill


def total_seconds(result: dict) -> tuple[float, float]:
    """Seconds of all stages: running, compiling."""
    stages = result.get("seconds", {}).values()
    return sum(s.get("run", 0.0) for s in stages), sum(s.get("compile", 0.0) for s in stages)


def tiles(data: ReportData) -> list[tuple[str, str, str]]:
    """`(what, figure, remark)` of each tile; a figure that the run did not produce has none."""
    result, found = data.result, []
    if "test_accuracy" in result:
        found.append(("Test accuracy", percent(result["test_accuracy"]), "measured once"))
    if "val_accuracy" in result:
        found.append(("Validation accuracy", percent(result["val_accuracy"]), "of the winner"))
    for key, name in (("params", "Parameters"), ("macs", "Multiply-adds")):
        if key in result:
            remark = number(result[key]) + (" per image" if key == "macs" else "")
            found.append((name, si(result[key]), remark))
    trained = len({run.arch for run in data.trained})
    ranked = f"{trained} of them trained" if trained else "without training"
    found.append(("Architectures ranked", number(len(data.ranking)), ranked))
    run, compiling = total_seconds(result)
    if run + compiling:
        found.append(("Total time", duration(run + compiling), f"{duration(compiling)} to compile"))
    return found


def _render(data: ReportData) -> Markup:
    result = data.result
    trained = "test_accuracy" in result or bool(data.trained)
    facts = [f"{key} {result[key]}" for key in ("device", "seed") if key in result]
    versions = result.get("versions", {})
    facts += [f"{name} {versions[name]}" for name in ("jaxnas", "jax") if name in versions]
    return fill(
        "summary.html",
        arch=result.get("arch", MISSING),
        heading="Winner" if trained else "Ranked first",
        tiles=tiles(data),
        facts=facts,
        notes=data.notes,
    )


SECTION = Section("summary", "Summary", _render)
