"""What a simulation leaves in its directory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxnas.benchmarks.evaluation.plots import alone
from jaxnas.benchmarks.strategies.findings import Findings
from jaxnas.benchmarks.strategies.folder import put
from jaxnas.benchmarks.strategies.report import drawings, render
from jaxnas.spaces import SearchSpace


def write(folder: Path, found: Findings, space: SearchSpace) -> None:
    """Write tables, drawings and the page."""
    tables = {
        "results.csv": found.results,
        "ranks.csv": found.ranking,
        "queries.csv": found.queries,
        "runs.csv": _runs(found, space),
    }
    if found.seconds is not None:
        tables["seconds.csv"] = found.seconds
    for name, table in tables.items():
        put(folder / name, table.to_csv(index=False))
    about = {**found.manifest, "notes": found.notes}
    kept = {k: tables[f"{k}.csv"].to_dict("records") for k in ("results", "ranks")}
    put(folder / "manifest.json", _json(about))
    put(folder / "results.json", _json({"manifest": about, **kept}))
    for name, drawing in drawings(found).items():
        put(folder / name, alone(drawing))
    put(folder / "report.html", render(found))


def _runs(found: Findings, space: SearchSpace) -> pd.DataFrame:
    """One row a search: what it ended with."""
    parts = []
    for name, rows in found.final.items():
        known = rows >= 0
        archs = {int(row): space.to_string(found.archs[row]) for row in np.unique(rows[known])}
        part: dict[str, Any] = {"strategy": name, "run": np.arange(len(rows))}
        part["arch"] = [archs.get(int(row), "") for row in rows]
        for column, values in found.values.items():
            part[column] = np.where(known, values[rows], np.nan)
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


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
