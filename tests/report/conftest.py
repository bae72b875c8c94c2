"""A run's worth of data that looks like a real one, without running anything."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from demo_stages import (
    demo_augmented,
    demo_judged,
    demo_policies,
    demo_schedule,
    demo_trials,
)
from scipy.stats import rankdata

from jaxnas.report import CellGraph, Decision, ReportData, TrainedCandidate

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def cell_string(ops) -> str:
    """NAS-Bench-201's notation of six operations."""
    a, b, c, d, e, f = ops
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def cell_graph(ops) -> CellGraph:
    edges = tuple((*edge, op) for edge, op in zip(EDGES, ops, strict=True))
    return CellGraph(("input", "1", "2", "output"), edges)


def demo_ranking(seed: int = 0) -> pd.DataFrame:
    """All 15,625 cells with made-up scores; cells without a path score -inf, and two NaN."""
    rng = np.random.default_rng(seed)
    cells = list(itertools.product(OPERATIONS, repeat=6))
    threes = np.array([c.count("nor_conv_3x3") for c in cells])
    ones = np.array([c.count("nor_conv_1x1") for c in cells])
    params = 72_000 + 166_000 * threes + 19_400 * ones
    naswot = 600 + 60 * np.log1p(threes + 0.7 * ones) + rng.normal(0, 12, len(cells))
    naswot[[c[3] == "none" and c[4] == "none" and c[5] == "none" for c in cells]] = -np.inf
    order = [rankdata(-column, method="average") for column in (naswot, params)]
    score = -np.log(order[0]) - np.log(order[1])
    score[np.isinf(naswot)] = -np.inf
    score[[17, 4_711]] = np.nan
    frame = pd.DataFrame(
        {
            "index": rng.permutation(len(cells)),
            "arch": [cell_string(c) for c in cells],
            "naswot": naswot,
            "params": params,
            "score": score,
        }
    )
    frame["rank"] = frame["score"].fillna(-np.inf).rank(method="first", ascending=False).astype(int)
    return frame.sort_values("rank", ignore_index=True)


def demo_training(arch: str, role: str, macs: int, quality: float, seed: int, epochs: int = 12):
    rng = np.random.default_rng(seed)
    steps = np.arange(1, epochs + 1)
    accuracy = quality - (quality - 0.1) * np.exp(-steps / 2.2) + rng.normal(0, 0.006, epochs)
    loss = 2.3 * np.exp(-steps / (2.0 + quality)) + 0.03 + rng.normal(0, 0.01, epochs)
    return TrainedCandidate(
        arch=arch,
        role=role,
        params=macs // 140,
        macs=macs,
        seconds=2.0 + macs / 1.6e7 + rng.uniform(0, 0.4),
        epochs=tuple(steps.tolist()),
        train_loss=tuple(np.abs(loss).tolist()),
        val_accuracy=tuple(np.clip(accuracy, 0, 1).tolist()),
        costs={"params": macs / 140, "macs": float(macs)},
    )


def demo_trained(ranking: pd.DataFrame) -> tuple[TrainedCandidate, ...]:
    rng = np.random.default_rng(1)
    archs = [str(arch) for arch in ranking["arch"]]
    best = archs[:8]
    runs = [
        demo_training(a, "candidate", int(rng.uniform(6e6, 11e6)), 0.965 + 0.003 * k, k)
        for k, a in enumerate(best)
    ]
    diverging = dataclasses.replace(
        runs[1],
        train_loss=(2.1, 1.6, 2.9) + (np.nan,) * 9,
        val_accuracy=(0.3, 0.42, 0.2) + (np.nan,) * 9,
        diverged=True,
    )
    runs[1] = diverging
    runs.append(demo_training(cell_string(["nor_conv_3x3"] * 6), "largest", 13_400_000, 0.972, 20))
    drawn = [archs[k] for k in rng.integers(200, 14_000, 8)]
    runs += [
        demo_training(a, "random", int(rng.uniform(1e6, 9e6)), rng.uniform(0.82, 0.96), 30 + k)
        for k, a in enumerate(drawn)
    ]
    runs.append(demo_training(best[7], "winner", 9_120_000, 0.992, 50, epochs=40))
    return tuple(runs)


