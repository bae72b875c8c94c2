"""What an evaluation found; all that is printed, written and drawn is made of it."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from jaxnas.benchmarks.evaluation.asked import Asked
from jaxnas.benchmarks.evaluation.population import Population, Target
from jaxnas.benchmarks.evaluation.results import Promising
from jaxnas.spaces import SearchSpace


@dataclass
class Evaluation:
    """The manifest, the scores and the tables made of them.

    Attributes:
        manifest: the protocol as plain JSON.
        scores: by name, and by dtype and seed: `float64[N]`, higher is better.
        results: one row a target, name and dtype.
        by_seed: one row a target, name, dtype and seed.
        baselines: one row a target and ranking that is no proxy's.
        between: Spearman's rho of names and targets with each other.
        agreement: one row a name and dtype but the first.
        seconds: of all scoring, `{"run": ..., "compile": ...}`.
        command: that which made it.
        notes: sentences on what is odd.
    """

    manifest: dict[str, Any]
    space: SearchSpace
    asked: Asked
    population: Population
    targets: tuple[Target, ...]
    scores: Promising
    results: pd.DataFrame
    by_seed: pd.DataFrame
    baselines: pd.DataFrame
    between: pd.DataFrame
    agreement: pd.DataFrame
    seconds: dict[str, float]
    command: str = ""
    notes: list[str] = field(default_factory=list)

    def rows_of(self, target: Target) -> Any:
        """The rows of `results` of one target, best first (a DataFrame)."""
        rows = self.results.loc[self.results["target"] == target.name]
        return rows.sort_values(by="spearman", ascending=False, kind="stable")

    def baselines_of(self, target: Target) -> Any:
        """The rows of `baselines` of one target (a DataFrame)."""
        return self.baselines.loc[self.baselines["target"] == target.name]
