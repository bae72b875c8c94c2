"""Ranking every architecture of a space without training any."""

from collections.abc import Callable, Sequence
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
from jaxnas.proxies import get_proxies
from jaxnas.proxies.presets import resolve
from jaxnas.proxy import Batch, ForwardProxy, GradientProxy, Proxy
from jaxnas.report import DEVIATION
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

    def between(self, first: int, last: int) -> "Progress":
        """The same of the rows `first` to `last` alone."""
        return Progress({k: v[first:last] for k, v in self.finished.items()}, self.chunk)


@dataclass(frozen=True)
class Scoring:
    """What there is to score: a population, and the distinct rows that need computing.

    `rows[inverse[i]]` is what architecture i is scored as (`SearchSpace.scored`): unreachable operations
    removed. Rows of one shape class follow each other; `kinds` says which.
    """

    archs: np.ndarray
    rows: np.ndarray
    kinds: np.ndarray
    inverse: np.ndarray
    connected: np.ndarray

    @classmethod
    def of(cls, space: SearchSpace, archs: np.ndarray) -> "Scoring":
        """The distinct rows of `archs`."""
        kinds = space.shape_classes(archs).astype(np.int32)
        coded = np.concatenate([kinds[:, None], space.rows(space.scored(archs))], axis=1)
        rows, inverse = np.unique(coded, axis=0, return_inverse=True)
        return cls(archs, rows[:, 1:], rows[:, 0], inverse.reshape(-1), space.connected(archs))


def population(space: SearchSpace, sample: int | None, seed: int) -> np.ndarray:
    """The architectures to rank: all of a space, or a sample that differ in what they compute.

    `sample` None is the space's own default, 0 is all.

    Raises:
        InputError: all of a space that is too large to list.
    """
    wanted = space.default_sample if sample is None else sample
    if not wanted or wanted >= space.size:
        return space.all()
    return space.sample_distinct(jax.random.fold_in(jax.random.key(seed), SAMPLE_STREAM), wanted)


SAMPLE_STREAM = 0x5A3
"""Keeps the draw of the sample apart from what else comes from the seed."""


def rank(
    space: str | SearchSpace,
    images: Any,
    labels: Any = None,
    *,
    proxies: str | Sequence[str | Proxy | Callable[..., Any]] | None = None,
    combine: str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    size: Size | None = None,
    executor: str = "auto",
    sample: int | None = None,
    archs: np.ndarray | None = None,
    repeats: int | None = None,
    dtype: str = "float32",
) -> pd.DataFrame:
    """Rank architectures of a space on images, without training.

    Args:
        space: a space or its name (a file of the search-space language, `module:attribute`).
        images: `[n, H, W, C]` or `[n, H, W]`, uint8 or float; standardised per channel here.
        labels: integers `[n]`; only some proxies need them.
        proxies: names of training-free scores, as a list or separated by commas, or one preset of
            `jaxnas.proxies.presets`; default `space.default_proxies`. One's own are named as
            `module:function` or are in the list themselves (`jaxnas.as_proxy`).
        combine: how several become one, a name of `jaxnas.scoring.combine.COMBINATIONS`; default: that
            of the preset named in `proxies`, else `log_rank`.
        seed: of the initial weights and of which images are used.
        batch_size: how many images are used; default 32, or the preset's.
        size: how large the scored networks are; default `space.proxy_size`, or `space.deep_size` for a
            preset that wants it, its resolution no larger than the images'.
        executor: `shared_prefix`, `per_architecture`, or `auto`: the first where it serves.
        sample: how many architectures, drawn at random by the seed; 0: all; default: all, or
            `space.default_sample` where a space is too large.
        archs: the architectures themselves, `int[N, D]`, in place of all or a sample.
        repeats: how many initialisations and batches, of this and the following seeds, scores are the
            mean of; default 1, or the preset's.
        dtype: what networks are computed in, `float32` or `bfloat16`.

    Returns:
        One row an architecture, best first: `index` (its place in the population ranked, which is the
        official index where that is the whole space), `arch`, a column a proxy (with repeats another,
        `NAME_std`, of its standard deviation), `score` (higher is better) and `rank` (1 is best, ties
        share the lower number). `attrs["nan"]` counts each proxy's numerical failures, which rank last.

    Raises:
        InputError: for anything given that cannot be used.
    """
    space = get_space(space) if isinstance(space, str) else space
    proxies = space.default_proxies if proxies is None else proxies
    proxies = proxies.split(",") if isinstance(proxies, str) else proxies
    recipe = resolve(proxies, combine, batch_size, repeats)
    chosen = get_proxies(recipe.proxies)
    x = check_images(images, "images")
    y = None if labels is None else check_labels(labels, "labels", images=len(x))
    if archs is None:
        archs = population(space, sample, seed)
    else:
        space.check(archs)
    size = size or fit_size(recipe.size(space), min(x.shape[1:3]))
    network, batch = _protocol(space, x, y, size, recipe.batch_size, dtype)
    return rank_population(
        space,
        archs,
        network,
        batch,
        chosen,
        combine=recipe.combine,
        seed=seed,
        repeats=recipe.repeats,
        executor=executor,
    )


