"""What architectures may cost: counted, looked up or timed, and refused in words."""

import re

import numpy as np
import pandas as pd
import pytest
from searching import images

from jaxnas.config import build
from jaxnas.console import Screen
from jaxnas.data.load import from_arrays
from jaxnas.errors import InputError
from jaxnas.runs import Run
from jaxnas.search import search
from jaxnas.stages import limits
from jaxnas.stages.job import Job
from jaxnas.stages.limits import allowed, check_limits, costs, keeping, known_costs
from jaxnas.timing import CompileClock, Stopwatch

ARCHS = np.array([[3, 3, 3, 3, 3, 3], [2, 2, 2, 2, 2, 2], [0, 0, 0, 1, 0, 0], [3, 0, 0, 0, 3, 0]])
SIZES = {
    "train.channels": 4,
    "train.cells": 1,
    "finish.channels": 8,
    "finish.cells": 1,
    "finish.resolution": 8,
}


@pytest.fixture
def job(tmp_path, space):
    """A job whose winner would be finished at 8 channels, with the limits that are given."""
    made: list[Run] = []

    def make(**given):
        config = build(SIZES | {f"limits.{k}": v for k, v in given.items()})
        made.append(Run.create(tmp_path / f"run{len(made)}", {}))
        data = from_arrays(*images(60, 8, 8))
        screen, watch = Screen(quiet=True), Stopwatch(CompileClock())
        return Job(config, space, data, made[-1], screen, watch)

    yield make
    for run in made:
        run.close()


def table_of(path, space, ms):
    archs = [space.to_string(arch) for arch in space.pruned(ARCHS)]
    frame = pd.DataFrame({"arch": archs[: len(ms)], "latency_ms": ms})
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return str(path)


def test_costs_are_those_of_the_network_that_the_run_ends_with(job, space):
    made = job()
    finished = made.count(made.config.finish, ARCHS)
    trained = made.count(made.config.train, ARCHS)
    np.testing.assert_array_equal(costs(made, ARCHS), np.stack([finished.params, finished.macs], 1))
    assert (finished.params > trained.params).all()
    assert known_costs(made, ARCHS[:1]) == [
        {"params": finished.params[0], "macs": finished.macs[0]}
    ]


def test_who_keeps_all_limits(job):
    counts = job().count(job().config.finish, ARCHS)
    most = int(counts.params[1])
    assert allowed(job(), ARCHS).all()
    np.testing.assert_array_equal(allowed(job(max_params=most), ARCHS), counts.params <= most)
    both = job(max_params=most, max_macs=int(counts.macs.min()))
    expected = (counts.params <= most) & (counts.macs <= counts.macs.min())
    assert 0 < expected.sum() < (counts.params <= most).sum()
    for keep in (allowed, keeping):
        np.testing.assert_array_equal(keep(both, ARCHS), expected)
    assert not keeping(job(max_params=1), ARCHS).any()


def test_limits_that_nobody_keeps_say_how_near_the_nearest_comes(job, space):
    counts = job().count(job().config.finish, ARCHS)
    nearest = int(counts.params.argmin())
    said = (
        f"None of 4 architectures keeps the limits; the nearest, {space.to_string(ARCHS[nearest])}, has "
        f"{counts.params[nearest]:,} parameters (at most 10) and {counts.macs[nearest]:,} multiply-adds "
        f"(at most {10**9:,})."
    )
    with pytest.raises(InputError, match=re.escape(said)):
        allowed(job(max_params=10, max_macs=10**9), ARCHS)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_latencies_of_a_table_stand_for_pruned_architectures(suffix, job, space, tmp_path):
    path = table_of(tmp_path / f"ms{suffix}", space, [4.0, 3.0, 0.5, 1.0])
    made = job(max_latency=3, latency_table=path)
    check_limits(made)
    assert allowed(made, ARCHS).tolist() == [False, True, True, True]
    spelled = np.array([[0, 4, 0, 1, 0, 0]])  # the same as the third: an edge that leads nowhere
    assert costs(made, spelled)[0, 2] == known_costs(made, spelled)[0]["latency"] == 0.5


def test_what_is_wrong_with_a_table_is_said_at_the_door(job, space, tmp_path):
    def said(path, **given):
        with pytest.raises(InputError) as caught:
            check_limits(job(**{"max_latency": 3, **given}, latency_table=str(path)))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    absent = tmp_path / "absent.csv"
    assert said(absent) == f"Cannot read the latencies {absent}: No such file or directory."
    other = tmp_path / "other.csv"
    other.write_text("arch,ms\nx,1\n")
    assert f"{other} has columns arch, ms; expected arch (nasbench201's notation)" in said(other)
    for ms in ("nan", "-1", "0", "quick"):
        wrong = tmp_path / "wrong.csv"
        wrong.write_text(f"arch,latency_ms\na,1\nb,{ms}\n")
        assert "latency_ms of b is" in said(wrong)
        assert "expected a number above 0." in said(wrong)
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"PAR1")
    assert said(damaged).startswith(f"Cannot read the latencies {damaged}: ")
    good = table_of(tmp_path / "good.csv", space, [1.0])
    assert "of use only beside limits.max_latency" in said(good, max_latency=None)
    partial = job(max_latency=3, latency_table=good)
    second = space.to_string(ARCHS[1])
    with pytest.raises(InputError, match=re.escape(f"of 3 of 4 architectures, the first {second}")):
        allowed(partial, ARCHS)


def test_without_a_table_networks_are_timed_once_and_journalled(job, monkeypatch):
    asked = []

    def timed(network, variables, rows, image):
        asked.append(len(rows))
        yield from (1.0 + float(row.sum()) for row in rows)

    monkeypatch.setattr(limits, "milliseconds", timed)
    made = job(max_latency=14)
    assert "latency" not in known_costs(made, ARCHS[:1])[0]
    assert allowed(made, ARCHS[:3]).tolist() == [False, True, True]
    assert asked == [3]
    assert made.run.of_stage("limits", "latency")[0]["ms"] == 19.0
    assert costs(made, ARCHS)[:, 2].tolist() == [19.0, 13.0, 2.0, 7.0]
    assert asked == [3, 1]  # only who is new
    assert known_costs(made, ARCHS[3:])[0]["latency"] == 7.0


def test_a_ranking_alone_names_the_best_that_keeps_the_limits(tmp_path):
    options = {"stages": "rank", "quiet": True, "proxies": "params", "sample": 40}
    options |= {"data": images(60, 8, 8), "channels": 4, "cells": 1, "rank.batch_size": 16}
    free = search(out=tmp_path / "free", **options)
    limit = int(free.values["params"]) - 1
    kept = search(out=tmp_path / "kept", max_params=limit, **options)
    assert kept.values["params"] <= limit < free.values["params"]
    within = kept.ranking[kept.ranking["params"] <= limit]
    assert kept.values["params"] == within["params"].max()
    with pytest.raises(InputError, match=r"^None of \d+ architectures keeps the limits; the near"):
        search(out=tmp_path / "none", max_params=1, **options)


def test_a_search_by_gradient_refuses_limits(tmp_path):
    options = {"data": images(60, 8, 8), "channels": 4, "cells": 1, "batch_size": 16, "top": 1}
    options |= {"sample": 8, "proxies": "params", "quiet": True, "stages": "rank,train"}
    with pytest.raises(InputError, match="gdas finds one architecture by gradient, whatever it"):
        search(out=tmp_path / "run", trainer="gdas", max_params=9000, **options)
