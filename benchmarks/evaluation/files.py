"""What an evaluation leaves in its directory."""

import json
import re
from typing import Any

import numpy as np
import pandas as pd

from jaxnas.benchmarks.evaluation import plots
from jaxnas.benchmarks.evaluation.findings import Evaluation
from jaxnas.benchmarks.evaluation.report import render
from jaxnas.runs import Run

FILES = (
    "manifest.json",
    "results.csv",
    "by_seed.csv",
    "baselines.csv",
    "correlations.csv",
    "results.json",
    "scores.csv.gz",
    "report.html",
)


def write(run: Run, found: Evaluation) -> None:
    """Write tables, drawings and the page, each whole or not at all."""
    about = {**found.manifest, "command": found.command, "notes": found.notes}
    run.write_text("manifest.json", _json(about))
    tables = {
        "results.csv": found.results,
        "by_seed.csv": found.by_seed,
        "baselines.csv": found.baselines,
        "correlations.csv": found.between.rename_axis("name").reset_index(),
    }
    if len(found.agreement):
        tables["dtypes.csv"] = found.agreement
    for name, table in tables.items():
        run.write_text(name, table.to_csv(index=False))
    run.write_text("results.json", _json({"manifest": about, **_plain_tables(tables)}))
    scores = _scores(found)
    run.write("scores.csv.gz", lambda path: scores.to_csv(path, index=False, compression="gzip"))
    for name, drawing in _drawings(found).items():
        run.write_text(name, plots.alone(drawing))
    run.write_text("report.html", render(found))


def _drawings(found: Evaluation) -> dict[str, Any]:
    target = found.targets[0]
    drawn = {
        f"scores-{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}.svg": plots.scatter(found, target, name)
        for name in found.asked.names
    }
    drawn["correlations.svg"] = plots.matrix(found)
    if (cost := plots.cost(found, target)) is not None:
        drawn["cost.svg"] = cost
    return drawn


def _scores(found: Evaluation) -> pd.DataFrame:
    """One row an architecture: the targets, and the scores by name, dtype and seed."""
    columns: dict[str, Any] = {
        "arch": [found.space.to_string(arch) for arch in found.population.archs]
    }
    columns |= {target.name: target.values for target in found.targets}
    for name, drawn in found.scores.items():
        columns |= {f"{name}:{dtype}:{seed}": v for (dtype, seed), v in drawn.items()}
    return pd.DataFrame(columns)


def _plain_tables(tables: dict[str, pd.DataFrame]) -> dict[str, list[dict[str, Any]]]:
    return {name.removesuffix(".csv"): t.to_dict("records") for name, t in tables.items()}


def _json(value: Any) -> str:
    return json.dumps(_strict(value), indent=2, allow_nan=False) + "\n"


def _strict(value: Any) -> Any:
    """JSON has no NaN: what is not known is null."""
    if isinstance(value, dict):
        return {str(k): _strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
