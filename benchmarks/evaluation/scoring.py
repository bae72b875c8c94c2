"""Scoring everything that was asked, unit by unit, and timing each proxy alone."""

from dataclasses import dataclass, replace

import numpy as np

from jaxnas import ranking
from jaxnas.benchmarks.evaluation.asked import Asked
from jaxnas.benchmarks.evaluation.images import Images
from jaxnas.benchmarks.evaluation.protocol import Protocol
from jaxnas.benchmarks.evaluation.store import Scores, Store
from jaxnas.console import Screen
from jaxnas.proxies import get_proxies
from jaxnas.proxy import Proxy
from jaxnas.spaces import SearchSpace
from jaxnas.timing import CompileClock, Stopwatch

LEAST_SECONDS = 1e-6
"""What is measured below that, as of counting, is given as that."""

CALLS = 2
"""Calls after the first that a proxy is timed in."""

type Key = tuple[str, int]
"""A dtype and a seed."""


@dataclass(frozen=True)
class Scorer:
    """What is scored, on what, and where finished units are kept."""

    space: SearchSpace
    archs: np.ndarray
    images: Images
    asked: Asked
    protocol: Protocol
    store: Store
    screen: Screen
    clock: CompileClock

    def raw(self) -> dict[Key, Scores]:
        """Each proxy's raw scores `float64[N]`, by dtype and seed; finished units are not redone."""
        found: dict[Key, Scores] = {}
        distinct = len(ranking.Scoring.of(self.space, self.archs).rows)
        units = [
            (dtype, seed, group, proxies)
            for dtype in self.protocol.dtypes
            for seed in range(self.protocol.seeds)
            for group, proxies in self.asked.groups().items()
        ]
        rounds = sum(self._repeats(group) for _, _, group, _ in units)
        with self.screen.bar("score", rounds * distinct) as bar:
            for dtype, seed, group, proxies in units:
                name = f"{dtype}-seed{seed}-{group}"
                note = f"{dtype}, seed {seed}, {group} proxies"

                def chunk(scores: Scores, name: str = name, note: str = note) -> None:
                    bar.advance(len(next(iter(scores.values()))), note)
                    self.store.keep_rows(name, scores)

                scores = self.store.scores(name)
                if scores is None:
                    watch = Stopwatch(self.clock)
                    before = self.store.rows(name)
                    bar.advance(len(next(iter(before.values()), ())), note)
                    self.store.begin()
                    progress = ranking.Progress(before, chunk)
                    scores = self._score(
                        self.archs, self.images, group, proxies, seed, dtype, progress
                    )
                    if self.asked.own(group):
                        scores = {f"{group}/{member}": v for member, v in scores.items()}
                    self.store.keep_scores(name, scores, watch.lap())
                else:
                    bar.advance(self._repeats(group) * distinct, note)
                found.setdefault((dtype, seed), {}).update(scores)
        return found

    def costs(self) -> dict[str, dict[str, float]]:
        """Seconds of each name alone, on a few architectures drawn by a fixed seed.

        `compile` is what tracing and compiling took (or fetching from the cache) in the first call and
        `first` the rest of that call; `seconds` is one architecture's share of the faster of two more
        calls, less what a call costs that only counts parameters.
        """
        n = min(self.protocol.timed, len(self.archs))
        if not n:
            return {}
        drawn = np.random.default_rng(0).choice(len(self.archs), n, replace=False)
        archs = self.archs[np.sort(drawn)]
        images = _few(self.images, self.protocol.batch_size)
        found: dict[str, dict[str, float]] = {}
        overhead = None
        with self.screen.bar("time each alone", len(self.asked.names)) as bar:
            for name in self.asked.names:
                timing = self.store.seconds(name)
                if timing is None:
                    if overhead is None:
                        overhead = self._again(archs, images, get_proxies(["params"]))[1]
                    first, again = self._again(archs, images, self.asked.members(name), name)
                    timing = {
                        "compile": first["compile"],
                        "first": first["run"],
                        "seconds": max((again - overhead) / n, LEAST_SECONDS),
                        "archs": n,
                    }
                    self.store.keep_seconds(name, timing)
                found[name] = timing
                bar.advance(1, name)
        return found

    def _again(
        self, archs: np.ndarray, images: Images, proxies: tuple[Proxy, ...], group: str = ""
    ) -> tuple[dict[str, float], float]:
        """The first call's seconds, and those of the fastest after it, compiling apart."""
        watch = Stopwatch(self.clock)
        laps = []
        for _ in range(1 + CALLS):
            self._score(archs, images, group, proxies, 0, self.protocol.dtypes[0])
            laps.append(watch.lap())
        return laps[0], min(lap["run"] for lap in laps[1:])

    def _score(
        self,
        archs: np.ndarray,
        images: Images,
        group: str,
        proxies: tuple[Proxy, ...],
        seed: int,
        dtype: str,
        progress: ranking.Progress | None = None,
    ) -> Scores:
        batch_size, repeats, size = self.protocol.of(self.asked.own(group), self.space, images)
        progress = progress or ranking.Progress()
        rows = len(ranking.Scoring.of(self.space, archs).rows)
        drawn = [
            ranking.score_archs(
                self.space,
                archs,
                images.x,
                images.y,
                proxies=proxies,
                seed=repeats * seed + repeat,
                batch_size=batch_size,
                size=size,
                executor=self.protocol.executor,
                dtype=dtype,
                progress=progress.between(repeat * rows, (repeat + 1) * rows),
            )
            for repeat in range(repeats)
        ]
        return {
            p.name: np.mean([np.asarray(d[p.name], np.float64) for d in drawn], axis=0)
            for p in proxies
        }

    def _repeats(self, group: str) -> int:
        preset = self.asked.own(group)
        return preset.repeats if preset else 1


def _few(images: Images, batch_size: int) -> Images:
    """Enough images for a batch, with each class among them, so that the network is the same.

    Standardising all of them would be most of what is timed.
    """
    picked = np.arange(min(batch_size + 1, len(images.x)))
    if images.y is not None:
        picked = np.union1d(picked, np.unique(images.y, return_index=True)[1])
    return replace(images, x=images.x[picked], y=None if images.y is None else images.y[picked])
