"""Losses against NumPy, class weights against PyTorch's and scikit-learn's definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from jaxnas.errors import InputError
from jaxnas.training.objective import (
    LOSSES,
    Objective,
    balanced_weights,
    distillation,
    focal,
    get_loss,
)

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.standard_normal((7, 4))).astype(np.float32)
TEACHER = (3 * RNG.standard_normal((7, 4))).astype(np.float32)
Y = np.array([0, 2, 1, 1, 3, 0, 0])
HARD = np.eye(4, dtype=np.float32)[Y]
SOFT = np.float32(0.8) * HARD + np.float32(0.05)


def absolute(logits, targets):
    """A loss of the user's: this module's `absolute`."""
    return jnp.abs(jax.nn.softmax(logits) - targets).sum(-1)


def mean_of_all(logits, targets):
    return (logits - targets).mean()


def by_class(logits, targets):
    return logits - targets


def of_one(logits):
    return logits.sum(-1)


def by_the_value(logits, targets):
    return logits.sum(-1) if logits.sum() > 0 else targets.sum(-1)


def log_softmax(row):
    row = np.asarray(row, np.float64)
    return row - np.log(np.exp(row - row.max()).sum()) - row.max()


def slow_cross_entropy(row, target):
    return -sum(t * p for t, p in zip(target, log_softmax(row), strict=True))


def slow_focal(row, target):
    """-(1 - p_t)^2 log p_t where all of the target is one class t; else its mean over targets."""
    p = np.exp(log_softmax(row))
    return sum(-t * (1 - q) ** 2 * np.log(q) for t, q in zip(target, p, strict=True))


SLOW = {"cross_entropy": slow_cross_entropy, "focal": slow_focal}


class TestLosses:
    @pytest.mark.parametrize("name", LOSSES)
    @pytest.mark.parametrize("targets", [HARD, SOFT], ids=["labels", "smoothed"])
    def test_against_a_loop(self, name, targets):
        found = get_loss(name)(LOGITS, targets)
        expected = [SLOW[name](row, t) for row, t in zip(LOGITS, targets, strict=True)]
        assert found.shape == (7,)
        np.testing.assert_allclose(found, expected, rtol=1e-4)

    def test_focal_of_a_sure_answer_is_nothing_and_of_a_sure_mistake_the_cross_entropy(self):
        sure = np.float32([[50, 0], [0, 50]])
        np.testing.assert_allclose(focal(sure, np.float32([[1, 0], [1, 0]])), [0, 50], atol=1e-5)

    def test_focals_gradient_is_finite_where_a_probability_is_0(self):
        gradient = jax.grad(lambda x: focal(x, jnp.eye(4)[:1]).sum())(
            jnp.float32([[-200, 0, 9, 200]])
        )
        assert np.isfinite(gradient).all()

    def test_half_precision_is_summed_in_single(self):
        logits = jnp.asarray(LOGITS, jnp.bfloat16)
        found = Objective()(logits, HARD)
        assert found.dtype == jnp.float32
        rounded = np.asarray(logits, np.float64)
        expected = [slow_cross_entropy(r, t) for r, t in zip(rounded, HARD, strict=True)]
        assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


class TestClassWeights:
    WEIGHTS = (0.5, 2.0, 1.0, 7.0)

    @pytest.mark.parametrize("name", LOSSES)
    def test_without_them_the_mean(self, name):
        found = Objective.of(name, None, 4)(LOGITS, HARD)
        expected = np.mean([SLOW[name](r, t) for r, t in zip(LOGITS, HARD, strict=True)])
        assert float(found) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("name", LOSSES)
    def test_as_pytorchs_weighted_mean(self, name):
        """sum_i w[y_i] l_i / sum_i w[y_i], `torch.nn.CrossEntropyLoss(weight, reduction="mean")`."""
        found = Objective.of(name, self.WEIGHTS, 4)(LOGITS, HARD)
        total, weight = 0.0, 0.0
        for row, target, label in zip(LOGITS, HARD, Y, strict=True):
            total += self.WEIGHTS[label] * SLOW[name](row, target)
            weight += self.WEIGHTS[label]
        assert float(found) == pytest.approx(total / weight, rel=1e-5)

    def test_a_mixed_image_weighs_what_its_classes_do(self):
        targets = np.float32([[0.25, 0.75, 0, 0], [0, 0, 0, 1]])
        found = Objective.of("cross_entropy", self.WEIGHTS, 4)(LOGITS[:2], targets)
        own = [0.25 * 0.5 + 0.75 * 2.0, 7.0]
        losses = [slow_cross_entropy(r, t) for r, t in zip(LOGITS[:2], targets, strict=True)]
        assert float(found) == pytest.approx(np.dot(own, losses) / sum(own), rel=1e-5)

    def test_all_alike_are_none(self):
        found = Objective.of("focal", (3.0,) * 4, 4)(LOGITS, SOFT)
        assert float(found) == pytest.approx(float(Objective(focal)(LOGITS, SOFT)), rel=1e-5)

    def test_balanced_as_scikit_learns(self):
        y = np.repeat(np.arange(5), [1, 2, 30, 4, 5])
        expected = compute_class_weight("balanced", classes=np.arange(5), y=y)
        np.testing.assert_allclose(balanced_weights(y, 5), expected)

    def test_balanced_of_a_class_without_images_is_a_number(self):
        weights = balanced_weights(np.array([0, 0, 2, 2]), 3)
        assert weights[0] == weights[2] == pytest.approx(4 / (3 * 2))
        assert Objective.of("cross_entropy", weights, 3).class_weights == weights

    @pytest.mark.parametrize(
        "weights",
        [(1, 2, 3), (1, 2, 3, 0), (1, 2, 3, -1), (1, 2, 3, np.nan), (1, 1, 1, np.inf), ()],
    )
    def test_others_are_refused(self, weights):
        with pytest.raises(InputError) as refused:
            Objective.of("cross_entropy", weights, 4)
        assert str(refused.value).startswith("The class weights are (")
        assert str(refused.value).endswith("expected 4 numbers above 0, one a class.")


class TestOnesOwn:
    @pytest.mark.parametrize("given", [absolute, f"{__name__}:absolute"], ids=["itself", "named"])
    def test_is_what_is_minimised(self, given):
        found = Objective.of(given, (1.0, 1.0, 1.0, 2.0), 4)(LOGITS, HARD)
        rows = [np.abs(np.exp(log_softmax(r)) - t).sum() for r, t in zip(LOGITS, HARD, strict=True)]
        own = np.where(Y == 3, 2.0, 1.0)
        assert float(found) == pytest.approx(np.dot(own, rows) / own.sum(), rel=1e-5)

    def test_named_ones_are_equal_and_compile_one_program(self):
        once, again = (Objective.of(f"{__name__}:absolute", (1, 2), 2) for _ in range(2))
        assert once == again
        assert hash(once) == hash(again)

    @pytest.mark.parametrize(
        ("loss", "message"),
        [
            ("focale", r"focale.*focal"),
            ("no.such:loss", r"^The loss no\.such:loss cannot be imported: .*no"),
            (f"{__name__}:nothing", r"cannot be imported: .*nothing"),
            (f"{__name__}:", "cannot be imported"),
            (f"{__name__}:LOGITS", "is ndarray, expected a function"),
            (mean_of_all, r"gives shape \(\) for two images, expected \(2,\): one number each"),
            (by_class, r"gives shape \(2, 3\) for two images"),
            (of_one, r"does not take logits and targets \[B, 3\]"),
            (by_the_value, r"does not take logits and targets \[B, 3\]"),
        ],
    )
    def test_bad_ones_are_refused(self, loss, message):
        with pytest.raises(InputError, match=message):
            Objective.of(loss, None, 3)


class TestDistillation:
    @pytest.mark.parametrize("temperature", [1.0, 2.5, 8.0])
    def test_against_a_loop(self, temperature):
        total = 0.0
        for student, teacher in zip(LOGITS, TEACHER, strict=True):
            log_q, log_p = log_softmax(student / temperature), log_softmax(teacher / temperature)
            total += sum(np.exp(p) * (p - q) for p, q in zip(log_p, log_q, strict=True))
        found = distillation(jnp.asarray(LOGITS), jnp.asarray(TEACHER), temperature)
        assert float(found) == pytest.approx(temperature**2 * total / 7, rel=1e-5)

    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_of_equals_is_0_and_so_is_its_gradient(self, temperature):
        value, gradient = jax.value_and_grad(distillation)(
            jnp.asarray(LOGITS), jnp.asarray(LOGITS) + 5, temperature
        )
        assert float(value) == pytest.approx(0, abs=1e-5)
        np.testing.assert_allclose(gradient, 0, atol=1e-6)

    def test_gradient_is_the_difference_of_softened_probabilities(self):
        """T (q - p) / B, which keeps its size whatever T."""
        gradient = jax.grad(distillation)(jnp.asarray(LOGITS), jnp.asarray(TEACHER), 3.0)
        q, p = (np.exp([log_softmax(r / 3) for r in rows]) for rows in (LOGITS, TEACHER))
        np.testing.assert_allclose(gradient, 3 * (q - p) / 7, atol=1e-6)


def picking(logits, targets):
    return logits[targets > 0]


def by_the_value(logits, targets):
    return logits.sum(-1) if logits.sum() > 0 else targets.sum(-1)


def unknown_name(logits, targets):
    return nothing  # noqa: F821


@pytest.mark.parametrize(
    "loss",
    [":x", ".foo:bar", picking, by_the_value, unknown_name],
    ids=lambda loss: getattr(loss, "__name__", loss),
)
def test_bad_ones_are_refused_in_one_sentence(loss):
    with pytest.raises(InputError) as refused:
        Objective.of(loss, None, 3)
    assert "\n" not in str(refused.value)
