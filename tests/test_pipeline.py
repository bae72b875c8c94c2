"""The pipeline's later stages: tune, augment, finish and export, together, alone, killed and resumed."""

import json
import re
from importlib import import_module

import numpy as np
import pytest
import yaml
from helpers import assert_trees_equal
from searching import Killed, journal_of, kill_at, result_of
from staged import ARCH, SMALL, data, run

import jaxnas
from jaxnas.augment import get_policy, to_json
from jaxnas.augment.search import SEARCHES, Found
from jaxnas.backend import choices
from jaxnas.config import build, flatten
from jaxnas.console import Screen
from jaxnas.data.load import from_arrays
from jaxnas.errors import InputError
from jaxnas.search import main, search
from jaxnas.search_spaces import get_space
from jaxnas.stages.finish import _capacity
from jaxnas.stages.job import Job


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
    return from_arrays(*data(), split_seed=0, val_fraction=0.2, test_fraction=0.2)


def _test_images():
    held = _held()
    return held.test.x, np.array(held.class_names)[held.test.y]


PLACES = [
    ("record", "tune segment", 1, False),
    ("record", "tune segment", 1, True),
    ("save_state", "tune 2", 1, True),
    ("record", "tune epoch", 1, True),
    ("record", "augment search", 1, True),
    ("save_state", "augment-pba 2", 1, True),
    ("record", "augment found", 1, True),
    ("record", "augment epoch", 1, True),
    ("record", "finish epoch", 1, False),
    ("record", "export written", 1, True),
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
        assert not list(out.glob(".export*"))


FINISH = import_module("jaxnas.stages.finish")  # the package has the function by that name
LAST = {"arch": ARCH, "pipeline": ["finish", "export"]}


class TestResumed:
    """What a run that goes on may find changed."""

    def killed(self, out, what, *, after=False, **options):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, "record", what, after=after)
            with pytest.raises(Killed):
                run(out, **LAST | options)

    def test_the_model_of_another_run_is_not_touched(self, tmp_path):
        place = tmp_path / "model"
        export = {"formats": ["safetensors"], "dir": str(place)}
        self.killed(tmp_path / "a", "export written", export=export)
        assert not place.exists()
        run(tmp_path / "b", **LAST, export=export, seed=1)
        theirs = (place / "model.json").read_bytes()
        with pytest.raises(InputError, match="holds"):
            run(tmp_path / "a", **LAST, export=export, resume=True)
        assert (place / "model.json").read_bytes() == theirs

    def test_its_export_is_where_it_was_meant_to_be(self, tmp_path, monkeypatch):
        (tmp_path / "first").mkdir()
        (tmp_path / "second").mkdir()
        monkeypatch.chdir(tmp_path / "first")
        self.killed(
            tmp_path / "a", "export written", export={"formats": ["safetensors"], "dir": "model"}
        )
        monkeypatch.chdir(tmp_path / "second")
        resumed = run(tmp_path / "a", resume=True)
        assert resumed.exported == tmp_path / "first" / "model"
        assert (resumed.exported / "model.json").is_file()
        assert not list((tmp_path / "second").iterdir())

    def test_a_file_that_was_read_may_not_change(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.json").write_text(to_json(get_policy("flip_crop")))
        self.killed(tmp_path / "a", "finish epoch", finish={"augment": "mine.json"})
        (tmp_path / "mine.json").write_text(to_json(get_policy("none")))
        with pytest.raises(InputError, match=r"--resume: finish\.augment .*mine\.json has changed"):
            run(tmp_path / "a", resume=True)

    def test_segments_of_other_values_are_refused(self, tmp_path):
        asked = {"arch": ARCH, "pipeline": ["tune"]}
        run(tmp_path / "a", **asked)
        journal = tmp_path / "a" / "journal.jsonl"
        entries = journal_of(tmp_path / "a")
        first = next(e for e in entries if (e["stage"], e["unit"]) == ("tune", "segment"))
        first["hyper"][1][0] += 0.01
        journal.write_text("".join(json.dumps(e) + "\n" for e in entries))
        with pytest.raises(InputError, match="Segment 1 of the journal trained other hyper-param"):
            run(tmp_path / "a", **asked, resume=True)


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

    def test_stages_begin_with_what_the_architecture_brings(self, tmp_path, monkeypatch):
        """The space describes a learning rate: tune compares with it, and policies are searched at it."""
        described = tmp_path / "own.yaml"
        described.write_text(
            "model:\n"
            "  modules: [net]\n"
            "  net:\n"
            "    type: ConvNet\n"
            "    stem: {channels: 4}\n"
            "    cells: [{name: only, block: conv, channels: 4}]\n"
            "search_space:\n"
            "  hyperparameters:\n"
            "    - {key: net.only.kernel, type: INT_CAT, range: [1, 3]}\n"
            "    - {key: trainer.lr, type: FLOAT_CAT, range: [0.03, 0.3]}\n"
        )
        tiny = tmp_path / "space.yaml"
        key = "key: learning_rate, type: FLOAT, range: [1.0e-9, 2.0e-9]"
        tiny.write_text(f"search_space: {{hyperparameters: [{{{key}}}]}}\n")
        searched = []

        def found(setting):
            searched.append(np.asarray(setting.hyper.learning_rate).tolist())
            return Found(get_policy("none"))

        monkeypatch.setitem(SEARCHES, "pba", found)
        tune = {"tuner": "random", "members": 2, "epochs": 1, "confirm": 4, "space": str(tiny)}
        options = {k: v for k, v in SMALL.items() if k not in ("preset", "cells", "channels")}
        result = search(
            str(described),
            data(),
            out=tmp_path / "run",
            quiet=True,
            **options
            | {
                "arch": "net.only.kernel=3 trainer.lr=0.3",
                "pipeline": ["tune", "augment"],
                "tune": tune,
            },
        )
        assert result.values["tuned"]["learning_rate"] == pytest.approx([0.3])
        assert searched == [pytest.approx([0.3, 0.3])]

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


def test_the_report_counts_a_sample_of_many_test_images(tmp_path, monkeypatch):
    monkeypatch.setattr(FINISH, "SHOWN", 20)
    x, y = data(300)
    order = np.argsort(y[150:], kind="stable")  # class by class, as folders are read
    given = (x[:150], y[:150], x[150:][order], y[150:][order])
    options = SMALL | {"arch": ARCH, "pipeline": ["finish"]}
    search("nasbench201", given, out=tmp_path / "run", quiet=True, **options)
    html = (tmp_path / "run" / "report.html").read_text()
    assert "Of 20 test images, drawn from 150, " in html
    assert set(re.findall(r"<title>(\d) taken for", html)) == set("012")


@pytest.mark.parametrize(("platform", "places"), [("cpu", 2), ("tpu", 1)])
def test_places_that_cost_are_not_left_empty(platform, places, monkeypatch):
    made = choices(platform)
    monkeypatch.setattr(FINISH, "choices", lambda: made)
    config = build(
        flatten({"channels": 4, "train.top": 2, "train.budget": 2, "train.baselines": 0})
    )
    space = get_space("nasbench201")
    job = Job(config, space, _held(), None, Screen(quiet=True), None)
    assert _capacity(job) == places


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
        ({"augment": {"policies": ["none", "absent.json"]}}, "absent.json"),
        ({"augment": {"beside": "mine.json"}}, "Unknown augmentation policy 'mine.json'"),
        (
            {"finish": {"augment": "flip_crop"}},
            "finish.augment is flip_crop, and stage augment would",
        ),
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


@pytest.mark.parametrize("place", ["run", "."])
def test_an_export_around_the_run_is_refused(tmp_path, place):
    directory = tmp_path / "new" / place
    with pytest.raises(InputError, match="would hold the run directory"):
        run(tmp_path / "new" / "run", export={"dir": str(directory), "formats": ["safetensors"]})
    assert not (tmp_path / "new").exists()


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
    optuna = pytest.importorskip("optuna")
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
        assert units == ["study", "segment"]
    fitness = [journal_of(tmp_path / name)[-1]["fitness"] for name in ("a", "b")]
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    trials = optuna.load_study(study_name="jaxnas", storage=storage).get_trials()
    storage.remove_session()
    storage.engine.dispose()
    assert [t.value for t in trials] == pytest.approx([v for f in fitness for v in f])


def test_help_names_the_stages(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"--{s}." in said for s in ("tune", "augment", "finish", "export", "objective"))
