"""The pool of a simulation: architectures of a table, what they cost, and their label-free ranking."""

import json
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from jaxnas.benchmarks.strategies.folder import put
from jaxnas.benchmarks.tables import Table
from jaxnas.benchmarks.tables.columns import Column
from jaxnas.benchmarks.tables.tabular import TabularSpace
from jaxnas.errors import InputError
from jaxnas.predictor import Candidates
from jaxnas.proxies import PROXIES
from jaxnas.spaces import SearchSpace

FILE, ABOUT = "ranking.parquet", "ranking.json"
NO_RANKING = "none"
"""In place of a ranking's file: there shall be none."""
MILLION = "M"
"""The unit of columns of parameters that are in millions."""


@dataclass(frozen=True)
class Ranking:
    """Scores of the pool by proxy, the ranking's own, and the seconds that they took."""

    scores: dict[str, np.ndarray]
    prior: np.ndarray
    seconds: float
    source: str


@dataclass(frozen=True)
class Costs:
    """What each member costs, `float64[N, C]`: parameters, multiply-adds; C is how many are known."""

    values: np.ndarray
    source: str


def costs(
    space: SearchSpace, archs: np.ndarray, table: Table, target: Column, places: np.ndarray
) -> Costs:
    """Parameters and multiply-adds of the networks at the official size.

    Of a space without networks the parameters that the table has at `places`, those for the target's data
    set where there are several columns; nothing where it has none. Who lacks them has the median.
    """
    if not isinstance(space, TabularSpace):
        counts = space.count(archs, space.official_size, classes=10)
        both = np.stack([counts.params, counts.macs], axis=1).astype(float)
        return Costs(both, "the networks at the official size")
    every = [c for c in table.columns.values() if c.metric == "params" and c.statistic == "value"]
    own = [c for c in every if c.dataset == target.dataset]
    column = own[0] if len(own) == 1 else every[0] if len(every) == 1 else None
    found = np.full(0, np.nan) if column is None else table.values(column.name)[places]
    if column is None or not np.isfinite(found).any():
        return Costs(np.zeros((len(archs), 0)), "unknown")
    found = np.where(np.isfinite(found), found, np.nanmedian(found))
    values = found * (1e6 if column.unit == MILLION else 1)
    return Costs(values[:, None], f"the column {column.name} of {table.path.name}")


def pool(
    space: SearchSpace, archs: np.ndarray, ranking: Ranking | None, known: Costs
) -> Candidates:
    """Candidates with the scores of the ranking and, where it is known, `params`."""
    scores = dict(ranking.scores) if ranking else {}
    if known.values.shape[1]:
        scores["params"] = known.values[:, 0]
    return Candidates(space, archs, scores, ranking.prior if ranking else None)


def used(
    known: Costs, objectives: int, limits: tuple[float, ...] | None, space: SearchSpace
) -> np.ndarray | None:
    """The costs that searches are told, `float64[N, C]`; None: nothing.

    Raises:
        InputError: a limit of something that is not known.
    """
    there = known.values.shape[1]
    if limits is not None and len(limits) > there:
        raise InputError(
            f"{space.name} has no networks to count and its table "
            f"{'only parameters' if there else 'no parameters'}; leave out --max-"
            f"{'macs' if there else 'params and --max-macs'}."
        )
    return known.values[:, :objectives] if there and objectives else None


def label_free(
    space: SearchSpace,
    archs: np.ndarray,
    known: Costs | None,
    *,
    data: str | None,
    file: str | None,
    seconds: float | None,
    folder: Path,
) -> Ranking | None:
    """The ranking of these architectures: of a file, of an earlier command in the directory, or made now.

    Of a space without networks it is the number of parameters, largest first; None where that is not
    known either.

    Args:
        space: of the architectures.
        archs: `int32[N, D]`.
        known: what they cost, of a space without networks; not read for others.
        data: what `--data` names, whose training images are scored on.
        file: a `ranking.parquet`, as `jaxnas.search` and this leave it; `none`: there is no ranking.
        seconds: what the ranking took, where the file does not say.
        folder: where a ranking made now is kept.

    Raises:
        InputError: neither images nor a file, images for a space without networks, or a file that lacks
            some of the architectures.
    """
    import pandas as pd

    if file == NO_RANKING:
        return None
    if isinstance(space, TabularSpace) and file is None:
        return _largest_first(space, data, known)
    kept = folder / FILE
    if file is None and not kept.is_file():
        if data is None:
            raise InputError(
                "These strategies need a label-free ranking: give images to rank on by --data, or a "
                "ranking.parquet by --ranking."
            )
        _make(space, archs, data, folder)
    path = Path(file) if file is not None else kept
    if not path.is_file():
        raise InputError(f"There is no ranking {path}.")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no Parquet file, or a damaged one.") from error
    about = path.with_suffix(".json")
    said = json.loads(about.read_text()) if about.is_file() else {}
    took = seconds if seconds is not None else float(said.get("seconds", 0.0))
    return _aligned(space, archs, table, took, str(path))


def _largest_first(space: TabularSpace, data: str | None, known: Costs | None) -> Ranking | None:
    if data is not None:
        raise InputError(
            f"--data is {data}, but {space.name} has no networks to rank on images; leave it out."
        )
    if known is None or not known.values.shape[1]:
        return None
    params = known.values[:, 0]
    return Ranking({"params": params}, params, 0.0, f"{known.source}, largest first")


def _make(space: SearchSpace, archs: np.ndarray, data: str, folder: Path) -> None:
    import jax

    from jaxnas.benchmarks.evaluation.images import training_images
    from jaxnas.ranking import rank

    images = training_images(data)
    start = perf_counter()
    table = rank(space, images.x, images.y, proxies="default", archs=archs)
    took = perf_counter() - start
    about = {"seconds": took, "data": images.name, "device": jax.devices()[0].device_kind}
    put(folder / FILE, lambda path: table.to_parquet(path, index=False))
    put(folder / ABOUT, json.dumps(about, indent=2) + "\n")


def _aligned(
    space: SearchSpace, archs: np.ndarray, table: Any, seconds: float, source: str
) -> Ranking:
    """The table's rows in the order of the architectures."""
    for column in ("arch", "score"):
        if column not in table:
            raise InputError(f"{source} has no column {column!r}: it is no ranking of jaxnas.")
    place = {text: i for i, text in enumerate(table["arch"])}
    texts = [space.to_string(arch) for arch in archs]
    rows = np.array([place.get(text, -1) for text in texts])
    if (absent := rows < 0).any():
        first = texts[int(np.flatnonzero(absent)[0])]
        raise InputError(
            f"{source} lacks {absent.sum():,} of {len(rows):,} architectures, as {first}."
        )
    scores = {
        name: _sign(name) * table[name].to_numpy(float)[rows]
        for name in table.columns
        if name in PROXIES
    }
    return Ranking(scores, table["score"].to_numpy(float)[rows], seconds, source)


def _sign(name: str) -> int:
    from jaxnas.proxies import get_proxies

    return get_proxies([name])[0].sign
