"""The pipeline's later stages: tune, augment, finish and export, together, alone, killed and resumed."""

import json

import numpy as np
import pytest
import yaml
from helpers import assert_trees_equal
from searching import Killed, fewer, images, journal_of, kill_at, result_of
from sklearn.metrics import balanced_accuracy_score

import jaxnas
from jaxnas.errors import InputError
from jaxnas.search import main, search

SMALL = {
    "preset": "full",
    "channels": 4,
    "cells": 1,
    "resolution": 8,
    "epochs": 2,
    "top": 2,
    "train": {"baselines": 0, "budget": 2},
    "tune": {"tuner": "pbt:interval=1", "members": 2, "epochs": 2},
    "augment": {"policies": ["none", "flip_crop"], "search": ["pba"], "members": 2, "epochs": 2},
    "export": {"formats": ["safetensors"]},
}
ARCH = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"


def data(n=150, classes=3):
    x, y = images(n, 8, 8, 3, classes=classes)
    return x, y


def run(out, **options):
    with pytest.MonkeyPatch.context() as patch:
        fewer(patch, 60)
        return search("nasbench201", data(), out=out, quiet=True, **SMALL | options)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return run(folder)


class TestWhole:
    def test_every_stage_leaves_what_it_found(self, undisturbed):
        values, folder = undisturbed.values, undisturbed.directory
        assert set(values["tuned"]) == {
            "learning_rate",
            "weight_decay",
            "label_smoothing",
            "momentum",
        }
        assert len({len(v) for v in values["tuned"].values()} - {1, 2}) == 0
        assert values["policy"] in ("none", "flip_crop", "pba")
        assert list(values["seconds"]) == ["rank", "train", "tune", "augment", "finish", "export"]
        # Two candidates for 2 epochs each; the winner by 2 members for 2 and twice for 1 to confirm, with
        # 3 policies for 2, and at last for 2; a step is three forward passes.
        candidates = [c.macs for c in undisturbed.trained if c.role == "candidate"]
        images, macs = 3 * len(_held().train), values["macs"]
        assert values["multiply_adds"] == {
            "train": images * 2 * sum(candidates),
            "tune": images * 6 * macs,
            "augment": images * 6 * macs,
            "finish": images * 2 * macs,
        }
        schedule = json.loads((folder / "schedule.json").read_text())
        assert [sum(e["which"]) * e["units"] for e in schedule["events"]] == [2, 2]

    def test_the_journal_has_each_unit_once(self, undisturbed):
        units = [(e["stage"], e["unit"]) for e in journal_of(undisturbed.directory)]
        assert units.count(("tune", "segment")) == 2
        assert units.count(("tune", "epoch")) == 1
        assert units.count(("augment", "found")) == 1
        assert units.count(("augment", "epoch")) == 2
        assert units.count(("finish", "epoch")) == 2
        assert units.count(("finish", "test")) == units.count(("export", "done")) == 1

    def test_the_exported_network_is_the_one_that_was_tested(self, undisturbed):
        classifier = jaxnas.load(undisturbed.exported)
        assert classifier.arch == undisturbed.arch
        x, y = _test_images()
        judged = np.mean(classifier.predict(x) == y)
        assert judged == pytest.approx(undisturbed.test_accuracy)

    def test_finish_trains_with_what_was_found(self, tmp_path):
        """The winner trained alone with the tuned values by hand: the same curve."""
        fixed = {"policies": ["none", "flip_crop"], "epochs": 2}
        tune = {"tuner": "random", "members": 2, "epochs": 2}
        whole = run(tmp_path / "a", tune=tune, augment=fixed)
        found = {k: v[0] for k, v in whole.values["tuned"].items()}
        assert all(len(set(v)) == 1 for v in whole.values["tuned"].values())
        alone = run(
            tmp_path / "b",
            pipeline=["finish"],
            arch=whole.arch,
            finish={**found, "augment": whole.values["policy"]},
        )
        mine, theirs = whole.trained[-1], alone.trained[-1]
        np.testing.assert_allclose(mine.train_loss, theirs.train_loss, rtol=1e-4)


def _held():
    from jaxnas.data.load import from_arrays

    return from_arrays(*data(), split_seed=0, val_fraction=0.2, test_fraction=0.2)


def _test_images():
    held = _held()
    return held.test.x, np.array(held.class_names)[held.test.y]


PLACES = [
    ("record", "tune segment", 1, False),
    ("record", "tune segment", 1, True),
    ("save_state", "tune 2", 1, True),
    ("record", "tune epoch", 1, True),
    ("record", "augment found", 1, True),
    ("record", "augment epoch", 1, True),
    ("record", "finish epoch", 1, False),
    ("record", "export done", 1, False),
    ("write", "report.html", 1, False),
]


