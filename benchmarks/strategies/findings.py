"""What a simulation found."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Findings:
    """Tables, and the sentences and facts that belong to them.

    Args:
        results: a row a strategy, best report value first: `strategy`, then mean and standard deviation
            over runs of the target and the report column of the last incumbent, of queries and seconds
            spent, the best possible, and the published figure where there is one.
        ranking: a row a strategy, of `significance.rank_table` by the report column.
        queries: a row a strategy and number of queries.
        seconds: a row a strategy and number of seconds; None where seconds are unknown.
        final: the last incumbents, rows of the pool `int[R]` by strategy.
        values: the columns by name, `float64[N]`.
        archs: the pool, `int32[N, D]`.
        manifest: the protocol.
        notes: sentences on what is odd.
    """

    results: pd.DataFrame
    ranking: pd.DataFrame
    queries: pd.DataFrame
    seconds: pd.DataFrame | None
    final: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    archs: np.ndarray
    manifest: dict[str, Any]
    notes: list[str]

    @property
    def target(self) -> str:
        """The column that strategies were told."""
        return self.manifest["target"]

    @property
    def report(self) -> str:
        """The column that is reported of their incumbents."""
        return self.manifest["report"]
