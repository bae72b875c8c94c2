"""Metrics against scikit-learn and loops; of populations against plain forward passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from candidates import ARCHS, SEEDS, split, train
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from jaxnas.errors import InputError
from jaxnas.training.evaluation import _judged, evaluate_population, predict_population
from jaxnas.training.hyper import Hyper
from jaxnas.training.metrics import METRICS, accuracy, auc, balanced_accuracy, f1, get_metric
from jaxnas.training.population import TrainingData, init_population

N = 150
"""More images than a batch of evaluation."""


@st.composite
def answers(draw):
    """Labels, among which classes may be absent, and probabilities with ties."""
    classes, n = draw(st.integers(1, 5)), draw(st.integers(1, 30))
    present = draw(st.lists(st.integers(0, classes - 1), min_size=1, unique=True))
    y = draw(st.lists(st.sampled_from(present), min_size=n, max_size=n))
    cells = draw(st.lists(st.integers(1, 6), min_size=n * classes, max_size=n * classes))
    counts = np.reshape(cells, (n, classes)).astype(float)
    return np.array(y), counts / counts.sum(1, keepdims=True)


def slow_auc(positive, scores):
    """How often an image of the class is scored above one of another; of equals, half the time."""
    pairs = [
        float(a > b) + 0.5 * float(a == b)
        for a, of in zip(scores, positive, strict=True)
        if of
        for b, other in zip(scores, positive, strict=True)
        if not other
    ]
    return np.mean(pairs) if pairs else np.nan


def slow_f1(y, found):
    """Over the classes that occur in labels or answers, as scikit-learn's macro mean."""
    each = []
    for k in sorted(set(y) | set(found)):
        hit = sum(a == k and b == k for a, b in zip(y, found, strict=True))
        each.append(2 * hit / (sum(y == k) + sum(found == k)))
    return np.mean(each)


class TestAgainstScikitLearn:
    @settings(max_examples=40)
    @given(answers())
    def test_accuracy(self, given):
        y, p = given
        assert accuracy(y, p) == pytest.approx(sk.accuracy_score(y, p.argmax(1)))

    @settings(max_examples=40)
    @given(answers())
    def test_balanced_accuracy(self, given):
        """Its recall of each class that occurs; it warns where answers have classes of their own."""
        y, p = given
        recalls = sk.recall_score(
            y, p.argmax(1), labels=np.unique(y), average=None, zero_division=0
        )
        assert balanced_accuracy(y, p) == pytest.approx(np.mean(recalls))

    @settings(max_examples=40)
    @given(answers())
    def test_f1(self, given):
        y, p = given
        found = f1(y, p)
        assert found == pytest.approx(slow_f1(y, p.argmax(1)))
        assert found == pytest.approx(sk.f1_score(y, p.argmax(1), average="macro", zero_division=0))

    @settings(max_examples=40)
    @given(answers())
    def test_auc(self, given):
        y, p = given
        areas = [slow_auc(y == k, p[:, k]) for k in range(p.shape[1])]
        there = [a for a in areas if not np.isnan(a)]
        if p.shape[1] == 2 and there:
            there = there[1:]
        expected = np.mean(there) if there else 0.5
        assert auc(y, p) == pytest.approx(expected)
        if len(np.unique(y)) == p.shape[1] > 2:
            assert auc(y, p) == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"))
        elif len(np.unique(y)) == p.shape[1] == 2:
            assert auc(y, p) == pytest.approx(sk.roc_auc_score(y, p[:, 1]))

    @settings(max_examples=40)
    @given(answers())
    def test_each_is_a_number_from_0_to_1(self, given):
        assert all(0 <= metric(*given) <= 1 for metric in METRICS.values())

    @pytest.mark.parametrize("name", METRICS)
    def test_of_right_answers_is_1(self, name):
        y = np.array([0, 2, 1, 1, 2, 0])
        assert METRICS[name](y, np.eye(3)[y]) == 1


def test_metrics_do_not_say_the_same():
    y = np.array([0] * 8 + [1, 2])
    p = np.full((10, 3), [0.5, 0.3, 0.2])
    found = {name: metric(y, p) for name, metric in METRICS.items()}
    assert found == pytest.approx(
        {"accuracy": 0.8, "balanced_accuracy": 1 / 3, "f1": 16 / 18 / 3, "auc": 0.5}
    )


def test_an_unknown_one_is_refused():
    with pytest.raises(InputError, match=r"metric 'f2'.*f1"):
        get_metric("f2")


@pytest.fixture(scope="module")
def variables(tiny):
    """Of three candidates, and a place that is free; trained a little, so that they disagree."""
    ((state, _),) = train(tiny, Hyper.constant(3, learning_rate=0.02), epochs=1)
    return jax.tree.map(jnp.asarray, state.variables)


@pytest.fixture(scope="module")
def images():
    return split(N, 2)


@pytest.fixture(scope="module")
def logits(tiny, variables, images):
    """`[3, N, 3]` by a plain forward pass of each network, all images at once."""

    @jax.jit
    def forward(variables, arch):
        return tiny.apply(variables, arch, images[0], batch_norm="running").logits

    own = [jax.tree.map(lambda a, r=row: a[r], variables) for row in range(3)]
    found = [forward(v, arch) for v, arch in zip(own, ARCHS, strict=True)]
    return np.array(found, np.float64)