class TestKilled:
    @pytest.mark.parametrize(("method", "what", "nth", "after"), PLACES, ids=str)
    def test_resumed_it_ends_as_undisturbed(self, method, what, nth, after, undisturbed, tmp_path):
        out = tmp_path / "run"
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, method, what, nth, after=after)
            with pytest.raises(Killed):
                run(out)
        resumed = run(out, resume=True)
        expected, found = result_of(undisturbed.directory), result_of(out)
        for result in (expected, found):
            result.pop("export")
        assert found == expected
        a, b = (jaxnas.load(r.exported) for r in (undisturbed, resumed))
        assert_trees_equal(a.variables, b.variables)


class TestAlone:
    def test_a_stage_works_on_an_architecture_that_is_given(self, tmp_path):
        options = {k: v for k, v in SMALL.items() if k != "preset"}
        result = search(
            "nasbench201", data(), out=tmp_path / "run", quiet=True, arch=ARCH, **options
        )
        assert result.arch == ARCH
        assert list(result.values["seconds"]) == ["finish"]
        assert "<html" in (tmp_path / "run" / "report.html").read_text()

    def test_an_average_of_weights_can_be_tuned_and_is_finished_with(self, tmp_path):
        space = tmp_path / "ema.yaml"
        space.write_text(
            "search_space:\n"
            "  hyperparameters:\n"
            "    - key: ema\n"
            "      type: FLOAT\n"
            "      range: [0.5, 0.9]\n"
        )
        tune = {"tuner": "random", "members": 2, "epochs": 1, "confirm": 0, "space": str(space)}
        result = run(tmp_path / "run", arch=ARCH, pipeline=["tune", "finish"], tune=tune)
        (ema,) = result.values["tuned"]["ema"]
        assert 0.5 <= ema <= 0.9
        assert result.test_accuracy is not None

    @pytest.mark.parametrize("confirm", [0, 8])
    def test_what_is_tuned_is_kept_where_it_is_better_than_what_is_configured(
        self, tmp_path, confirm
    ):
        space = tmp_path / "space.yaml"
        key = "key: learning_rate, type: FLOAT, range: [1.0e-9, 2.0e-9]"
        space.write_text(f"search_space: {{hyperparameters: [{{{key}}}]}}\n")
        tune = {
            "tuner": "random",
            "members": 2,
            "epochs": 1,
            "confirm": confirm,
            "space": str(space),
        }
        result = run(tmp_path / "run", arch=ARCH, pipeline=["tune"], tune=tune)
        (rate,) = result.values["tuned"]["learning_rate"]
        page = (result.directory / "report.html").read_text()
        if confirm:
            assert rate == pytest.approx(0.1)
            assert "the latter is taken" in page
            (last,) = [e for e in journal_of(result.directory) if e.get("epoch") == confirm]
            assert last["val_metric"][0] < last["val_metric"][1], last
        else:
            assert rate < 1e-8
            assert "the latter is taken" not in page

    def test_tune_alone_says_what_it_found(self, tmp_path):
        result = run(tmp_path / "run", arch=ARCH, pipeline=["tune"])
        assert set(result.values["tuned"]) >= {"learning_rate"}
        assert result.test_accuracy is None

    def test_one_file_describes_it_all(self, tmp_path, undisturbed):
        written = yaml.safe_load((undisturbed.directory / "config.yaml").read_text())
        assert written["preset"] == "full"
        assert written["tune"]["tuner"] == "pbt:interval=1"
        assert {"rank", "train", "tune", "augment", "finish", "export", "objective"} <= set(written)


class TestObjective:
    def test_metric_and_weights_hold_in_every_stage(self, tmp_path):
        result = run(
            tmp_path / "run",
            metric="balanced_accuracy",
            class_weights="balanced",
            loss="focal",
            pipeline=["rank", "train", "tune", "finish", "export"],
        )
        values = result.values
        entries = [e for e in journal_of(result.directory) if e["unit"] == "epoch"]
        assert all("val_metric" in e for e in entries)
        x, y = _test_images()
        found = jaxnas.load(result.exported).predict(x)
        assert values["test_metric"] == pytest.approx(balanced_accuracy_score(y, found))
        assert values["val_metric"] == pytest.approx(entries[-1]["val_metric"][0])

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


