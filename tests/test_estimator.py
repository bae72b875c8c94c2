"""scikit-learn's own checks, and what they do not look at: images."""

import pickle
from typing import Any

import numpy as np
import pytest
from flax import nnx
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxnas.data.resize import resize
from jaxnas.errors import InputError
from jaxnas.estimator import ImageClassifier
from jaxnas.nn import Choice, Flatten, Linear, ReLU, Sequential
from jaxnas.spaces import Size

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"


class Tiny(nnx.Module):
    """A linear layer, or one with 8 units before it: what compiles quickly."""

    def __init__(self, size: Size, classes: int, image_channels: int) -> None:
        side = size.resolution
        self.flatten = Flatten()
        inputs = image_channels * side**2
        hidden = Sequential(Linear(inputs, 8), ReLU(), Linear(8, classes))
        self.out = Choice("out", {"linear": Linear(inputs, classes), "hidden": hidden})

    def __call__(self, x: Any, ctx: Any) -> Any:
        return self.out(self.flatten(x, ctx), ctx)


def quick(**options) -> ImageClassifier:
    """A fit that trains one given network of a few units."""
    small = {"arch": "out=linear", "finish.epochs": 5, "batch_size": 8}
    return ImageClassifier("test_estimator:Tiny", **small | options)


# None is expected to fail: a matrix is a table, whose rows are images of one pixel.
@parametrize_with_checks([quick()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def stripes(n: int, *, side: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Grey images with dark rows, or with dark columns."""
    rng = np.random.default_rng(seed)
    y = np.where(np.arange(n) % 2, "rows", "columns")
    wave = 120 * (np.arange(side) % 2)
    x = np.where((y == "rows")[:, None, None], wave[:, None], wave[None])
    return (x + rng.integers(0, 100, x.shape)).astype(np.uint8), y


@pytest.fixture(scope="module")
def fitted() -> ImageClassifier:
    x, y = stripes(120)
    cell = {"channels": 4, "cells": (1,), "arch": CELL, "finish__epochs": 6}
    return ImageClassifier("nasbench201", **cell).fit(x, y)


def test_images_are_classified(fitted):
    x, y = stripes(60, seed=1)
    assert fitted.score(x, y) > 0.9
    np.testing.assert_array_equal(fitted.classes_, ["columns", "rows"])
    assert fitted.image_shape_ == (8, 8, 1)
    assert fitted.n_features_in_ == 64
    assert fitted.arch_ == CELL
    probabilities = fitted.predict_proba(x[..., None])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(probabilities, fitted.predict_proba(x))
    # No images were left to test on: those to choose by are none.
    assert fitted.result_["test_accuracy"] is None
    assert fitted.result_["val_accuracy"] > 0.9


def test_other_sizes_are_converted(fitted):
    x, _ = stripes(20, side=16, seed=2)
    with pytest.warns(UserWarning, match="16x16 pixels were resized to 8x8"):
        found = fitted.predict_proba(x)
    small = resize(x[..., None].astype(np.float32), 8, 8) / 255
    np.testing.assert_allclose(found, fitted.predict_proba(small), atol=1e-6)


def test_a_pickle_predicts_the_same(fitted):
    x, _ = stripes(10, seed=3)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))


def test_rows_after_images_are_refused(fitted):
    with pytest.raises(ValueError, match="fitted on images"):
        fitted.predict(np.zeros((3, 64)))


def test_images_after_rows_are_refused():
    table = np.random.default_rng(0).normal(size=(20, 3))
    model = quick(**{"finish.epochs": 1}).fit(table, np.arange(20) % 2)
    with pytest.raises(InputError, match="was fitted on rows of 3 features"):
        model.predict(np.zeros((3, 8, 8, 1)))


def test_options_are_parameters():
    model = ImageClassifier(top=2, train={"epochs": 1})
    assert model.get_params()["top"] == 2
    copy = clone(model).set_params(top=3, finish__epochs=1, seed=4)
    assert (model.get_params()["top"], copy.get_params()["top"]) == (2, 3)
    assert (copy.seed, copy.get_params()["finish__epochs"]) == (4, 1)
    settings = copy._settings(100)
    assert (settings["train.top"], settings["train.epochs"], settings["finish.epochs"]) == (3, 1, 1)
    assert (settings["finish.batch_size"], settings["seed"]) == (64, 4)
    assert ImageClassifier()._settings(40)["train.batch_size"] == 32
    short = ImageClassifier(epochs=7, batch_size=5)._settings(40)
    assert (short["train.epochs"], short["finish.epochs"]) == (7, 7)
    assert short["rank.batch_size"] == 5


def test_bad_input_is_one_sentence(tmp_path):
    x, y = stripes(20)
    with pytest.raises(InputError, match=r"Unknown key 'tpo'; did you mean"):
        ImageClassifier(tpo=3).fit(x, y)
    with pytest.raises(InputError, match="All 20 labels are of one class"):
        quick().fit(x, np.zeros(20, int))
    with pytest.raises(InputError, match="of a class of its own"):
        quick().fit(x, np.arange(20))
    with pytest.raises(InputError, match="19 labels for 20 images"):
        quick().fit(x, y[1:])
    with pytest.raises(InputError, match="ends with export"):
        quick(pipeline=("finish",), **{"finish.epochs": 1}).fit(x, y)
    with pytest.raises(NotFittedError):
        quick().predict(x)


def test_a_class_with_one_image_is_trained_on(tmp_path):
    table = np.random.default_rng(0).normal(size=(21, 3))
    y = [*(["a", "b"] * 10), "c"]
    model = quick(directory=str(tmp_path / "run"), **{"finish.epochs": 1}).fit(table, y)
    assert model.predict_proba(table).shape == (21, 3)
    assert (tmp_path / "run" / "result.json").is_file()


def test_grid_search_over_an_option():
    x, y = stripes(40)
    grid = {"finish__epochs": [1, 2]}
    found = GridSearchCV(quick(**{"finish.epochs": 1}), grid, cv=2).fit(x.reshape(40, -1), y)
    assert set(found.best_params_) == {"finish__epochs"}


def test_a_whole_search():
    x, y = stripes(120)
    small = {"channels": 4, "cells": (1,), "sample": 50, "top": 2, "train__budget": 2}
    model = ImageClassifier(**small, finish__epochs=15).fit(x, y)
    assert model.result_["config"]["pipeline"] == ["rank", "train", "finish", "export"]
    assert model.score(*stripes(60, seed=1)) > 0.9


@pytest.mark.slow
def test_a_whole_search_on_a_table():
    x, y = (part.reshape(120, -1) if part.ndim > 1 else part for part in stripes(120))
    model = ImageClassifier(channels=32, sample=50, finish__epochs=20).fit(x, y)
    assert model.score(x, y) > 0.9
