"""Steps against plain Optax loops, schedules by hand and against Optax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from candidates import ARCHS, HYPER, SEEDS, data, pick, train
from helpers import assert_trees_close, assert_trees_equal
from reference import by_name

from jaxnas.errors import InputError
from jaxnas.training.epoch import Recipe
from jaxnas.training.hyper import SCHEDULES, Hyper, schedule
from jaxnas.training.population import init_population

EPOCHS, BATCH, STEPS = 3, 4, 2
OWN = HYPER._replace(
    learning_rate=np.array([0.01, 0.02, 0.005]),
    weight_decay=np.array([0.0, 0.2, 0.05]),
    momentum=np.array([0.9, 0.0, 0.8]),
    schedule=np.array([0.0, 3.0, 1.0]),
    warmup=np.array([0.0, 0.4, 0.2]),
)
"""A half cosine, one cycle, and a line."""
DECAYS = np.array([0.9, 0.0, 0.2])
"""Of the averages that AdamW's candidates have beside."""


def rates(row):
    """The learning rate of each step, written out."""
    found = []
    peak, warmup = OWN.learning_rate[row], OWN.warmup[row]
    for number in range(EPOCHS * STEPS):
        done = (number + 0.5) / (EPOCHS * STEPS)
        left = (1 - done) / (1 - warmup)
        if done < warmup:
            up = done / warmup
            share = up if row != 1 else (1 - np.cos(np.pi * up)) / 2
        else:
            share = left if row == 2 else (1 - np.cos(np.pi * left)) / 2
        found.append(peak * share)
    return jnp.asarray(found, jnp.float32)


def kernels(params):
    return jax.tree_util.tree_map_with_path(lambda path, a: "kernel" in str(path), params)


def plainly(kind, row):
    """The optimizer as Optax has it."""
    momentum, decay = float(OWN.momentum[row]), float(OWN.weight_decay[row])
    if kind == "adamw":
        return optax.adamw(rates(row).__getitem__, b1=momentum, weight_decay=decay, mask=kernels)
    decayed = optax.add_decayed_weights(decay, mask=kernels)
    return optax.chain(decayed, optax.sgd(rates(row).__getitem__, momentum, nesterov=True))