class TestLastTraining:
    def test_it_stops_early_and_says_so_by_its_length(self, tmp_path):
        finish = {"patience": 1, "epochs": 30, "learning_rate": 1e-9, "augment": "none"}
        result = run(tmp_path / "run", arch=ARCH, pipeline=["finish"], finish=finish)
        assert result.trained[-1].epochs == (1, 2)
        resumed = run(tmp_path / "run", arch=ARCH, pipeline=["finish"], finish=finish, resume=True)
        assert resumed.values["test_accuracy"] == result.values["test_accuracy"]

    @pytest.mark.parametrize(
        "options",
        [
            {"optimizer": "adamw", "learning_rate": 3e-3, "schedule": "one_cycle"},
            {"ema": 0.9, "label_smoothing": 0.1},
            {"drop_path": 0.2, "distortion": 0.1, "dropout": 0.1},
            {"augment": "randaugment:n=1"},
        ],
        ids=lambda o: next(iter(o)),
    )
    def test_killed_and_resumed_it_is_the_same(self, options, tmp_path):
        finish = {"epochs": 3} | options
        asked = {"arch": ARCH, "pipeline": ["finish", "export"], "finish": finish}
        whole = run(tmp_path / "a", **asked)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, "record", "finish epoch", 2, after=True)
            with pytest.raises(Killed):
                run(tmp_path / "b", **asked)
        again = run(tmp_path / "b", **asked, resume=True)
        assert_trees_equal(
            jaxnas.load(whole.exported).variables, jaxnas.load(again.exported).variables
        )

    def test_a_teacher_is_learned_from(self, undisturbed, tmp_path):
        taught = {"teacher": str(undisturbed.exported), "distill": 0.9, "augment": "none"}
        with_teacher = run(tmp_path / "a", arch=ARCH, pipeline=["finish"], finish=taught)
        without = run(tmp_path / "b", arch=ARCH, pipeline=["finish"], finish={"augment": "none"})
        assert with_teacher.trained[-1].train_loss != without.trained[-1].train_loss

    def test_a_teacher_of_other_classes_is_refused(self, undisturbed, tmp_path):
        with pytest.raises(InputError, match=r"The teacher in .* knows 3 classes .* has 4"):
            search(
                "nasbench201",
                data(160, classes=4),
                out=tmp_path / "run",
                quiet=True,
                **SMALL | {"finish": {"teacher": str(undisturbed.exported)}},
            )
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tune": {"tuner": "pbtt"}}, "Unknown tuner 'pbtt'; did you mean pbt"),
        ({"tune": {"tuner": "pbt", "storage": "x.db"}}, "tuner pbt keeps no study"),
        ({"augment": {"policies": ["flip_crop", "rand"]}}, "Unknown augmentation policy 'rand'"),
        ({"augment": {"search": ["pda"]}}, "Unknown search of policies 'pda'; did you mean"),
        ({"augment": {"policies": ["none", "none"]}}, "are not all different"),
        ({"finish": {"teacher": "nowhere"}}, "nowhere"),
        ({"export": {"formats": ["onx"]}}, "Unknown export format 'onx'; did you mean onnx"),
        ({"class_weights": "1,2"}, "expected 3 numbers above 0, one a class"),
        ({"arch": "|what|", "pipeline": ["finish"]}, "what"),
    ],
    ids=str,
)
def test_bad_input_is_refused_before_anything_is_made(options, says, tmp_path):
    with pytest.raises(InputError) as caught:
        run(tmp_path / "run", **options)
    assert says in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_export_directory_in_use_costs_nothing(tmp_path, capsys):
    used = tmp_path / "used"
    used.mkdir()
    (used / "file").write_text("mine")
    with pytest.raises(InputError, match="used"):
        run(tmp_path / "run", export={"dir": str(used), "formats": ["safetensors"]})
    assert (used / "file").read_text() == "mine"
    assert not (tmp_path / "run").exists()


def test_a_study_of_another_space_is_refused_before_anything_is_ranked(tmp_path):
    pytest.importorskip("optuna")
    study = str(tmp_path / "study.db")
    tune = {"tuner": "tpe", "storage": study, "members": 2, "epochs": 1}
    run(tmp_path / "a", arch=ARCH, pipeline=["tune"], tune=tune)
    other = tmp_path / "rate.yaml"
    other.write_text(
        "search_space:\n"
        "  hyperparameters:\n"
        "    - key: learning_rate\n"
        "      type: FLOAT_EXP\n"
        "      range: [0.01, 1]\n"
    )
    with pytest.raises(InputError, match="belongs to another space"):
        run(tmp_path / "b", tune=tune | {"space": str(other)})
    assert not (tmp_path / "b").exists()


def test_another_run_of_the_same_seed_in_a_study_is_not_taken_for_this_one(tmp_path):
    pytest.importorskip("optuna")
    tune = {
        "tuner": "tpe",
        "storage": str(tmp_path / "study.db"),
        "members": 2,
        "epochs": 1,
        "confirm": 0,
    }
    for name in ("a", "b"):
        run(tmp_path / name, arch=ARCH, pipeline=["tune"], tune=tune)
        units = [e["unit"] for e in journal_of(tmp_path / name) if e["stage"] == "tune"]
        assert units == ["segment"]


def test_event_files_have_the_curves(tmp_path):
    pytest.importorskip("tensorboardX")
    run(tmp_path / "run", arch=ARCH, pipeline=["finish"], tensorboard=True)
    files = list((tmp_path / "run" / "tensorboard").iterdir())
    assert len(files) == 1
    written = files[0].read_bytes()
    assert b"finish/train_loss" in written
    assert b"finish/val_accuracy" in written


def test_help_names_the_stages(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"--{s}." in said for s in ("tune", "augment", "finish", "export", "objective"))
