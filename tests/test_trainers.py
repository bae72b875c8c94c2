"""The search's other trainers: one super-net for all candidates, and successive halving."""

import re

import numpy as np
import pytest
from searching import TINY, Killed, images, journal_of, result_of

from jaxnas import config
from jaxnas.errors import InputError
from jaxnas.runs import Run
from jaxnas.search import search
from jaxnas.supernet.__main__ import main
from jaxnas.supernet.differentiable.search import STRATEGIES
from jaxnas.supernet.train import TRAINERS
from jaxnas.training.fidelity import MEASURES

SHARED = {
    **TINY,
    "quiet": True,
    "stages": "rank,train",
    "rank": {"sample": 30, "proxies": "params"},
    "train": {"baselines": 1, "sample": 12},
    "data": images(120, 8, 8, 1),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An undisturbed search by each of two trainers."""
    made = {}
    for trainer in ("spos", "gdas"):
        out = tmp_path_factory.mktemp(trainer) / "run"
        made[trainer] = search("nasbench201", trainer=trainer, out=out, **SHARED)
    return made


def epochs_of(directory):
    return [e for e in journal_of(directory) if e["stage"] == "train" and e["unit"] == "epoch"]


def test_a_name_is_one_way_to_train():
    # The population, and all of it in one run, are no super-nets.
    assert len(set(config.trainers())) == 2 + len(TRAINERS) + len(STRATEGIES)


def test_another_line_of_a_registry_is_another_trainer(monkeypatch):
    mine = {"train.trainer": "mine"}
    with pytest.raises(InputError, match="Unknown trainer 'mine'"):
        config.build(mine)
    for registry, member in ((TRAINERS, TRAINERS["spos"]), (STRATEGIES, STRATEGIES["gdas"])):
        monkeypatch.setitem(registry, "mine", member)
        assert config.build(mine).train.trainer == "mine"
        monkeypatch.undo()


def test_every_trainer_is_listed_with_its_paper(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert set(listed) == {*TRAINERS, *STRATEGIES}
    assert all("arXiv:" in line for line in listed.values())
    for name, trainer in TRAINERS.items():
        assert trainer.paper.split("arXiv:")[1] in listed[name]
    assert listed["darts_v2"].endswith("second_order=True")


def test_the_best_path_of_a_super_net_wins(runs):
    found = runs["spos"]
    roles = [c.role for c in found.trained]
    assert roles == ["candidate"] * 2 + ["largest", "random"]
    accuracies = [c.val_accuracy[-1] for c in found.trained]
    assert found.arch == found.trained[0].arch
    assert found.val_accuracy == accuracies[0] >= accuracies[1]
    evaluated = [e for e in journal_of(found.directory) if e["unit"] == "inherited"]
    every = np.concatenate([e["accuracy"] for e in evaluated])
    # The best of the ranking, the baselines and what was drawn: equal ones once.
    assert 10 <= len(every) <= 16
    assert accuracies[0] <= every.max()
    assert found.trained[2].params == max(c.params for c in found.trained[1:])


def test_a_super_net_is_trained_epoch_by_epoch_and_the_report_draws_it(runs):
    for trainer, names in (("spos", 1), ("gdas", 4)):
        directory = runs[trainer].directory
        entries = epochs_of(directory)
        assert [e["epoch"] for e in entries] == [1, 2]
        page = (directory / "report.html").read_text()
        section = page.split('id="super-net"')[1].split("</section>")[0]
        assert section.count("<figure") == names
        assert ("share of skips" in section) == (trainer == "gdas")


def test_what_gradients_find_wins_and_collapse_is_watched(runs, space):
    found = runs["gdas"]
    last = epochs_of(found.directory)[-1]
    assert found.arch == space.to_string(space.pruned(space.from_string(last["arch"])[None])[0])
    row = space.from_string(last["arch"])
    connections = row[row > 0]
    assert last["share_of_skips"] == pytest.approx(
        (connections == 1).mean() if len(connections) else 0
    )
    assert [c.role for c in found.trained] == ["candidate"]


@pytest.mark.parametrize("trainer", ["spos", "gdas"])
def test_killed_after_an_epoch_and_resumed_as_undisturbed(runs, trainer, tmp_path, monkeypatch):
    record = Run.record

    def dies(self, **entry):
        record(self, **entry)
        if entry["unit"] == "epoch":
            raise Killed

    monkeypatch.setattr(Run, "record", dies)
    with pytest.raises(Killed):
        search("nasbench201", trainer=trainer, out=tmp_path / "run", **SHARED)
    monkeypatch.undo()
    kept = {k: v for k, v in SHARED.items() if k in ("data", "quiet")}
    again = search(out=tmp_path / "run", resume=True, **kept)
    whole = runs[trainer]
    assert result_of(again.directory) == result_of(whole.directory)
    assert [c.val_accuracy for c in again.trained] == [c.val_accuracy for c in whole.trained]
    assert len(epochs_of(again.directory)) == 2


def test_halving_stops_the_worse_and_reports_them(tmp_path):
    options = {**SHARED, "train": {"baselines": 0, "halving": 2}, "top": 4, "epochs": 3}
    found = search("nasbench201", out=tmp_path / "run", **options)
    lasted = sorted(len(c.epochs) for c in found.trained)
    assert lasted == [1, 1, 2, 3]
    assert [c.stopped for c in found.trained] == [len(c.epochs) < 3 for c in found.trained]
    assert not any(c.diverged for c in found.trained)
    first = {c.arch: c.val_accuracy[0] for c in found.trained}
    went_on = [first[c.arch] for c in found.trained if len(c.epochs) > 1]
    assert min(went_on) >= max(first[c.arch] for c in found.trained if len(c.epochs) == 1)
    (winner,) = [c for c in found.trained if len(c.epochs) == 3]
    assert found.arch == winner.arch
    assert (found.directory / "report.html").read_text().count("stopped after 1<") == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trainer": "spot"}, "Unknown trainer 'spot'; did you mean spos"),
        ({"train": {"halving": 1}}, "train.halving is 1, expected 0 (none) or at least 2"),
        ({"train": {"measure": "sot"}}, "Unknown measure 'sot'; did you mean sotl"),
        ({"train": {"dtype": "float16"}}, "Unknown dtype 'float16'"),
    ],
)
def test_what_is_refused(options, said, tmp_path):
    with pytest.raises(InputError, match=re.escape(said)):
        search("nasbench201", out=tmp_path / "run", **{**SHARED, **options})
    assert not (tmp_path / "run").exists()


def test_measures_are_those_of_the_help_and_the_trainers_it_names_exist():
    text = config.TrainConfig.__doc__ or ""
    assert all(name in text for name in MEASURES)
    examples = re.findall(r"\bas (\w+) \(", text)
    assert [sum(e in registry for e in examples) for registry in (TRAINERS, STRATEGIES)] == [1, 1]
