"""The super-net's step against networks trained slowly, one path after another."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_trees_close, assert_trees_equal, compilations
from reference import Reference, by_name

from jaxnas.errors import InputError
from jaxnas.search_spaces import get_space
from jaxnas.supernet.shared import train_epoch
from jaxnas.supernet.source import Source
from jaxnas.supernet.train import TRAINERS, init_supernet, train_supernet
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import TrainingData

PATHS = np.array(
    [
        [[3, 4, 1, 2, 0, 3], [2, 1, 2, 3, 1, 4]],
        [[1, 0, 3, 4, 2, 1], [3, 1, 2, 0, 1, 3]],
        [[3, 3, 3, 3, 3, 3], [3, 3, 1, 1, 1, 1]],
    ],
    np.int32,
)
"""Two paths in each of three steps; the last step's two share edges 0 and 1."""


def split(n, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    # Each class is bright in a channel of its own.
    x = rng.standard_normal((n, 8, 8, 3)) + 2 * np.eye(3)[y][:, None, None]
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


DATA = TrainingData(*split(8, 0), *split(10, 1))
HYPER = Hyper.constant(
    1, learning_rate=0.1, weight_decay=0.05, momentum=0.8, label_smoothing=0.1, warmup=0.4
)
OWN = jax.tree.map(lambda a: a[0], HYPER)


def used(arch):
    """Whether a network of `arch` alone has the weight of this name."""
    taken = {f"blocks.0.edges.{e}.branches.{op}." for e, op in enumerate(arch)}
    return lambda name: not name.startswith("blocks.") or any(name.startswith(t) for t in taken)


def slow_loss(weights, arch):
    targets = 0.9 * np.eye(3)[np.asarray(DATA.y)] + 0.1 / 3
    logits = Reference(weights, arch, DATA.x).logits
    return -(jnp.asarray(targets, jnp.float32) * jax.nn.log_softmax(logits)).sum(1).mean()


def slow_steps(params, steps):
    """Losses and weights of steps on all images, with SGD's formulas written out."""
    weights = by_name(params)
    velocity = {name: jnp.zeros_like(w) for name, w in weights.items()}
    losses = []
    for i, paths in enumerate(steps):
        done = (i + 0.5) / len(steps)
        cosine = 0.5 * (1 + np.cos(np.pi * (done - 0.4) / 0.6))
        rate = 0.1 * (done / 0.4 if done < 0.4 else cosine)
        found = [
            jax.jit(jax.value_and_grad(lambda w, a=arch: slow_loss(w, a)))(weights)
            for arch in paths
        ]
        losses.append(np.mean([value for value, _ in found]))
        for name, w in list(weights.items()):
            if not any(used(arch)(name) for arch in paths):
                continue
            gradient = sum(each[name] for _, each in found)
            if w.ndim > 1:
                gradient = gradient + 0.05 * w
            velocity[name] = 0.8 * velocity[name] + gradient
            weights[name] = w - rate * (gradient + 0.8 * velocity[name])
    return losses, weights, velocity


def run(network, variables, steps, *, epochs=None):
    """The same by the compiled program, an epoch being one step on all images."""
    params = jax.tree.map(jnp.array, variables.params)
    momentum = jax.tree.map(jnp.zeros_like, params)
    losses, states = [], [jax.tree.map(np.array, (params, momentum))]
    for i, paths in enumerate(steps):
        params, momentum, loss = train_epoch(
            network,
            8,
            False,
            params,
            momentum,
            variables.statistics,
            paths[None],
            OWN,
            DATA.x,
            DATA.y,
            jax.random.key(i),
            (np.int32(i), np.int32(epochs or len(steps))),
        )
        losses.append(float(loss))
        states.append(jax.tree.map(np.array, (params, momentum)))
    return losses, states


@pytest.mark.parametrize("paths", [PATHS[:, :1], PATHS], ids=["one path", "two paths"])
def test_steps_against_networks_built_alone(tiny, variables, paths):
    slow = slow_steps(variables.params, paths)
    losses, states = run(tiny, variables, paths)
    np.testing.assert_allclose(losses, slow[0], rtol=1e-4)
    for got, expected in zip(states[-1], slow[1:], strict=True):
        assert_trees_close(by_name(got), expected, rtol=2e-3, atol=1e-4)


def test_weights_that_no_path_has_stay_bit_for_bit(tiny, variables):
    _, states = run(tiny, variables, PATHS)
    moved_anywhere = 0
    for before, after, paths in zip(states, states[1:], PATHS, strict=False):
        for old, new in zip(map(by_name, before), map(by_name, after), strict=True):
            for name in old:
                if not any(used(arch)(name) for arch in paths):
                    np.testing.assert_array_equal(old[name], new[name], err_msg=name)
                elif name.endswith("kernel"):
                    moved_anywhere += 1
                    assert (old[name] != new[name]).any(), name
    assert moved_anywhere > 20


def test_what_rests_has_momentum_that_would_have_moved_it(tiny, variables):
    _, states = run(tiny, variables, PATHS)
    momentum = by_name(states[1][1])
    trained = {n for n in momentum if any(used(arch)(n) for arch in PATHS[0])}
    rested = {n for n in trained if not any(used(arch)(n) for arch in PATHS[1])}
    assert any(np.abs(momentum[n]).max() > 1e-3 for n in rested if n.endswith("kernel"))


def history(trainer, space, network, **settings):
    """Every epoch's state and metrics, copied."""
    found = []

    def record(epoch, state, metrics):
        found.append((epoch, jax.tree.map(np.array, state), metrics))

    defaults = {"epochs": 3, "batch_size": 4, "seed": 5, "hyper": HYPER}
    settings = defaults | settings
    hyper = settings.pop("hyper")
    train_supernet(trainer, space, network, DATA, hyper, on_epoch=record, **settings)
    return found


def test_images_are_augmented_alike_for_all_paths(space, tiny):
    def trained(trainer, data, **own):
        hyper = Hyper.constant(1, learning_rate=0.1, **own)
        settings = {"epochs": 2, "batch_size": 4, "seed": 5}
        return train_supernet(trainer, space, tiny, data, hyper, **settings).variables.params

    mirrored = replace(DATA, x=DATA.x[:, :, ::-1])
    for name in ("spos", "fairnas"):
        flipped = trained(name, DATA, flip=1.0)
        assert_trees_close(flipped, trained(name, mirrored))
        kernels = [by_name(t)["classifier.kernel"] for t in (flipped, trained(name, DATA))]
        assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


SMALL = {name: t for name, t in TRAINERS.items() if name != "enas"} | {
    "enas": type(TRAINERS["enas"])(steps=2, samples=3, batch_size=6)
}


@pytest.mark.parametrize("name", TRAINERS)
class TestEveryTrainer:
    def test_resumed_as_undisturbed(self, space, tiny, name):
        whole = history(SMALL[name], space, tiny)
        assert [epoch for epoch, _, _ in whole] == [1, 2, 3]
        state = jax.tree.map(jnp.asarray, whole[0][1])
        resumed = history(SMALL[name], space, tiny, state=state, start_epoch=1)
        assert [epoch for epoch, _, _ in resumed] == [2, 3]
        assert_trees_equal([h[1:] for h in resumed], [h[1:] for h in whole[1:]])

    def test_another_seed_is_another_run_and_compiles_nothing(self, space, tiny, name):
        first = history(SMALL[name], space, tiny)
        with compilations() as compiled:
            second = history(
                SMALL[name], space, tiny, seed=6, hyper=Hyper.constant(1, learning_rate=0.02)
            )
        assert compiled == []
        assert first[0][2].train_loss != second[0][2].train_loss

    def test_paths_and_minibatches_are_drawn_from_the_states_seed(self, space, tiny, name):
        losses = []
        for seed in (5, 5, 6):
            state = init_supernet(SMALL[name], space, tiny, seed=5)._replace(seed=jnp.uint32(seed))
            (found,) = history(SMALL[name], space, tiny, state=state, epochs=1)
            losses.append(found[2].train_loss)
        assert losses[0] == losses[1] != losses[2]

    def test_the_loss_falls(self, space, tiny, name):
        rate = 0.02 if name == "fairnas" else 0.05
        hyper = Hyper.constant(1, learning_rate=rate)
        found = history(SMALL[name], space, tiny, hyper=hyper, epochs=40)
        losses = [metrics.train_loss for _, _, metrics in found]
        assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_what_is_wrong_is_said(space, tiny):
    def train(trainer="spos", hyper=HYPER, batch_size=4, **more):
        train_supernet(trainer, space, tiny, DATA, hyper, epochs=1, batch_size=batch_size, **more)

    with pytest.raises(
        InputError, match="Unknown super-net trainer 'fairna'; did you mean fairnas"
    ):
        train("fairna")
    with pytest.raises(InputError, match="batch size 9 exceeds the 8 training images"):
        train(batch_size=9)
    with pytest.raises(InputError, match="one set of hyper-parameters, got 2"):
        train(hyper=Hyper.constant(2))
    with pytest.raises(InputError, match=r"trained with drop_path 0, got 0\.5"):
        train(hyper=Hyper.constant(1, drop_path=0.5))
    with pytest.raises(InputError, match=r"diverged in epoch 1.*lower learning rate than 1e\+30"):
        train(hyper=Hyper.constant(1, learning_rate=1e30))
    with pytest.raises(InputError, match=r"shape classes \(1,\) .* nasbench201, which has 1"):
        train(shape_classes=(1,))


def test_one_super_net_a_shape_class():
    space = get_space("nasbench101")
    kinds = tuple(np.unique(space.shape_classes(space.sample(jax.random.key(0), 200)))[:1].tolist())
    archs = Source(space, kinds).draw(jax.random.key(1), 30)
    assert archs.shape == (30, len(space.decisions))
    space.check(archs)
    assert set(space.shape_classes(archs)) == set(kinds)
    state = init_supernet("spos", space, _network(space, kinds[0]), seed=0, shape_classes=kinds)
    assert int(optax.tree.norm(state.momentum)) == 0


def _network(space, kind):
    size = replace(space.proxy_size, channels=4, resolution=8)
    return space.network(size, classes=3, shape_class=kind)
