"""Rankings that are no proxy's: chance, and the benchmark's own noise."""

import numpy as np
import pandas as pd

from jaxnas.benchmarks.evaluation.ceiling import deviations, draws
from jaxnas.benchmarks.evaluation.population import Population, Target
from jaxnas.benchmarks.evaluation.results import Measured, statistics
from jaxnas.benchmarks.tables import Table


def baselines(table: Table, population: Population, targets: tuple[Target, ...]) -> pd.DataFrame:
    """One row a target and baseline: the mean over draws, and the deviation `NAME_std` where drawn.

    `random` is exact: all architectures tie, and what is in the top is expected. `ceiling` and
    `one_training` are those of `ceiling`, where the table says how far seeds scatter.
    """
    rows = []
    for target in targets:
        measured = Measured.of(target)
        chance = statistics(np.zeros(len(measured.values)), measured)
        known = {k: 0.0 if np.isnan(v) else v for k, v in chance.items()}
        rows.append({"target": target.name, "name": "random", **known})
        noise = deviations(table, target.column, population.places)
        if noise is None:
            continue
        sigma, seeds = (each[measured.there] for each in noise)
        kinds = {"ceiling": seeds, "one_training": np.ones_like(seeds)}
        if (seeds == 1).all():
            del kinds["ceiling"]
        for name, trainings in kinds.items():
            each = pd.DataFrame(
                [statistics(s, measured) for s in draws(measured.values, sigma, trainings)]
            )
            about = {"target": target.name, "name": name}
            rows.append({**about, **each.mean(), **each.std(ddof=1).add_suffix("_std")})
    return pd.DataFrame(rows)
