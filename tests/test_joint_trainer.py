"""`--trainer diffautoml`: one run that ends with a model, which nothing trains again."""

import numpy as np
import pytest
from helpers import assert_trees_equal
from searching import Killed, images, journal_of, kill_at, result_of
from sklearn.metrics import f1_score

import jaxnas
from jaxnas.data.load import from_arrays
from jaxnas.errors import InputError
from jaxnas.search import search

SMALL = {
    "pipeline": ["rank", "train", "finish", "export"],
    "trainer": "diffautoml",
    "sample": 5,
    "channels": 4,
    "cells": 1,
    "resolution": 8,
    "train": {"epochs": 4, "batch_size": 16, "top": 2},
    "export": {"formats": ["safetensors"]},
}


def run(out, **options):
    return search("nasbench201", images(150, 8, 8, 3), out=out, quiet=True, **SMALL | options)


def test_it_ends_with_a_model_and_resumes_as_undisturbed(tmp_path):
    whole = run(tmp_path / "a")
    entries = journal_of(tmp_path / "a")
    assert [(e["stage"], e["unit"]) for e in entries].count(("train", "epoch")) == 4
    assert not [e for e in entries if (e["stage"], e["unit"]) == ("finish", "epoch")]
    classifier = jaxnas.load(whole.exported)
    test = from_arrays(*images(150, 8, 8, 3)).test
    right = classifier.predict(test.x) == test.y.astype(str)
    assert whole.test_accuracy == pytest.approx(np.mean(right))
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, "record", "train epoch", 2, after=True)
        with pytest.raises(Killed):
            run(tmp_path / "b")
    again = run(tmp_path / "b", resume=True)
    expected, found = result_of(tmp_path / "a"), result_of(tmp_path / "b")
    for result in (expected, found):
        result.pop("export")
    assert found == expected
    assert_trees_equal(jaxnas.load(again.exported).variables, classifier.variables)


def test_it_is_judged_by_the_metric_that_is_asked_for(tmp_path):
    values = run(tmp_path / "run", metric="f1").values
    data = from_arrays(*images(150, 8, 8, 3))
    classifier = jaxnas.load(tmp_path / "run" / "export")
    for name in ("val", "test"):
        split = getattr(data, name)
        found = classifier.predict(split.x)
        expected = f1_score(split.y.astype(str), found, average="macro", zero_division=0)
        assert values[f"{name}_metric"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pipeline": ["rank", "train", "tune"]}, "tunes and augments while it searches"),
        ({"max_params": 1000}, "it cannot keep limits"),
    ],
)
def test_what_it_cannot_do_is_refused(options, says, tmp_path):
    with pytest.raises(InputError, match=says):
        run(tmp_path / "run", **options)
