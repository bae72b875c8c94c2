"""How a search ends: result.json, report.html and the closing table."""

import json
import math
import shlex
from typing import Any

import numpy as np
import pandas as pd

from jaxnas.config import TRAINING
from jaxnas.cost import multiply_adds
from jaxnas.report import ReportData, TrainedCandidate, score_columns, write_report
from jaxnas.stages.candidates import computed_once
from jaxnas.stages.examples import augmented, policy_name
from jaxnas.stages.export import place
from jaxnas.stages.job import Job, Section
from jaxnas.stages.limits import limits

BEST = 10
"""Rows of the closing table."""


def conclude(job: Job, about: dict[str, Any]) -> dict[str, Any]:
    """Writes result.json and report.html; returns the former's contents."""
    ranking = _ranking(job)
    if job.winner is None and limits(job):
        job.winner = computed_once(job)[0]
    if job.winner is None:
        job.winner = job.space.from_string(str(ranking["arch"].iloc[0]))
    winner = job.space.pruned(job.winner[None])
    counts = job.count(_winner_section(job), winner)
    result = {
        "arch": job.space.to_string(winner[0]),
        "index": int(job.space.index(winner)[0]) if job.space.enumerable else None,
        "val_accuracy": job.accuracy.get("val_accuracy"),
        "test_accuracy": job.accuracy.get("test_accuracy"),
        **_metrics(job),
        **_found(job),
        "params": int(counts.params[0]),
        "macs": int(counts.macs[0]),
        "multiply_adds": multiply_adds(job),
        "seconds": job.run.seconds(),
        **about,
    }
    job.run.write_text("result.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
    page = ReportData(
        title=f"{job.space.name} on {job.data.name}",
        result={k: v for k, v in result.items() if v is not None} | {"command": _command(job)},
        ranking=ranking,
        graphs=job.space.graphs(winner[0]),
        trained=tuple(job.trained),
        notes=tuple(job.notes),
        curves=job.curves,
        decisions=tuple(job.decisions),
        limits=limits(job),
        trials=tuple(job.trials),
        tuned={name: tuple(map(float, v)) for name, v in (job.tuned or {}).items()},
        policies=tuple(job.policies),
        augmented=augmented(job),
        judged=job.judged,
        metric=job.config.objective.metric,
    )
    job.run.write("report.html", lambda beside: write_report(beside, page))
    return result


def print_outcome(job: Job, result: dict[str, Any]) -> None:
    """The ten best, the winner, the seconds by stage and where the files are."""
    screen = job.screen
    for note in job.notes:
        screen.say(note)
    if "rank" in job.config.active_stages:
        _print_best(job)
    parts = [f"{result['params']:,} parameters, {result['macs']:,} multiply-adds"]
    for key, name in (("val_accuracy", "validation"), ("test_accuracy", "test")):
        if result[key] is not None:
            parts.append(f"{name} accuracy {result[key]:.4f}")
    metric = job.config.objective.metric
    for key, name in (("val_metric", "validation"), ("test_metric", "test")):
        if result.get(key) is not None:
            parts.append(f"{name} {metric.replace('_', ' ')} {result[key]:.4f}")
    screen.show(f"\nWinner: {result['arch']}")
    screen.show(f"  {', '.join(parts)}")
    spent = [
        f"{stage} {s['run'] + s['compile']:.1f} (of it compiling {s['compile']:.1f})"
        for stage, s in result["seconds"].items()
    ]
    screen.show(f"  seconds: {', '.join(spent)}")
    _print_cost_against_accuracy(job)
    screen.show(
        f"Files: {job.run.directory}/report.html, result.json, ranking.parquet, journal.jsonl"
    )


def _print_best(job: Job) -> None:
    ranking = _ranking(job)
    trained = sorted(job.trained, key=lambda c: c.epochs)  # of several trainings the longest counts
    validated = {c.arch: c.val_accuracy[-1] for c in trained if c.role == "candidate"}
    proxies = score_columns(ranking)
    named = [f"{name} ±" if deviation else name for name, deviation in proxies.items()]
    columns = ["rank", "architecture", *named, "score"]
    columns += ["validation"] if validated else []
    rows = []
    for row in ranking.head(BEST).to_dict("records"):
        cells = [
            row["rank"],
            row["arch"],
            *(_spread(row, *names) for names in proxies.items()),
            f"{row['score']:.4f}",
        ]
        pruned = job.space.pruned(job.space.from_string(row["arch"])[None])[0]
        accuracy = validated.get(job.space.to_string(pruned))
        rows.append([*cells, *(["" if accuracy is None else f"{accuracy:.4f}"] * bool(validated))])
    screen_title = f"The {len(rows)} best of {len(ranking):,}"
    job.screen.table(screen_title, columns, rows)


def _print_cost_against_accuracy(job: Job) -> None:
    """What the candidates' training cost and gave, beside the baselines at the same budget."""
    groups: dict[str, list[TrainedCandidate]] = {}
    for c in job.trained:
        if c.role != "winner":
            groups.setdefault(c.role, []).append(c)
    rows = []
    for role, group in groups.items():
        finals = np.array([c.val_accuracy[-1] for c in group])
        finals = finals[np.isfinite(finals)]
        accuracy = (finals.mean(), finals.max()) if len(finals) else (math.nan, math.nan)
        macs = np.mean([c.macs for c in group]) / 1e6
        seconds = sum(c.seconds for c in group)
        rows.append(
            [role, len(group), f"{macs:.2f}", f"{seconds:.1f}", *(f"{a:.4f}" for a in accuracy)]
        )
    if rows:
        epochs = job.config.train.epochs
        length = f"{epochs} epoch{'s' * (epochs > 1)}"
        most = "up to " if any(c.stopped for c in job.trained) else ""
        title = f"\nTrained for {most}{length} each"
        if job.config.train.trainer != "population":
            title = f"\nBy weights inherited from a super-net trained for {length}"
        columns = ["role", "networks", "M multiply-adds", "seconds", "mean validation", "best"]
        job.screen.table(title, columns, rows)


def _metrics(job: Job) -> dict[str, float | None]:
    """What networks were compared by, where that is not the accuracy."""
    if job.config.objective.metric == "accuracy":
        return {}
    return {key: job.accuracy.get(key) for key in ("val_metric", "test_metric")}


def _found(job: Job) -> dict[str, Any]:
    """What stages tune, augment and export left."""
    found: dict[str, Any] = {}
    if job.tuned is not None:
        found["tuned"] = {k: [float(f"{x:.8g}") for x in v] for k, v in job.tuned.items()}
    if (policy := policy_name(job)) is not None:
        found["policy"] = policy
    if "export" in job.config.active_stages:
        found["export"] = str(place(job))
    return found


def _winner_section(job: Job) -> Section:
    for name in reversed(TRAINING):
        if name in job.config.active_stages:
            return getattr(job.config, name)
    raise AssertionError("a search has at least one stage")


def _ranking(job: Job) -> pd.DataFrame:
    assert job.ranking is not None
    return job.ranking


def _spread(row: dict[Any, Any], name: str, deviation: str | None) -> str:
    """A score, and its deviation over repeats where there is one."""
    spread = row[deviation] if deviation else math.nan
    return f"{_short(row[name])} ± {spread:.3f}" if math.isfinite(spread) else _short(row[name])


def _short(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.3f}"


def _command(job: Job) -> str:
    config = shlex.quote(str(job.run.directory / "config.yaml"))
    return f"python -m jaxnas.search --config {config} --out NEW_DIRECTORY"