def by_hand(network, kind, row):
    """All steps of a candidate, one after another on its own network.

    Variables, their average, and by parameter where gradients were more than rounding, or none at all:
    what is in front of a batch norm has gradients of 0 but for that, and AdamW's steps are as long.
    """
    arch, images, smoothing = ARCHS[row], data(), float(OWN.label_smoothing[row])

    def loss(params, variables, x, y):
        seen = network.apply(variables._replace(params=params), arch, x, batch_norm="update")
        targets = (1 - smoothing) * jnp.eye(3)[y] + smoothing / 3
        return -(targets * jax.nn.log_softmax(seen.logits)).sum(1).mean(), seen.statistics

    update = plainly(kind, row)

    @jax.jit
    def step(variables, state, x, y):
        gradient, statistics = jax.grad(loss, has_aux=True)(variables.params, variables, x, y)
        changes, state = update.update(gradient, state, variables.params)
        params = optax.apply_updates(variables.params, changes)
        return variables._replace(params=params, statistics=statistics), state, gradient

    variables = network.init(jax.random.key(int(SEEDS[row])))
    average, state = variables, update.init(variables.params)
    certain = jax.tree.map(lambda a: np.ones(a.shape, bool), variables.params)
    for number in range(EPOCHS * STEPS):
        key = jax.random.fold_in(jax.random.key(int(SEEDS[row])), number // STEPS)
        batch = jax.random.permutation(key, 8)[number % STEPS * BATCH :][:BATCH]
        x, y = images.x[batch], images.y[batch]
        variables, state, gradient = step(variables, state, x, y)
        certain = jax.tree.map(
            lambda c, g: c & ((np.abs(g) > 1e-4) | (np.asarray(g) == 0)), certain, gradient
        )
        decay = min(DECAYS[row], (1 + number) / (10 + number))
        average = jax.tree.map(lambda a, b, d=decay: d * a + (1 - d) * b, average, variables)
    return variables, average, certain


SETTINGS = {
    "sgd": (OWN, {}),
    "adamw": (OWN._replace(ema=DECAYS), {"optimizer": "adamw", "averages": True}),
}


def trained(network, kind, **settings):
    hyper, kept = SETTINGS[kind]
    settings = {"population": init_population(network, SEEDS, ARCHS, **kept)} | settings
    return train(network, hyper, epochs=EPOCHS, recipe=Recipe(optimizer=kind), **settings)


@pytest.fixture(scope="module")
def histories(tiny):
    return {kind: trained(tiny, kind) for kind in SETTINGS}


class TestSteps:
    @pytest.mark.parametrize("row", range(3))
    def test_adamw_and_averages_against_a_loop(self, tiny, histories, row):
        *expected, certain = by_hand(tiny, "adamw", row)
        ((state, _),) = pick(histories["adamw"][-1:], row)
        own = jax.tree.map(lambda a: a[0], state)
        shares = [c.mean() for c in jax.tree.leaves(certain)]
        assert np.mean(shares) > 0.9
        for got, wanted in zip((own.variables, own.average), expected, strict=True):
            for a, b, sure in zip(
                *map(jax.tree.leaves, (got.params, wanted.params, certain)), strict=True
            ):
                np.testing.assert_allclose(a[sure], np.asarray(b)[sure], rtol=1e-3, atol=1e-4)
            got, wanted = (by_name(v.statistics) for v in (got, wanted))
            for name in [n for n in wanted if n.endswith("variance")]:
                np.testing.assert_allclose(got[name], wanted[name], rtol=2e-3, err_msg=name)

    def test_sgd_against_a_loop(self, tiny, histories):
        variables, _, _ = by_hand(tiny, "sgd", 1)
        ((state, _),) = pick(histories["sgd"][-1:], 1)
        own = jax.tree.map(lambda a: a[0], state)
        assert_trees_close(own.variables, variables, rtol=1e-3, atol=1e-5)
        assert set(own.optimizer) == {"trace"}
        assert own.average is None

    @pytest.mark.parametrize("epoch", [1, 2])
    def test_adamw_resumed_as_undisturbed(self, tiny, histories, epoch):
        """Which counts its steps from the epochs behind it; bit for bit, averages too."""
        whole = histories["adamw"]
        before = jax.tree.map(jnp.asarray, whole[epoch - 1][0])
        resumed = trained(tiny, "adamw", population=before, start_epoch=epoch)
        assert_trees_equal(resumed, whole[epoch:])

    def test_what_an_optimizer_remembers_belongs_to_it(self, tiny):
        population = init_population(tiny, SEEDS, ARCHS)
        with pytest.raises(InputError, match=r"remembers trace, but adamw needs .*mu.*optimizer="):
            train(tiny, OWN, population=population, recipe=Recipe(optimizer="adamw"))
        with pytest.raises(InputError, match=r"optimizer 'adam'.*adamw"):
            Recipe(optimizer="adam")
        with pytest.raises(InputError, match=r"optimizer 'adam'.*adamw"):
            init_population(tiny, SEEDS, ARCHS, optimizer="adam")


class TestSchedules:
    PLACES = np.linspace(0, 1, 41)[:-1]

    def found(self, shape, warmup, places=PLACES):
        values = {"warmup": warmup, "schedule": SCHEDULES.index(shape), "learning_rate": 0.2}
        hyper = jax.tree.map(lambda a: a[0], Hyper.constant(1, **values))
        return jax.vmap(lambda done: schedule(hyper, done))(jnp.asarray(places, jnp.float32))

    @pytest.mark.parametrize(
        ("warmup", "points"),
        [
            (0.5, {0: 0, 0.125: 0.146447, 0.25: 0.5, 0.5: 1, 0.75: 0.5, 0.875: 0.146447, 1: 0}),
            (0.2, {0.05: 0.146447, 0.1: 0.5, 0.2: 1, 0.4: 0.853553, 0.6: 0.5, 1: 0}),
            (0.0, {0: 1, 0.5: 0.5, 1: 0}),
        ],
    )
    def test_one_cycle_by_hand(self, warmup, points):
        found = self.found("one_cycle", warmup, list(points))
        np.testing.assert_allclose(found, [0.2 * v for v in points.values()], atol=1e-6)

    @pytest.mark.parametrize("warmup", [0.25, 0.5])
    def test_one_cycle_is_optaxs(self, warmup):
        cycle = optax.cosine_onecycle_schedule(1000, 0.2, warmup, 1e9, 1e9)
        expected = [float(cycle(1000 * p)) for p in self.PLACES]
        np.testing.assert_allclose(self.found("one_cycle", warmup), expected, atol=1e-6)

    @pytest.mark.parametrize("warmup", [0.25, 0.5])
    def test_cosine_is_optaxs(self, warmup):
        cosine = optax.warmup_cosine_decay_schedule(0.0, 0.2, int(1000 * warmup), 1000)
        expected = [float(cosine(1000 * p)) for p in self.PLACES]
        np.testing.assert_allclose(self.found("cosine", warmup), expected, atol=1e-6)
