"""The train stage by strategy: batches in order, budgets, what is resumed, and what goes wrong."""

import json
import re
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compilations
from searching import Killed, images, journal_of, kill_at, result_of

from jaxnas.errors import InputError
from jaxnas.runs import Run
from jaxnas.search import search
from jaxnas.stages import strategy as stage
from jaxnas.strategies import STRATEGIES
from jaxnas.strategy import Asked, Strategy

SMALL = {
    "channels": 4,
    "cells": 1,
    "resolution": 8,
    "epochs": 1,
    "top": 2,
    "batch_size": 24,
    "rank": {"sample": 30, "proxies": "params"},
    "train": {"baselines": 1},
    "stages": "rank,train",
    "data": images(120, 8, 8, 1),
    "quiet": True,
}
RESUMED = {k: SMALL[k] for k in ("data", "quiet")}


def units(folder):
    return [(e["unit"], e.get("batch")) for e in journal_of(folder) if e["stage"] == "train"]


def asked(folder):
    return [e for e in journal_of(folder) if e["unit"] == "ask"]


def without_seconds(folder):
    return [{k: v for k, v in e.items() if k != "seconds"} for e in journal_of(folder)]


def dead(out, method, what, nth=1, *, after=False, **options):
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, method, what, nth, after=after)
        with pytest.raises(Killed):
            search(out=out, **SMALL | options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three batches of the default strategy, and how many programs each entry of the journal needed."""
    record, counts = Run.record, []
    with pytest.MonkeyPatch.context() as patch, compilations() as compiled:

        def counting(self, **entry):
            record(self, **entry)
            counts.append((entry["unit"], entry.get("batch"), len(compiled)))

        patch.setattr(Run, "record", counting)
        found = search(out=tmp_path_factory.mktemp("default") / "run", budget=6, **SMALL)
    return found, counts


@pytest.fixture(scope="module")
def rungs(tmp_path_factory):
    """Hyperband over 1 and 3 epochs."""
    out = tmp_path_factory.mktemp("hyperband") / "run"
    return search(out=out, **SMALL | HYPERBAND)


HYPERBAND = {"strategy": "hyperband", "epochs": 3, "budget": 3}


def test_each_batch_is_asked_for_then_trained(run):
    found, _ = run
    folder = found.directory
    assert units(folder) == [unit for n in "123" for unit in (("ask", None), ("epoch", n))]
    entries = asked(folder)
    assert [len(e["archs"]) for e in entries] == [2, 2, 2]
    assert all(e["epochs"] == [1, 1] for e in entries)
    assert len({arch for e in entries for arch in e["archs"]}) == 6
    assert entries[0]["expected"] == ["nan", "nan"]  # nothing was known
    for later in entries[1:]:
        assert np.isfinite(later["expected"]).all()
        assert (np.array(later["deviation"]) > 0).all()
    sizes = [len(e["train_loss"]) for e in journal_of(folder) if e["unit"] == "epoch"]
    assert sizes == [4, 2, 2]  # the largest and a random one beside the first
    assert not list(folder.glob("checkpoints/*/*"))


def test_the_best_of_all_that_was_asked_for_wins(run):
    found, _ = run
    reached = {}
    epochs = [e for e in journal_of(found.directory) if e["unit"] == "epoch"]
    for entry, epoch in zip(asked(found.directory), epochs, strict=True):
        for i, arch in enumerate(entry["archs"]):
            reached[arch] = (epoch["val_accuracy"][i], -epoch["val_loss"][i])
    assert found.arch == max(reached, key=reached.__getitem__)
    assert found.val_accuracy == max(reached.values())[0]
    roles = [c.role for c in found.trained]
    assert roles == ["candidate"] * 2 + ["largest", "random"] + ["candidate"] * 4


def test_a_later_batch_compiles_nothing(run):
    _, counts = run
    trained = {batch: n for unit, batch, n in counts if unit == "epoch"}
    assert trained["2"] > 0
    assert trained["3"] == trained["2"]


def test_the_report_shows_each_decision_and_the_front(run):
    found, _ = run
    page = (found.directory / "report.html").read_text()
    decisions = page.split('<section id="decisions"')[1].split("</section>")[0]
    assert "6 trainings were asked for in 3 batches" in decisions
    assert decisions.count("<tr") == 7
    assert decisions.count('class="interval"') == 2 * 4 + 1  # a wide and a narrow chart, the legend
    front = page.split('<section id="front"')[1].split("</section>")[0]
    assert front.count('class="plot"') == 2
    cost = page.split('<section id="cost"')[1].split("</section>")[0]
    assert "the best of 6 that the strategy asked for" in cost


@pytest.mark.parametrize(
    ("method", "what", "nth", "after"),
    [
        ("record", "train ask", 2, False),
        ("record", "train ask", 2, True),
        ("save_state", "train-2 1", 1, True),
        ("record", "train epoch", 2, True),
        ("drop_states", "train-2 0", 1, True),
        ("record", "train epoch", 3, False),
    ],
)
def test_dead_in_a_later_batch_then_resumed(method, what, nth, after, run, tmp_path):
    found, _ = run
    dead(tmp_path / "run", method, what, nth, after=after, budget=6)
    again = search(out=tmp_path / "run", resume=True, **RESUMED)
    assert result_of(again.directory) == result_of(found.directory)
    assert without_seconds(again.directory) == without_seconds(found.directory)
    assert [c.val_accuracy for c in again.trained] == [c.val_accuracy for c in found.trained]


def test_a_short_training_counts_by_its_share_and_the_longest_win(rungs):
    entries = asked(rungs.directory)
    lengths = [n for e in entries for n in e["epochs"]]
    assert set(lengths) == {1, 3}
    assert 3 * 3 - 2 <= sum(lengths) <= 3 * 3
    assert len(lengths) > 3
    winner = [c for c in rungs.trained if c.role == "candidate" and c.arch == rungs.arch]
    assert max(c.epochs[-1] for c in winner) == 3
    longest = [c for c in rungs.trained if c.role == "candidate" and len(c.epochs) == 3]
    assert rungs.val_accuracy == max(c.val_accuracy[-1] for c in longest)
    assert all(c.stopped == (len(c.epochs) < 3) for c in rungs.trained)
    baselines = [c for c in rungs.trained if c.role != "candidate"]
    assert [(c.role, len(c.epochs)) for c in baselines] == [("largest", 3), ("random", 3)]
    page = (rungs.directory / "report.html").read_text()
    assert "marks of shorter ones are hollow" in page


def test_dead_between_two_lengths_of_one_batch(rungs, tmp_path):
    # The first batch has trainings of one epoch and, were it only the baselines, of three.
    assert units(rungs.directory)[1:5] == [("epoch", f"1-{n}") for n in (1, 3, 3, 3)]
    dead(tmp_path / "run", "record", "train epoch", 3, after=True, **HYPERBAND)
    again = search(out=tmp_path / "run", resume=True, **RESUMED)
    assert without_seconds(again.directory) == without_seconds(rungs.directory)
    assert result_of(again.directory) == result_of(rungs.directory)


def rewritten(folder, spent):
    """The journal of a run with no seconds but `spent` for its only epoch."""
    entries = journal_of(folder)
    assert [e["unit"] for e in entries].count("epoch") == 1
    for entry in entries:
        if "seconds" in entry:
            run = spent if entry["unit"] == "epoch" else 0.0
            entry["seconds"] = {"run": run, "compile": 0.0}
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / "journal.jsonl").write_text(text)


@pytest.mark.parametrize(
    ("spent", "room"), [(3500.0, 0), (2800.0, 1), (1000.0, 2)]
)  # of 3,600 s, by four trainings
def test_a_time_goes_on_from_the_journals_seconds(spent, room, tmp_path):
    timed = {"budget": "1h", "strategy": "proxy", "rank": {"sample": 8, "proxies": "params"}}
    out = tmp_path / "run"
    dead(out, "record", "train epoch", 1, after=True, **timed)
    rewritten(out, spent)
    found = search(out=out, resume=True, **RESUMED)
    batches = [len(e["archs"]) for e in asked(out)]
    assert batches[1:2] == ([room] if room else [])
    again = search(out=out, resume=True, **RESUMED)
    assert [len(e["archs"]) for e in asked(out)] == batches  # a finished run is not trained further
    assert again.arch == found.arch


def test_a_time_that_ranking_has_spent_still_trains_one_batch(tmp_path):
    found = search(out=tmp_path / "run", budget="0.001s", strategy="proxy", **SMALL)
    assert units(found.directory) == [("ask", None), ("epoch", "1")]


@pytest.mark.parametrize(("budget", "expected"), [(1, [1]), (3, [2, 1]), (1000, [2, 2, 1])])
def test_budgets_that_are_no_multiple_of_a_batch(budget, expected, tmp_path):
    options = SMALL | {"rank": {"sample": 5, "proxies": "params"}, "strategy": "random"}
    found = search(out=tmp_path / "run", budget=budget, **options)
    made = [len(e["archs"]) for e in asked(found.directory)]
    pool = re.search(r"of (\d+) architectures that", (found.directory / "report.html").read_text())
    most = int(pool[1] if pool else 0)
    assert sum(made) == min(budget, most)
    assert made == expected or (most < 5 and sum(made) == most)


def test_limits_are_kept_by_all_that_is_asked_for_and_drawn(run, tmp_path):
    found, _ = run
    limit = sorted(c.params for c in found.trained if c.role == "candidate")[2]
    kept = search(out=tmp_path / "run", budget=4, strategy="random", max_params=limit, **SMALL)
    sizes = [c.params for c in kept.trained if c.role == "candidate"]
    assert max(sizes) <= limit
    assert kept.values["params"] <= limit
    assert max(c.params for c in found.trained if c.role == "candidate") > limit
    page = (kept.directory / "report.html").read_text()
    assert page.count('class="ceiling"') == 1
    assert "that compute different functions and keep the limits." in page
    with pytest.raises(InputError, match=r"keeps the limits; the nearest, .* has .* \(at most 1\)"):
        search(out=tmp_path / "none", max_params=1, **SMALL)


class Scripted(Strategy):
    """Asks for given rows, and keeps what it is told."""

    name = "scripted"
    paper = "none"
    traced = False
    rows = ((0, 0), (1, 0))
    told: ClassVar[list] = []

    def init(self, task, key):
        self.told.clear()
        return 0

    def ask(self, task, state, n):
        return Asked(jnp.asarray(self.rows[state][:n]), jnp.full(n, task.full))

    def tell(self, task, state, asked, told):
        self.told.append((np.asarray(told.fitness), np.asarray(told.failed)))
        return state + 1


def test_what_is_asked_for_again_is_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setitem(STRATEGIES, "scripted", Scripted)
    found = search(out=tmp_path / "run", budget=4, strategy="scripted", **SMALL)
    losses = [e["train_loss"] for e in journal_of(found.directory) if e["unit"] == "epoch"]
    assert [len(values) for values in losses] == [3, 1]
    (first, _), (second, failed) = Scripted.told
    assert first[0] == first[1] == second[1]
    assert not failed.any()
    assert [c.role for c in found.trained].count("candidate") == 2


def test_who_diverged_is_told_as_failed_and_never_as_a_number(tmp_path, monkeypatch):
    monkeypatch.setitem(STRATEGIES, "scripted", Scripted)
    monkeypatch.setattr(Scripted, "rows", ((0, 1), (2, 3)))
    train = stage.train_resumably

    def broken(*args, **kwargs):
        trained = train(*args, **kwargs)
        for metrics in trained.curves:
            for values in metrics:
                values[0] = np.nan
        return trained

    monkeypatch.setattr(stage, "train_resumably", broken)
    found = search(out=tmp_path / "run", budget=4, strategy="scripted", **SMALL)
    assert len(Scripted.told) == 2
    for fitness, failed in Scripted.told:
        assert failed.tolist() == [True, False]
        assert np.isfinite(fitness).all()
    assert found.arch in [c.arch for c in found.trained if not c.diverged]
    page = (found.directory / "report.html").read_text()
    assert page.count('class="failed"') == 2 * 2 + 1
    assert "2 failed (their loss stopped being a number)" in page


def test_where_all_diverge_it_is_said_after_the_budget_is_spent(tmp_path):
    options = SMALL | {"train": {"baselines": 1, "learning_rate": 1e30}}
    with pytest.raises(InputError, match="every candidate diverged"):
        search(out=tmp_path / "run", budget=4, strategy="regularized_evolution", **options)
    assert len(asked(tmp_path / "run")) == 2


@pytest.mark.parametrize("command", ["strategies", "predictors"])
def test_each_command_lists_its_registry_with_papers(command, capsys):
    from importlib import import_module

    module = import_module(f"jaxnas.{command}")
    assert import_module(f"jaxnas.{command}.__main__").main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if re.match(r"  \S", line)]
    registry = getattr(module, command.upper())
    assert names == list(registry)
    for member in registry.values():
        assert any(line.strip() == member.paper for line in lines)
    assert any("=" in line for line in lines)
