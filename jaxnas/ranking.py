"""Ranking every architecture of a space without training any."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxnas.data.checks import check_images, check_labels
from jaxnas.data.dataset import channel_statistics
from jaxnas.data.resize import resize
from jaxnas.errors import InputError, unknown
from jaxnas.network import Network
from jaxnas.proxies import DEFAULT, get_proxies
from jaxnas.proxy import Batch, GradientProxy, Proxy
from jaxnas.scoring.combine import COMBINATIONS
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.scoring.shared_prefix import score_shared_prefix
from jaxnas.search_spaces import get_space
from jaxnas.spaces import SearchSpace, Size

Scores = dict[str, np.ndarray]


@dataclass
class Progress:
    """Where a ranking reports to, and what an interrupted one had finished.

    `finished` holds the scores of the first rows in the order of `Scoring.rows`; `chunk(scores)` is
    called with those of the next rows as they come.
    """

    finished: Scores = field(default_factory=dict)
    chunk: Callable[[Scores], None] = lambda scores: None


@dataclass(frozen=True)
class Scoring:
    """What there is to score: a population, and the distinct rows that need computing.

    `rows[inverse[i]]` is what architecture i is scored as: unreachable operations removed.
    """

    archs: np.ndarray
    rows: np.ndarray
    inverse: np.ndarray
    connected: np.ndarray

    @classmethod
    def of(cls, space: SearchSpace, archs: np.ndarray) -> "Scoring":
        """The distinct pruned rows of `archs` that connect input and output."""
        connected = space.connected(archs)
        rows, inverse = np.unique(space.pruned(archs), axis=0, return_inverse=True)
        return cls(archs, rows, inverse.reshape(-1), connected)


def rank(
    space: str | SearchSpace,
    images: Any,
    labels: Any = None,
    *,
    proxies: str | Sequence[str] = DEFAULT,
    combine: str = "log_rank",
    seed: int = 0,
    batch_size: int = 32,
    size: Size | None = None,
    executor: str = "auto",
) -> pd.DataFrame:
    """Rank all architectures of a space on images, without training.

    Args:
        space: a space or its name.
        images: `[n, H, W, C]` or `[n, H, W]`, uint8 or float; standardised per channel here.
        labels: integers `[n]`; only some proxies need them.
        proxies: names of training-free scores, as a list or separated by commas.
        combine: how several become one, `log_rank` or `rank_mean`.
        seed: of the initial weights and of which images are used.
        batch_size: how many images are used.
        size: how large the scored networks are; default `space.proxy_size`, its resolution no larger
            than the images'.
        executor: `shared_prefix`, `per_architecture`, or `auto`: the first where it serves.

    Returns:
        One row an architecture, best first: `index`, `arch`, a column a proxy, `score` (higher is
        better) and `rank` (1 is best, ties share the lower number). `attrs["nan"]` counts each
        proxy's numerical failures, which rank last.

    Raises:
        InputError: for anything given that cannot be used.
    """
    space = get_space(space) if isinstance(space, str) else space
    proxies = proxies.split(",") if isinstance(proxies, str) else proxies
    chosen = get_proxies(proxies)
    x = check_images(images, "images")
    y = None if labels is None else check_labels(labels, "labels", images=len(x))
    size = size or fit_size(space.proxy_size, min(x.shape[1:3]))
    mean, std = channel_statistics(x)
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    picked = pick_batch(len(x), batch_size, seed)
    inputs = resize(x[picked].astype(np.float32), size.resolution, size.resolution)
    batch = make_batch((inputs / scale - mean) / std, None if y is None else y[picked])
    classes = 10 if y is None else int(y.max()) + 1
    network = space.network(size, classes=classes, image_channels=x.shape[3])
    return rank_batch(space, network, batch, chosen, combine=combine, seed=seed, executor=executor)


def rank_batch(
    space: SearchSpace,
    network: Network,
    batch: Batch,
    proxies: Sequence[Proxy],
    *,
    combine: str = "log_rank",
    seed: int = 0,
    executor: str = "auto",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """`rank` for a network and a prepared batch."""
    if combine not in COMBINATIONS:
        raise unknown("combination", combine, COMBINATIONS)
    _check_labels(proxies, batch)
    scoring = Scoring.of(space, space.all())
    scores = score_rows(
        network, batch, scoring.rows, proxies, seed=seed, executor=executor, progress=progress
    )
    full = {}
    for proxy in proxies:
        full[proxy.name] = np.where(scoring.connected, scores[proxy.name][scoring.inverse], -np.inf)
    return _table(space, scoring, proxies, full, combine)


def score_rows(
    network: Network,
    batch: Batch,
    rows: np.ndarray,
    proxies: Sequence[Proxy],
    *,
    seed: int,
    executor: str = "auto",
    progress: Progress | None = None,
) -> Scores:
    """Each proxy's score of each row, by the executor named, going on from `progress.finished`."""
    progress = progress or Progress()
    variables = network.init(jax.random.key(seed))
    forward_only = not any(isinstance(p, GradientProxy) for p in proxies)
    if executor == "shared_prefix" and not forward_only:
        needy = ", ".join(p.name for p in proxies if isinstance(p, GradientProxy))
        raise InputError(f"The shared_prefix executor has no gradients, which {needy} needs.")
    executors = {
        "shared_prefix": score_shared_prefix,
        "per_architecture": score_per_architecture,
        "auto": score_shared_prefix if forward_only else score_per_architecture,
    }
    if executor not in executors:
        raise unknown("executor", executor, executors)
    score = executors[executor]
    start = len(next(iter(progress.finished.values()), ()))
    new = score(network, variables, rows[start:], batch, proxies, chunk=progress.chunk)
    before = progress.finished or {p.name: np.zeros(0, np.float32) for p in proxies}
    return {name: np.concatenate([before[name], values]) for name, values in new.items()}


