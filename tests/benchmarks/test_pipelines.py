"""The pipeline beside fixed networks: who gets how much, and what is printed."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxnas.benchmarks import pipelines
from jaxnas.search_spaces import get_space
from jaxnas.spaces import Size

SMALL = [
    "proxies=params",
    "sample=20",
    "train.epochs=1",
    "train.top=1",
    "train.budget=1",
    "train.baselines=0",
    "tune.epochs=1",
    "tune.members=2",
    "augment.policies=none,flip_crop",
    "finish.epochs=2",
    "channels=4",
    "batch_size=16",
    "data.val_fraction=0.4",
]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pipelines")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 120, (60, 8, 8, 1)).astype(np.uint8)
    np.savez(directory / "mine.npz", x_train=x, y_train=np.arange(60) % 3)
    out = directory / "runs"
    return ["--data", str(directory / "mine.npz"), "--seeds", "0", "--out", str(out)], out


def run(given, variants, *more):
    return pipelines.main([*given[0], "--variants", variants, *more, *SMALL])


def test_a_fixed_network_gets_the_multiply_adds_of_the_whole_pipeline(given, capsys):
    assert run(given, "resnet20") == 2
    assert "let full be the first of --variants" in capsys.readouterr().err
    assert run(given, "full,random_cell") == 0
    full, fixed = json.loads((given[1] / "results.json").read_text())
    assert (full["variant"], fixed["variant"]) == ("full", "random_cell")
    each = json.loads((given[1] / "random_cell-0" / "result.json").read_text())
    epochs = each["config"]["finish"]["epochs"]
    # What is left over does not pay for one more epoch of the last training.
    epoch = each["multiply_adds"]["finish"] / epochs / 1e12
    assert epochs > 2
    assert full["T multiply-adds"] - epoch < fixed["T multiply-adds"] <= full["T multiply-adds"]
    assert "random_cell    test" in capsys.readouterr().out


def test_a_fixed_network_that_costs_more_is_finished_as_long(given):
    keys = {"data": given[0][1], **dict(word.split("=", 1) for word in SMALL)}
    asked = keys | pipelines.variant("resnet20", 0, given[1] / "full-0")
    assert pipelines.paid_alike(asked, given[1] / "full-0")["finish.epochs"] == 2


def test_the_residual_network_has_the_size_of_the_published_one():
    asked = pipelines.variant("resnet20", 0, Path("full-0"))
    space = get_space("nasbench201")
    size = Size(channels=asked["channels"], cells=tuple(asked["cells"]), resolution=32)
    archs = space.pruned(space.from_string(asked["arch"])[None])
    network = space.network(size, classes=10)
    params = int(network.count(space.rows(archs)).params[0])
    assert params == pytest.approx(270_000, rel=0.02)  # arXiv:1512.03385, table 6: 0.27M


def test_what_is_finished_is_not_run_again(given, capsys):
    assert run(given, "full") == 0
    (before,) = json.loads((given[1] / "results.json").read_text())
    lines = (given[1] / "full-0" / "journal.jsonl").read_text()
    assert run(given, "full") == 0
    assert (given[1] / "full-0" / "journal.jsonl").read_text() == lines
    assert json.loads((given[1] / "results.json").read_text()) == [before]


def test_without_a_stage_the_search_is_not_done_again(given, capsys):
    assert run(given, "full,neither") == 0
    full, neither = json.loads((given[1] / "results.json").read_text())
    assert neither["arch"] == full["arch"]
    assert {"tune", "augment", "finish"} <= set(full)
    stages = json.loads((given[1] / "neither-0" / "result.json").read_text())["multiply_adds"]
    assert list(stages) == ["finish"]
    whole = pipelines.variant("neither", 1, given[1] / "full-1")
    assert whole == {"pipeline": ["rank", "train", "finish"]}


def test_unknown_variants_and_keys_are_refused(given, capsys):
    assert run(given, "ful") == 2
    assert "full" in capsys.readouterr().err
    assert run(given, "no_tune", "finish.epoch=3") == 2
    assert "finish.epochs" in capsys.readouterr().err
