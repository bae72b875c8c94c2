"""A teacher's part of the loss against steps by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from candidates import ARCHS, HYPER, SEEDS, data, pick, train
from helpers import assert_trees_close, assert_trees_equal, compilations

from jaxnas.spaces import Size
from jaxnas.training.epoch import Recipe
from jaxnas.training.population import TrainingData

WEIGHTS, TEMPERATURES = np.array([0.5, 1.0, 0.0]), np.array([2.0, 4.0, 3.0])
PLAIN = HYPER._replace(
    learning_rate=np.full(3, 0.1),
    weight_decay=np.zeros(3),
    momentum=np.array([0.0, 0.0, 0.9]),
    schedule=np.full(3, 2.0),
    warmup=np.zeros(3),
    flip=np.array([0.0, 1.0, 0.5]),
)
"""The learning rate stays as it is; the second's images are always turned round."""
TAUGHT = PLAIN._replace(distill=WEIGHTS, temperature=TEMPERATURES)
ARCH = np.array([3, 3, 1, 2, 4, 3], np.int32)
SETTINGS = {"batch_size": 8, "epochs": 2}
"""One step an epoch, on all images."""


@pytest.fixture(scope="module")
def network(space):
    """The teacher's, which is larger than its students."""
    return space.network(Size(channels=6, cells=(1,), resolution=8), classes=3)


@pytest.fixture(scope="module")
def teacher(network):
    """Its variables, with batch statistics of its own, and its architecture."""
    variables = network.init(jax.random.key(3))
    statistics = jax.tree.map(lambda a: a + 0.25, variables.statistics)
    params = jax.tree.map(lambda a: 2 * a, variables.params)
    return variables._replace(params=params, statistics=statistics), ARCH


@pytest.fixture(scope="module")
def images():
    """No image is its own mirror image: the left half is darker by much."""
    usual = data()
    left = jnp.where(jnp.arange(8) < 4, 0.2, 1.5)[None, None, :, None]
    return TrainingData(usual.x * left + left, usual.y, usual.x_val, usual.y_val)


@pytest.fixture(scope="module")
def taught(tiny, network, teacher, images):
    return train(
        tiny, TAUGHT, images=images, recipe=Recipe(teacher=network), teacher=teacher, **SETTINGS
    )


def softened(logits, temperature):
    e = jnp.exp((logits - logits.max(1, keepdims=True)) / temperature)
    return e / e.sum(1, keepdims=True)


def losses(logits, taught, y, smoothing, temperature):
    """Cross-entropy, and T^2 KL(teacher || student), written out."""
    targets = (1 - smoothing) * np.eye(3)[np.asarray(y)] + smoothing / 3
    entropy = -(jnp.asarray(targets, jnp.float32) * jnp.log(softened(logits, 1.0))).sum(1).mean()
    p, q = softened(taught, temperature), softened(logits, temperature)
    return entropy, temperature**2 * (p * (jnp.log(p) - jnp.log(q))).sum(1).mean()


class TestLoss:
    @pytest.mark.parametrize("row", range(2))
    def test_of_a_step_by_hand(self, tiny, network, teacher, images, taught, row):
        """(1 - w) CE + w T^2 KL on the images that the student sees, and the step that follows."""
        x = images.x[:, :, ::-1] if row == 1 else images.x
        answers = network.apply(*teacher, x, batch_norm="running").logits
        variables = tiny.init(jax.random.key(int(SEEDS[row])))

        @jax.jit
        @jax.value_and_grad
        def slow(params):
            seen = tiny.apply(variables._replace(params=params), ARCHS[row], x, batch_norm="update")
            entropy, learned = losses(
                seen.logits,
                answers,
                images.y,
                float(PLAIN.label_smoothing[row]),
                float(TEMPERATURES[row]),
            )
            return (1 - WEIGHTS[row]) * entropy + WEIGHTS[row] * learned

        loss, gradient = slow(variables.params)
        ((state, metrics),) = pick(taught[:1], row)
        assert metrics.train_loss[0] == pytest.approx(float(loss), rel=1e-4)
        expected = jax.tree.map(lambda w, g: w - 0.1 * g, variables.params, gradient)
        own = jax.tree.map(lambda a: a[0], state.variables.params)
        assert_trees_close(own, expected, rtol=1e-3, atol=1e-5)

    def test_without_weight_is_the_training_without(self, tiny, images, taught):
        """Bit for bit, whatever the teacher says; the others are another training."""
        plain = train(tiny, PLAIN, images=images, **SETTINGS)
        assert_trees_equal(pick(taught, 2), pick(plain, 2))
        difference = np.abs(taught[0][1].train_loss - plain[0][1].train_loss)
        assert (difference[:2] > 1e-3).all()


class TestTeacher:
    def test_its_weights_do_not_change_nor_are_they_used_up(
        self, tiny, network, teacher, images, taught
    ):
        before = jax.tree.map(np.array, teacher)
        recipe = Recipe(teacher=network)
        again = train(tiny, TAUGHT, images=images, recipe=recipe, teacher=teacher, **SETTINGS)
        assert_trees_equal(teacher, before)
        assert_trees_equal(again, taught)

    def test_another_of_the_same_network_compiles_nothing(
        self, tiny, network, teacher, images, taught
    ):
        variables = jax.tree.map(lambda a: 0.5 * a, teacher[0])
        with compilations() as compiled:
            other = train(
                tiny,
                TAUGHT,
                images=images,
                recipe=Recipe(teacher=network),
                teacher=(variables, ARCH[::-1].copy()),
                **SETTINGS,
            )
        assert compiled == []
        difference = np.abs(other[0][1].train_loss - taught[0][1].train_loss)
        assert (difference[:2] > 1e-4).all()
        assert_trees_equal(pick(other, 2), pick(taught, 2))

    def test_resumed_as_undisturbed(self, tiny, network, teacher, images, taught):
        before = jax.tree.map(jnp.asarray, taught[0][0])
        resumed = train(
            tiny,
            TAUGHT,
            images=images,
            recipe=Recipe(teacher=network),
            teacher=teacher,
            population=before,
            start_epoch=1,
            **SETTINGS,
        )
        assert_trees_equal(resumed, taught[1:])
