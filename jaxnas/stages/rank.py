"""Stage 1: every architecture of the population is scored without training."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from jaxnas.errors import InputError
from jaxnas.proxy import CountProxy
from jaxnas.ranking import Progress, Scores, Scoring, rank_population
from jaxnas.runs import numbers
from jaxnas.stages.explore import batch_of, explored
from jaxnas.stages.job import Job


def rank(job: Job) -> None:
    """Fills `job.ranking` and writes ranking.parquet."""
    job.archs = explored(job)
    path = job.run.directory / "ranking.parquet"
    if job.run.of_stage("rank", "done") and path.is_file():
        job.ranking = _read(path)
    else:
        job.ranking = _ranked(job)
        table = job.ranking
        job.run.write("ranking.parquet", lambda beside: table.to_parquet(beside, index=False))
        job.run.record(stage="rank", unit="done", seconds=job.watch.lap())
    for name, count in job.ranking.attrs["nan"].items():
        if count:
            job.notes.append(
                f"{name} failed numerically (NaN) on {count:,} architectures; they rank last."
            )


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--resume: {path} is damaged; without it, it is made again from the journal."
        ) from error


def _ranked(job: Job) -> pd.DataFrame:
    config = job.config.rank
    finished = _finished(job)
    distinct = len(Scoring.of(job.space, job.archs).rows)
    with job.screen.bar("rank", job.recipe.repeats * distinct) as bar:
        bar.advance(len(next(iter(finished.values()), ())), "compiling")

        def chunk(scores: Scores) -> None:
            job.run.record(stage="rank", unit="rows", scores=scores, seconds=job.watch.lap())
            bar.advance(len(next(iter(scores.values()))), "distinct architectures")

        return rank_population(
            job.space,
            job.archs,
            partial(job.network, config),
            partial(batch_of, job),
            job.proxies,
            combine=job.recipe.combine,
            seed=job.config.seed,
            repeats=job.recipe.repeats,
            executor=config.executor,
            progress=Progress(finished, chunk),
        )


def _finished(job: Job) -> Scores:
    """The scores that an interrupted ranking had journalled."""
    parts = [entry["scores"] for entry in job.run.of_stage("rank", "rows")]
    if not parts:
        return {}
    return {
        proxy.name: np.concatenate([numbers(p[proxy.name]) for p in parts]).astype(
            np.float64 if isinstance(proxy, CountProxy) else np.float32
        )
        for proxy in job.proxies
    }