def score_archs(
    space: SearchSpace,
    archs: np.ndarray,
    images: Any,
    labels: Any = None,
    *,
    proxies: Sequence[Proxy],
    seed: int = 0,
    batch_size: int = 32,
    size: Size | None = None,
    executor: str = "auto",
    dtype: str = "float32",
    progress: Progress | None = None,
) -> Scores:
    """Each proxy's own score of each architecture of `archs: int32[N, D]`, `float64[N]` by name.

    -inf where there is no path from input to output, NaN where the score failed numerically. Arguments
    and errors are those of `rank`.
    """
    space.check(archs)
    x = check_images(images, "images")
    y = None if labels is None else check_labels(labels, "labels", images=len(x))
    network, batch = _protocol(space, x, y, size, batch_size, dtype)
    return score_population(
        Scoring.of(space, archs),
        network,
        batch,
        proxies,
        seed=seed,
        executor=executor,
        progress=progress or Progress(),
    )


def _protocol(
    space: SearchSpace,
    x: np.ndarray,
    y: np.ndarray | None,
    size: Size | None,
    batch_size: int,
    dtype: str,
) -> tuple[Callable[[int], Network], Callable[[int, int], Batch]]:
    """The network of a shape class, and the batch of a resolution and a seed."""
    size = size or fit_size(space.proxy_size, min(x.shape[1:3]))
    mean, std = channel_statistics(x)
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    classes = 10 if y is None else int(y.max()) + 1

    def network(kind: int) -> Network:
        return space.network(size, classes=classes, image_channels=x.shape[3], shape_class=kind)

    def batch(resolution: int, seed: int) -> Batch:
        picked = pick_batch(len(x), batch_size, seed)
        inputs = resize(x[picked].astype(np.float32), resolution, resolution)
        inputs = (inputs / scale - mean) / std
        return make_batch(inputs, None if y is None else y[picked], seed=seed, dtype=dtype)

    return network, batch