def probabilities(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class TestPopulations:
    def test_predictions(self, tiny, variables, images, logits):
        found = predict_population(tiny, variables, ARCHS, images[0])
        assert found.shape == (3, N, 3)
        np.testing.assert_allclose(found, probabilities(logits), atol=1e-5)
        # They are three different networks.
        assert np.abs(found[0] - found[1]).max() > 0.01

    @pytest.mark.parametrize("name", METRICS)
    def test_judged(self, tiny, variables, images, logits, name):
        y = np.asarray(images[1])
        loss, right, metric = evaluate_population(tiny, variables, ARCHS, *images, metric=name)
        for row, p in enumerate(probabilities(logits)):
            assert loss[row] == pytest.approx(-np.log(p[np.arange(N), y]).mean(), rel=1e-4)
            assert right[row] == pytest.approx((p.argmax(1) == y).mean())
            assert metric[row] == pytest.approx(METRICS[name](y, p), abs=1e-4)

    @pytest.mark.parametrize("name", METRICS)
    def test_only_who_is_named(self, tiny, variables, images, name):
        which = np.array([True, False, True])
        found = evaluate_population(tiny, variables, ARCHS, *images, which=which, metric=name)
        whole = evaluate_population(tiny, variables, ARCHS, *images, metric=name)
        for some, all_of_them in zip(found, whole, strict=True):
            assert np.isnan(some[1])
            np.testing.assert_array_equal(some[which], all_of_them[which])

    @pytest.mark.parametrize("name", METRICS)
    def test_logits_that_are_no_numbers_are_wrong(self, tiny, variables, images, name):
        """Of class 0, which NaN's argmax is, above all."""

        def spoilt(path, leaf):
            last = "classifier" in str(path) and leaf.ndim == 2
            return leaf.at[1].set(jnp.nan) if last else leaf

        broken = jax.tree_util.tree_map_with_path(spoilt, variables.params)
        broken = variables._replace(params=broken)
        x = images[0]
        y = jnp.zeros(N, jnp.int32).at[0].set(1)
        loss, right, metric = evaluate_population(tiny, broken, ARCHS, x, y, metric=name)
        assert np.isnan(loss[1])
        assert right[1] == metric[1] == 0
        whole = evaluate_population(tiny, variables, ARCHS, x, y, metric=name)
        for some, all_of_them in zip((loss, right, metric), whole, strict=True):
            np.testing.assert_array_equal(some[[0, 2]], all_of_them[[0, 2]])

    @pytest.mark.parametrize("name", ["accuracy", "f1", "auc"])
    def test_streamed(self, tiny, variables, images, name, monkeypatch):
        pytest.importorskip("grain", reason="the extra stream (grain) is not installed")
        from jaxnas.training import stream

        # A window of one batch, so that the images come in two pieces.
        monkeypatch.setattr(stream, "WINDOW_BYTES", 128 * 8 * 8 * 3 * 4)
        x, y = (np.asarray(a) for a in images)
        found = stream.evaluate_streamed(tiny, variables, ARCHS, stream.Streamed(x, y), metric=name)
        whole = evaluate_population(tiny, variables, ARCHS, *images, metric=name)
        for some, all_of_them in zip(found, whole, strict=True):
            np.testing.assert_allclose(some, all_of_them, rtol=1e-5)


class TestTraining:
    def test_reports_the_metric_beside_the_accuracy(self, tiny):
        """As the state after the epoch is judged; labels of two classes of three, unevenly."""
        y = jnp.asarray(np.arange(30) % 5 == 0, jnp.int32)
        images = TrainingData(*split(8, 0), split(30, 4)[0], y)
        ((state, found),) = train(tiny, epochs=1, images=images, metric="auc")
        variables = jax.tree.map(jnp.asarray, state.variables)
        p = predict_population(tiny, variables, ARCHS, images.x_val)
        labels = np.asarray(y)
        np.testing.assert_array_equal(found.val_metric, [auc(labels, own) for own in p])
        np.testing.assert_allclose(found.val_accuracy, [accuracy(labels, own) for own in p])
        assert (found.val_metric != found.val_accuracy).any()

    def test_is_the_accuracy_unless_another_is_asked_for(self, tiny):
        ((_, found),) = train(tiny, epochs=1)
        np.testing.assert_array_equal(found.val_metric, found.val_accuracy)

    def test_an_unknown_one_is_refused(self, tiny):
        population = init_population(tiny, SEEDS, ARCHS)
        with pytest.raises(InputError, match="aucc"):
            evaluate_population(tiny, population.variables, ARCHS, *split(4, 0), metric="aucc")


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_an_image_whose_logits_are_no_numbers_is_wrong_by_itself(name, bad):
    logits = np.array([[[3.0, 0], [0, 3], [0, bad]]])
    loss, right, metric = _judged(logits, np.array([0, 1, 1]), METRICS[name], np.array([True]))
    assert not np.isfinite(loss[0])
    assert right[0] == pytest.approx(2 / 3)
    assert metric[0] == 0
