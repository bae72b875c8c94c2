"""What came out: the winner and its figures, before everything else."""

from collections.abc import Sequence

from markupsafe import Markup

from jaxnas.report.formats import MISSING, duration, number, percent, si
from jaxnas.report.measure import is_accuracy, metric_name
from jaxnas.report.model import ReportData
from jaxnas.report.section import Section, fill


def total_seconds(result: dict) -> tuple[float, float]:
    """Seconds of all stages: running, compiling."""
    stages = result.get("seconds", {}).values()
    return sum(s.get("run", 0.0) for s in stages), sum(s.get("compile", 0.0) for s in stages)


def tiles(data: ReportData) -> list[tuple[str, str, str]]:
    """`(what, figure, remark)` of each tile; a figure that the run did not produce has none."""
    result, found = data.result, []
    name, compared = metric_name(data), "what networks were compared by"
    for key, split in (("test_metric", "Test"), ("val_metric", "Validation")):
        if key in result and not is_accuracy(data):
            said = compared if key == "val_metric" else "measured once"
            found.append((f"{split} {name}", percent(result[key]), said))
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


def settings(data: ReportData) -> list[tuple[str, str]]:
    """What stages tune, augment and export left: `(what, value)`."""
    result, found = data.result, []
    if tuned := result.get("tuned"):
        values = (f"{name} {_course(course)}" for name, course in tuned.items() if len(course))
        found.append(("Hyper-parameters taken", ", ".join(values)))
    if "policy" in result:
        found.append(("Augmentation", str(result["policy"])))
    if "export" in result:
        found.append(("Exported to", str(result["export"])))
    return found


def _course(values: Sequence[float]) -> str:
    """A value, or the first and the last of a schedule."""
    first, last = number(values[0], 3), number(values[-1], 3)
    return first if all(v == values[0] for v in values) else f"{first} to {last}"


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
        settings=settings(data),
        facts=facts,
        notes=data.notes,
    )


SECTION = Section("summary", "Summary", _render)