def rank_population(
    space: SearchSpace,
    archs: np.ndarray,
    network: Callable[[int], Network],
    batch: Callable[[int, int], Batch],
    proxies: Sequence[Proxy],
    *,
    combine: str = "log_rank",
    seed: int = 0,
    repeats: int = 1,
    executor: str = "auto",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """`rank` of `archs`, for the network of each shape class and batches of a resolution and a seed.

    `progress` counts the rows of all repeats, one repeat after another.
    """
    if combine not in COMBINATIONS:
        raise unknown("combination", combine, COMBINATIONS)
    if repeats < 1:
        raise InputError(f"repeats is {repeats}, expected at least 1.")
    scoring = Scoring.of(space, archs)
    progress = progress or Progress()
    drawn = []
    for repeat in range(repeats):
        first = repeat * len(scoring.rows)
        drawn.append(
            score_population(
                scoring,
                network,
                batch,
                proxies,
                seed=seed + repeat,
                executor=executor,
                progress=progress.between(first, first + len(scoring.rows)),
            )
        )
    return _table(space, scoring, proxies, drawn, combine)


def score_population(
    scoring: Scoring,
    network: Callable[[int], Network],
    batch: Callable[[int, int], Batch],
    proxies: Sequence[Proxy],
    *,
    seed: int,
    executor: str,
    progress: Progress,
) -> Scores:
    """Each proxy's score of each architecture of a `scoring`; -inf where nothing is connected."""
    parts: list[Scores] = []
    for kind in np.unique(scoring.kinds):
        first, last = np.searchsorted(scoring.kinds, [kind, kind + 1])
        own = network(int(kind))
        images = batch(own.resolution, seed)
        _check_labels(proxies, images)
        parts.append(
            score_rows(
                own,
                images,
                scoring.rows[first:last],
                proxies,
                seed=seed,
                executor=executor,
                progress=progress.between(int(first), int(last)),
            )
        )
    scores = {p.name: np.concatenate([part[p.name] for part in parts]) for p in proxies}
    return {
        name: np.where(scoring.connected, values[scoring.inverse].astype(np.float64), -np.inf)
        for name, values in scores.items()
    }


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
    """Each proxy's score of each row, by the executor named, going on from `progress.finished`.

    Weights have the images' type.
    """
    progress = progress or Progress()
    check_applies(network, proxies)
    dtype = batch.images.dtype
    variables = network.init(jax.random.key(seed))
    variables = variables._replace(params=jax.tree.map(lambda a: a.astype(dtype), variables.params))
    score = _executor(executor, network, proxies)
    start = len(next(iter(progress.finished.values()), ()))
    new = score(network, variables, rows[start:], batch, proxies, chunk=progress.chunk)
    before = progress.finished or {p.name: np.zeros(0, np.float32) for p in proxies}
    return {name: np.concatenate([before[name], values]) for name, values in new.items()}


def _executor(name: str, network: Network, proxies: Sequence[Proxy]) -> Callable[..., Scores]:
    needy = [p.name for p in proxies if isinstance(p, GradientProxy)]
    executors: dict[str, Callable[..., Scores]] = {
        "shared_prefix": score_shared_prefix,
        "per_architecture": score_per_architecture,
    }
    if name == "auto":
        # Widths are masked architecture by architecture, so that hardly anything could be shared.
        name = "per_architecture" if needy or network.elastic else "shared_prefix"
    if name not in executors:
        raise unknown("executor", name, [*executors, "auto"])
    if name == "shared_prefix" and needy:
        raise InputError(
            f"The shared_prefix executor has no gradients, which {', '.join(needy)} needs."
        )
    if name == "shared_prefix" and network.elastic:
        raise InputError(
            "The shared_prefix executor shares weights by position, and this space's networks mask "
            "them by architecture; use per_architecture."
        )
    return executors[name]


def check_applies(network: Network, proxies: Sequence[Proxy]) -> None:
    """A proxy that reads ReLUs says nothing of a network that has none; `InputError` then."""
    for p in proxies:
        kinds = frozenset[str]()
        if isinstance(p, ForwardProxy):
            kinds = p.tap_for(network).kinds
        elif isinstance(p, GradientProxy):
            kinds = p.reports
        read = [_REPORTS[kind] for kind in sorted(kinds)]
        there = not kinds or bool(kinds & network.survey.reports.keys())
        if isinstance(p, GradientProxy) and p.reads_attention and not network.linear_maps.attention:
            read, there = ["the weights of self-attention"], False
        if not there:
            raise InputError(
                f"{p.name} reads {' and '.join(read)}, and the networks of this space have none: "
                "it does not apply here."
            )
        if isinstance(p, ForwardProxy):
            _check_takes(network, p)


def _check_takes(network: Network, proxy: ForwardProxy) -> None:
    """Networks with weights for each pixel take images of one size, and a proxy may make others."""
    shape = (network.resolution, network.resolution, network.image_channels)
    made = proxy.image_shape(shape)
    if made == shape:
        return
    images = jax.ShapeDtypeStruct((2, *made), jnp.float32)
    arch = np.zeros(1 + max(map(int, network.survey.decisions), default=0), np.int32)

    def run(images: jax.Array) -> jax.Array:
        return network.apply(network.init(jax.random.key(0)), arch, images).logits

    try:
        jax.eval_shape(run, images)
    except (TypeError, ValueError) as error:  # what JAX raises at shapes
        raise InputError(
            f"{proxy.name} is computed on {proxy.protocol}, and the networks of this space take no "
            f"other images than those of {shape[0]}x{shape[1]} pixels: it does not apply here."
        ) from error


_REPORTS = {
    "pre_activation": "the inputs of ReLUs",
    "affine": "the outputs of convolutions and linear layers",
    "block": "the values between blocks",
    "batch_norm": "the inputs of batch normalisation",
    "features": "the input of the global pooling",
}


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


def make_batch(
    images: np.ndarray, labels: np.ndarray | None, *, seed: int = 0, dtype: str = "float32"
) -> Batch:
    """A batch on the device, its noise drawn by the seed."""
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    return Batch(
        jnp.asarray(images, dtype),
        None if labels is None else jnp.asarray(labels, jnp.int32),
        jax.random.fold_in(jax.random.key(seed), NOISE_STREAM),
    )


DTYPES = ("float32", "bfloat16")
"""What networks are scored in. Sums, norms, determinants and statistics are in float32 in any case."""
NOISE_STREAM = 0x2015E
"""Keeps the noise that proxies draw apart from what else comes from the seed."""


def _check_labels(proxies: Sequence[Proxy], batch: Batch) -> None:
    needy = [p.name for p in proxies if p.needs_labels]
    if needy and batch.labels is None:
        raise InputError(f"{', '.join(needy)} needs labels, and none were given.")


def _table(
    space: SearchSpace,
    scoring: Scoring,
    proxies: Sequence[Proxy],
    drawn: Sequence[Scores],
    combine: str,
) -> pd.DataFrame:
    stacks = {p.name: np.stack([scores[p.name] for scores in drawn]) for p in proxies}
    with np.errstate(invalid="ignore"):  # of infinities of both signs
        scores = {name: stack.mean(axis=0) for name, stack in stacks.items()}
    promising = {p.name: oriented(p, scores[p.name]) for p in proxies}
    score = np.where(scoring.connected, COMBINATIONS[combine](promising), -np.inf)
    columns = dict(scores)
    if len(drawn) > 1:
        columns |= {f"{name}{DEVIATION}": _deviation(stack) for name, stack in stacks.items()}
    table = pd.DataFrame(
        {
            "index": np.arange(len(scoring.archs)),
            "arch": [space.to_string(arch) for arch in scoring.archs],
            **columns,
            "score": score,
            "rank": pd.Series(score).rank(method="min", ascending=False).astype(np.int64),
        }
    )
    table = table.sort_values(["rank", "index"], kind="stable", ignore_index=True)
    table.attrs["nan"] = {name: int(np.isnan(values).sum()) for name, values in scores.items()}
    return table


def oriented(proxy: Proxy, scores: np.ndarray) -> np.ndarray:
    """Scores of which higher is better; -inf, of what connects nothing, stays."""
    return np.where(np.isneginf(scores), -np.inf, proxy.sign * scores)


def _deviation(stack: np.ndarray) -> np.ndarray:
    """The standard deviation over repeats of a sample (n - 1), NaN where a score is not finite."""
    finite = np.isfinite(stack).all(axis=0)
    return np.where(finite, np.where(finite, stack, 0.0).std(axis=0, ddof=1), np.nan)
