"""Scores without networks: what an evaluation does with them can be checked without computing any."""

import numpy as np
import pandas as pd

from jaxnas.benchmarks.__main__ import main
from jaxnas.search_spaces import get_space

NB201 = get_space("nasbench201")


def accuracy(archs):
    """A made-up accuracy that grows with the convolutions that reach the output, in %."""
    pruned = NB201.pruned(archs)
    gain = 3.0 * (pruned == 3).sum(1) + 1.5 * (pruned == 2).sum(1) + (pruned == 4).sum(1)
    jitter = (np.asarray(archs) @ np.array([7, 13, 29, 5, 11, 3])) % 17 / 10
    return np.where(NB201.connected(archs), 60 + gain + jitter, 10.0)


class Scorer:
    """Stands for `jaxnas.ranking.score_archs`, notes its calls, and may fail at one."""

    def __init__(self, *, fail_at=None, nan_rows=0):
        self.calls, self.fail_at, self.nan_rows = [], fail_at, nan_rows

    def __call__(self, space, archs, images, labels=None, *, proxies, seed, dtype, **rest):
        names = tuple(p.name for p in proxies)
        self.calls.append((names, seed, dtype, len(archs)))
        if self.fail_at == len(self.calls):
            raise KeyboardInterrupt
        return {p.name: self._score(space, archs, p, seed, dtype) for p in proxies}

    def _score(self, space, archs, proxy, seed, dtype):
        scores = accuracy(archs)
        if proxy.name == "params":
            scores = 100.0 * (space.pruned(archs) == 3).sum(1)
        else:
            keys = np.asarray(archs) @ np.array([1, 5, 25, 125, 625, 3125])
            noise = np.random.default_rng(seed).normal(size=15_625)[keys]
            scores = proxy.sign * (scores + (6 if proxy.name == "naswot" else 12) * noise)
        if dtype == "bfloat16":
            scores = np.round(scores)
        scores = np.where(space.connected(archs), scores, -np.inf)
        if proxy.name == "naswot":
            scores[: self.nan_rows] = np.nan
        return scores


def write_csv(path, archs, **columns):
    frame = pd.DataFrame({"arch": [NB201.to_string(a) for a in archs], **columns})
    frame.to_csv(path, index=False)
    return path


def import_table(source, space="nasbench201"):
    out = source.with_suffix(".parquet")
    flags = ["--format", "csv", "--space", space, "-o", str(out), "--force"]
    assert main(["tables", "import", str(source), *flags]) == 0
    return out


def make_table(folder, archs, name="table.csv"):
    """Two targets, of which one has three seeds' deviation, one column that is constant, one empty."""
    values = accuracy(archs)
    other = values[::-1].copy()
    other[:3] = np.nan
    columns = {
        "c10_test": values,
        "c10_test_std": np.full(len(archs), 0.5),
        "c10_nseeds": np.full(len(archs), 3),
        "c100_test": other,
        "flat_test": np.full(len(archs), 50.0),
        "empty_test": np.full(len(archs), np.nan),
    }
    return import_table(write_csv(folder / name, archs, **columns))
