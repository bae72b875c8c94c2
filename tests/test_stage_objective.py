"""Metrics, class weights and losses, from the configuration through the stages."""

import numpy as np
import pytest
from searching import fewer, journal_of
from sklearn.metrics import balanced_accuracy_score
from staged import ARCH, SMALL, data, run

import jaxnas
from jaxnas.data.load import from_arrays
from jaxnas.errors import InputError
from jaxnas.search import search

UNUSUAL = {"metric": "balanced_accuracy", "class_weights": "balanced", "loss": "focal"}


class TestObjective:
    def test_metric_and_weights_hold_in_every_stage(self, tmp_path):
        """Classes of 90, 40 and 20 images, of which a network of few steps takes the first for all."""
        x, y = data(270)
        counts = np.array([90, 40, 20])
        rare = np.concatenate([np.flatnonzero(y == k)[:n] for k, n in enumerate(counts)])
        results, losses = [], ({}, {})
        for name, options, seen in zip("ab", (UNUSUAL, {}), losses, strict=True):
            with pytest.MonkeyPatch.context() as patch:
                fewer(patch, 60)
                result = search(
                    "nasbench201",
                    (x[rare], y[rare]),
                    out=tmp_path / name,
                    quiet=True,
                    **SMALL | options,
                )
            results.append(result)
            for entry in journal_of(result.directory):
                if entry["unit"] == "epoch":
                    seen.setdefault(entry["stage"], []).append(entry)
        mine, usual = losses
        assert mine.keys() == usual.keys() == {"train", "tune", "augment", "finish"}
        for stage, entries in mine.items():
            assert any(e["val_metric"] != e["val_accuracy"] for e in entries), stage
            assert all(e["val_metric"] == e["val_accuracy"] for e in usual[stage]), stage
            assert entries[0]["train_loss"] != usual[stage][0]["train_loss"], stage
        values = results[0].values
        held = from_arrays(x[rare], y[rare], split_seed=0, val_fraction=0.2, test_fraction=0.2)
        found = jaxnas.load(results[0].exported).predict(held.test.x)
        names = np.array(held.class_names)[held.test.y]
        assert values["test_metric"] == pytest.approx(balanced_accuracy_score(names, found))
        assert values["val_metric"] == pytest.approx(mine["finish"][-1]["val_metric"][0])

    def test_a_tuner_is_told_the_metric(self, tmp_path):
        """With nothing learned all are taken for one class, of which accuracy and mean recall differ."""
        x, y = data(150)
        rare = np.flatnonzero((y == 0) | (np.arange(150) < 45))
        tune = {"tuner": "random", "members": 2, "epochs": 1, "confirm": 0}
        told = []
        for name, options in (("a", {"metric": "balanced_accuracy"}), ("b", {})):
            search(
                "nasbench201",
                (x[rare], y[rare]),
                out=tmp_path / name,
                quiet=True,
                **SMALL
                | {"arch": ARCH, "pipeline": ["tune"], "tune": tune, "batch_size": 16}
                | options,
            )
            (entry,) = (e for e in journal_of(tmp_path / name) if e["stage"] == "tune")
            told.append(entry["fitness"])
        assert told[0] != told[1]

    def test_a_loss_of_ones_own(self, tmp_path, monkeypatch):
        (tmp_path / "my_losses.py").write_text(
            "import jax.numpy as jnp\n"
            "def squared(logits, targets):\n"
            "    return jnp.square(logits - targets).sum(-1)\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        mine = run(tmp_path / "a", arch=ARCH, pipeline=["finish"], loss="my_losses:squared")
        usual = run(tmp_path / "b", arch=ARCH, pipeline=["finish"])
        assert mine.trained[-1].train_loss != usual.trained[-1].train_loss

    def test_super_nets_refuse_another_one(self, tmp_path):
        with pytest.raises(InputError, match=r"train\.trainer spos trains one super-net by cross"):
            run(tmp_path / "run", metric="f1", train={"trainer": "spos"})
