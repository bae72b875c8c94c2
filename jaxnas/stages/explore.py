"""Which architectures are ranked of a space that cannot be ranked whole."""

import io
from functools import partial

import jax
import numpy as np

from jaxnas.console import Bar
from jaxnas.proxies import get_proxies
from jaxnas.proxy import Batch
from jaxnas.ranking import Progress, Scoring, make_batch, oriented, pick_batch, score_population
from jaxnas.scoring.combine import COMBINATIONS
from jaxnas.stages.job import Job
from jaxnas.strategies.guided import around, explore
from jaxnas.strategies.pruning import perturb, perturbation_cost, prune, pruning_cost
from jaxnas.strategies.relaxed import branches, relaxed_scores

EXPLORED = "explored.npy"
STREAM = 0xE7
"""Keeps these draws apart from what else comes from the seed."""
RELAXED = {
    "pruning": (prune, pruning_cost, ("ntk", "linear_regions")),
    "perturbation": (perturb, perturbation_cost, ("naswot",)),
}
"""Searches of the super-network with branches removed: what they cost, and the papers' scores."""


def how(job: Job) -> str:
    """`rank.explore`, or what it is where nothing is said."""
    if len(job.archs) == job.space.size:
        return "all"
    return job.config.rank.explore or ("random" if job.space.enumerable else "evolution")


def batch_of(job: Job, resolution: int, seed: int) -> Batch:
    """What scores are computed on."""
    data = job.data
    picked = pick_batch(len(data.train), job.recipe.batch_size, seed)
    images = data.prepare(data.train.x[picked], resolution)
    return make_batch(images, data.train.y[picked], seed=seed, dtype=job.config.rank.dtype)


def explored(job: Job) -> np.ndarray:
    """The architectures to rank, as many as `job.archs`; kept in the run once they are found."""
    kind, path = how(job), job.run.directory / EXPLORED
    if kind in ("all", "random"):
        return job.archs
    if not (job.run.of_stage("rank", "explored") and path.is_file()):
        archs = _evolved(job) if kind == "evolution" else _pruned(job, kind)
        written = io.BytesIO()
        np.save(written, archs)
        job.run.write(EXPLORED, lambda beside: beside.write_bytes(written.getvalue()))
        job.run.record(stage="rank", unit="explored", by=kind, seconds=job.watch.lap())
    return np.load(path)


def _evolved(job: Job) -> np.ndarray:
    wanted = len(job.archs)
    with job.screen.bar("explore", wanted) as bar:
        bar.advance(0, "compiling")
        found = explore(
            job.space,
            partial(_scored, job, bar),
            _key(job),
            wanted,
            combine=COMBINATIONS[job.recipe.combine],
            generation=max(32, wanted // 16),
        )
    return found.archs


def _scored(job: Job, bar: Bar, archs: np.ndarray) -> dict[str, np.ndarray]:
    scores = score_population(
        Scoring.of(job.space, archs),
        partial(job.network, job.config.rank),
        partial(batch_of, job),
        job.proxies,
        seed=job.config.seed,
        executor=job.config.rank.executor,
        progress=Progress(),
    )
    bar.advance(len(archs), "architectures bred by their scores")
    return {p.name: oriented(p, scores[p.name]) for p in job.proxies}


def _pruned(job: Job, kind: str) -> np.ndarray:
    """What pruning or perturbation leaves, and a neighbourhood of it."""
    search, cost, proxies = RELAXED[kind]
    network = job.network(job.config.rank)
    present, wanted = branches(network), len(job.archs)
    batch = batch_of(job, network.resolution, job.config.seed)
    first, second = jax.random.split(_key(job))
    with job.screen.bar(kind, 1) as bar:
        bar.advance(0, "compiling")
        found = search(
            job.space,
            present,
            lambda seed: relaxed_scores(network, batch, get_proxies(proxies), seed=seed),
            first,
            cost(present),
        )
        bar.advance(1, "done")
    return around(job.space, found.archs, wanted, second)


def _key(job: Job) -> jax.Array:
    return jax.random.fold_in(jax.random.key(job.config.seed), STREAM)