def fit_size(size: Size, resolution: int) -> Size:
    """`size` with images no larger than they are."""
    return replace(size, resolution=min(size.resolution, resolution))


def pick_batch(n: int, batch_size: int, seed: int) -> np.ndarray:
    """Which `batch_size` of `n` images are used, without repetition."""
    if batch_size < 2:
        raise InputError(f"The batch size is {batch_size}, expected at least 2.")
    if seed < 0:
        raise InputError(f"The seed is {seed}, expected at least 0.")
    if batch_size > n:
        raise InputError(f"The batch size {batch_size} is larger than the {n} images there are.")
    return np.random.default_rng(seed).choice(n, batch_size, replace=False)


def make_batch(images: np.ndarray, labels: np.ndarray | None) -> Batch:
    """A batch on the device."""
    return Batch(
        jnp.asarray(images, jnp.float32), None if labels is None else jnp.asarray(labels, jnp.int32)
    )


def _check_labels(proxies: Sequence[Proxy], batch: Batch) -> None:
    needy = [p.name for p in proxies if p.needs_labels]
    if needy and batch.labels is None:
        raise InputError(f"{', '.join(needy)} needs labels, and none were given.")


def _table(
    space: SearchSpace,
    scoring: Scoring,
    proxies: Sequence[Proxy],
    scores: Mapping[str, np.ndarray],
    combine: str,
) -> pd.DataFrame:
    promising = {
        p.name: np.where(scoring.connected, p.sign * scores[p.name], -np.inf) for p in proxies
    }
    score = np.where(scoring.connected, COMBINATIONS[combine](promising), -np.inf)
    table = pd.DataFrame(
        {
            "index": space.index(scoring.archs),
            "arch": [space.to_string(arch) for arch in scoring.archs],
            **scores,
            "score": score,
            "rank": pd.Series(score).rank(method="min", ascending=False).astype(np.int64),
        }
    )
    table = table.sort_values(["rank", "index"], kind="stable", ignore_index=True)
    table.attrs["nan"] = {name: int(np.isnan(values).sum()) for name, values in scores.items()}
    return table
