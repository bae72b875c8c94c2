"""What a benchmark of predictors leaves in its directory."""

import json
from typing import Any

import pandas as pd

from jaxnas.benchmarks.evaluation.plots import alone
from jaxnas.benchmarks.predictors import plots
from jaxnas.benchmarks.predictors.run import Found
from jaxnas.runs import Run

FILES = ("results.csv", "cells.csv", "results.json", "kendall.svg", "coverage.svg")


def write(run: Run, found: Found) -> None:
    """Write the tables and the drawings, each whole or not at all."""
    run.write_text("results.csv", found.results.to_csv(index=False))
    run.write_text("cells.csv", found.cells.to_csv(index=False))
    about = {"manifest": found.manifest, "notes": list(found.notes)}
    tables = {"results": _records(found.results), "cells": _records(found.cells)}
    run.write_text("results.json", json.dumps({**about, **tables}, indent=2) + "\n")
    run.write_text("kendall.svg", alone(plots.kendall(found)))
    run.write_text("coverage.svg", alone(plots.coverage(found)))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: what is not known is null."""
    return json.loads(str(table.to_json(orient="records", double_precision=15)))