def demo_decisions(trained: Sequence[TrainedCandidate]) -> tuple[Decision, ...]:
    """The candidates as asked for in batches of four; from the second on something was expected."""
    candidates = [run for run in trained if run.role == "candidate"]
    return tuple(
        Decision(
            arch=run.arch,
            batch=1 + k // 4,
            epochs=12,
            place=k + 1,
            expected=0.97 + 0.002 * k if k >= 4 else np.nan,
            deviation=0.004 if k >= 4 else np.nan,
            reached=run.val_accuracy[-1],
        )
        for k, run in enumerate(candidates)
    )


DEMO_RESULT = {
    "val_accuracy": 0.9896,
    "test_accuracy": 0.9861,
    "params": 902_090,
    "macs": 9_120_000,
    "seconds": {
        "rank": {"run": 3.91, "compile": 2.48},
        "train": {"run": 24.6, "compile": 8.13},
        "finish": {"run": 17.2, "compile": 6.4},
        "evaluate": {"run": 0.31, "compile": 0.0},
    },
    "multiply_adds": {"train": 1.26e12, "finish": 5.9e11},
    "policy": "randaugment:n=2:m=9",
    "export": "runs/digits/export",
    "seed": 0,
    "device": "cpu (2 cores)",
    "versions": {"python": "3.12.9", "jaxnas": "0.1.0", "jax": "0.12.0", "flax": "0.12.12"},
    "config": {
        "space": "nasbench201",
        "seed": 0,
        "data": {"name": "digits", "split_seed": 0},
        "rank": {"proxies": ["naswot", "params"], "channels": 16, "cells": 1, "resolution": 16},
        "train": {"top": 8, "epochs": 12, "batch_size": 64},
        "finish": {"epochs": 40, "channels": 16},
    },
    "command": ["python", "-m", "jaxnas.search", "--space", "nasbench201", "--out", "my run"],
}


@pytest.fixture(scope="session")
def demo() -> ReportData:
    """A whole run on all of NAS-Bench-201, with baselines, one divergence and two NaN scores."""
    ranking = demo_ranking()
    winner = str(ranking["arch"].iloc[7])
    trained = demo_trained(ranking)
    trials = demo_trials()
    tuned = demo_schedule(trials)
    ops = [part.split("~")[0] for part in winner.replace("+", "").split("|") if part]
    return ReportData(
        title="nasbench201 on digits",
        curves={"training loss": (2.2, 1.6, 1.1), "share of skips": (0.2, 0.4, 0.3)},
        result={"arch": winner, **DEMO_RESULT, "tuned": tuned},
        ranking=ranking,
        graphs=(("The cell, stacked five times in each of three stages.", cell_graph(ops)),),
        trained=trained,
        decisions=demo_decisions(trained),
        limits={"macs": 1.1e7},
        trials=trials,
        tuned=tuned,
        policies=demo_policies(),
        augmented=demo_augmented(),
        judged=demo_judged(),
        notes=("2 of 15,625 scores are NaN; those architectures rank last.",),
    )


@pytest.fixture(scope="session")
def rank_only(demo) -> ReportData:
    """What is left when only the rank stage ran."""
    later = ("val_accuracy", "test_accuracy", "tuned", "policy", "export")
    result = {k: v for k, v in demo.result.items() if k not in later}
    result |= {
        "arch": demo.ranking["arch"].iloc[0],
        "seconds": {"rank": {"run": 3.9, "compile": 2.5}},
    }
    return dataclasses.replace(
        demo,
        result=result,
        trained=(),
        notes=(),
        curves={},
        decisions=(),
        limits={},
        trials=(),
        tuned={},
        policies=(),
        augmented=None,
        judged=None,
    )


@pytest.fixture(scope="session")
def hundred(demo) -> ReportData:
    """The same with 100 classes, compared by F1, and a tuner of whole trainings, each begun anew."""
    trials = tuple(
        dataclasses.replace(t, start=0, units=12, copied=-1, fitness=t.fitness) for t in demo.trials
    )
    result = demo.result | {"val_metric": 0.712, "test_metric": 0.698}
    tuned = {name: [value] * 12 for name, value in trials[-1].values.items()}
    return dataclasses.replace(
        demo,
        judged=demo_judged(2000, 100),
        trials=trials,
        tuned=tuned,
        metric="f1",
        result=result | {"tuned": tuned},
    )
