"""Populations against one candidate trained slowly, against each other, and disturbed."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_trees_close, assert_trees_equal, compilations
from reference import Reference, by_name

from jaxnas.training.evaluation import evaluate_population
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import TrainingData, init_population, train_population

ARCHS = np.array([[3, 4, 1, 2, 0, 3], [2, 1, 2, 3, 1, 4], [1, 0, 3, 4, 2, 1]], np.int32)
SEEDS = np.array([11, 12, 13, 0], np.uint32)
"""One more than architectures: the last place stays empty."""
EPOCHS = 3


def split(n, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    # Each class is bright in a channel of its own.
    x = rng.standard_normal((n, 8, 8, 3)) + 2 * np.eye(3)[y][:, None, None]
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


DATA = TrainingData(*split(8, 0), *split(10, 1))

HYPER = Hyper(
    learning_rate=np.array([0.05, 0.1, 0.2]),
    weight_decay=np.array([0.0, 1e-2, 5e-4]),
    momentum=np.array([0.9, 0.0, 0.5]),
    label_smoothing=np.array([0.0, 0.1, 0.2]),
    warmup=np.array([0.0, 0.1, 0.5]),
)


@pytest.fixture(scope="module")
def train(tiny):
    """Train and give back, epoch by epoch, a copy of the state and the metrics."""

    def train(archs=ARCHS, seeds=SEEDS, hyper=HYPER, *, epochs=EPOCHS, population=None, **settings):
        history = []

        def record(epoch, population, metrics):
            history.append((epoch, jax.tree.map(np.array, population), metrics))

        if population is None:
            population = init_population(tiny, seeds, archs)
        settings = {"batch_size": 4, "data": DATA, **settings}
        data = settings.pop("data")
        train_population(
            tiny,
            archs,
            hyper,
            data,
            epochs=epochs,
            population=population,
            on_epoch=record,
            **settings,
        )
        return history

    return train


@pytest.fixture(scope="module")
def undisturbed(train):
    return train()


def pick(history, *rows):
    """States and metrics of some candidates, every epoch."""
    rows = list(rows)
    return [jax.tree.map(lambda a: a[rows], (p, m)) for _, p, m in history]


def changed(hyper, row, **values):
    copies = {name: np.array(getattr(hyper, name)) for name in values}
    for name, value in values.items():
        copies[name][row] = value
    return hyper._replace(**copies)


class TestCandidates:
    def test_metrics_are_one_a_candidate_every_epoch(self, undisturbed):
        assert [epoch for epoch, _, _ in undisturbed] == [1, 2, 3]
        for _, _, metrics in undisturbed:
            assert all(m.shape == (3,) and np.isfinite(m).all() for m in metrics)

    def test_they_learn(self, train, undisturbed):
        *_, (_, _, last) = train(hyper=Hyper.constant(3, learning_rate=0.1), epochs=15)
        assert (last.train_loss < undisturbed[0][2].train_loss / 2).all()
        assert (last.val_accuracy > 0.8).all()

    def test_alone_as_in_a_population(self, train, undisturbed):
        # Another capacity is another program, which may add in another order.
        own = HYPER.rows(slice(1, 2))
        alone = train(ARCHS[1:2], SEEDS[1:2], own)
        assert_trees_close(pick(alone, 0), pick(undisturbed, 1), rtol=1e-3, atol=1e-5)

    def test_the_place_in_a_population_does_not_matter(self, train, undisturbed):
        order = [2, 0]
        seeds = np.array([SEEDS[2], SEEDS[0], 5, 6], np.uint32)
        moved = train(ARCHS[order], seeds, HYPER.rows(order))
        assert_trees_equal(pick(moved, 0, 1), pick(undisturbed, 2, 0))

    def test_an_empty_place_stays_as_it_was(self, tiny, undisturbed):
        fresh = jax.tree.map(lambda a: a[3], init_population(tiny, SEEDS, ARCHS))
        for _, population, _ in undisturbed:
            assert_trees_equal(jax.tree.map(lambda a: a[3], population), fresh)

    def test_equal_seeds_are_equal_candidates_and_others_are_not(self, train):
        archs = np.repeat(ARCHS[:1], 3, axis=0)
        seeds = np.array([7, 8, 7, 0], np.uint32)
        history = train(archs, seeds, Hyper.constant(3), epochs=1)
        assert_trees_equal(pick(history, 0), pick(history, 2))
        ((_, population, metrics),) = history
        assert metrics.train_loss[0] != metrics.train_loss[1]
        for kernel in jax.tree.leaves(population.variables.params):
            if kernel.ndim > 2:
                assert (kernel[0] != kernel[1]).any()

    def test_a_seed_draws_the_weights_that_it_draws_elsewhere(self, tiny):
        population = init_population(tiny, SEEDS, ARCHS)
        alone = tiny.init(jax.random.key(12))
        assert_trees_close(jax.tree.map(lambda a: a[1], population.variables), alone)
        assert not any(a.any() for a in jax.tree.leaves(population.optimizer))

    def test_another_population_compiles_nothing(self, train, undisturbed):
        with compilations() as compiled:
            train(
                ARCHS[::-1][:2],
                np.array([3, 4, 5, 6], np.uint32),
                Hyper.constant(2, learning_rate=0.01),
                epochs=2,
            )
        assert compiled == []


class TestDisturbances:
    def test_resumed_as_undisturbed(self, train, undisturbed):
        after_first = jax.tree.map(jnp.asarray, undisturbed[0][1])
        resumed = train(population=after_first, start_epoch=1)
        assert [epoch for epoch, _, _ in resumed] == [2, 3]
        assert_trees_equal([h[1:] for h in resumed], [h[1:] for h in undisturbed[1:]])

    def test_nothing_is_left_to_do_at_the_end(self, train, undisturbed):
        assert train(population=undisturbed[-1][1], start_epoch=EPOCHS) == []

    @pytest.mark.parametrize("learning_rate", [np.nan, 1e30, 1e6], ids=str)
    def test_a_diverging_candidate_is_marked_and_the_others_do_not_notice(
        self, train, undisturbed, learning_rate
    ):
        history = train(hyper=changed(HYPER, 1, learning_rate=learning_rate))
        assert_trees_equal(pick(history, 0, 2), pick(undisturbed, 0, 2))
        dead = [bool(np.isnan(metrics.train_loss[1])) for _, _, metrics in history]
        assert dead == sorted(dead)
        assert dead[-1]
        states = pick(history, 1)[dead.index(True) :]
        for state, metrics in states:
            assert all(np.isnan(m).all() for m in metrics)
            # It is trained no further.
            assert_trees_equal(state, states[0][0])

    def test_a_dead_candidate_stays_dead_when_resumed(self, train, undisturbed):
        alive = np.array([True, False, True])
        after_first = jax.tree.map(jnp.asarray, undisturbed[0][1])
        resumed = train(population=after_first, start_epoch=1, alive=alive)
        assert alive.tolist() == [True, False, True]
        assert_trees_equal(pick(resumed, 0, 2), pick(undisturbed[1:], 0, 2))
        (state, metrics), _ = pick(resumed, 1)
        assert_trees_equal(state, pick(undisturbed, 1)[0][0])
        assert all(np.isnan(m).all() for m in metrics)

    def test_whom_the_caller_calls_alive_is_the_callers_own(self, train):
        alive = np.ones(3, bool)
        train(hyper=changed(HYPER, 1, learning_rate=np.nan), alive=alive)
        assert alive.all()

    def test_with_nobody_alive_nothing_happens(self, train, undisturbed):
        start = jax.tree.map(jnp.asarray, undisturbed[0][1])
        history = train(population=start, start_epoch=1, alive=np.zeros(3, bool))
        for _, population, metrics in history:
            assert_trees_equal(population, undisturbed[0][1])
            assert all(np.isnan(m).all() for m in metrics)


def slow_loss(weights, arch, smoothing):
    """Cross-entropy with smoothed labels, over the batch that holds all images."""
    seen = Reference(weights, arch, DATA.x)
    targets = (1 - smoothing) * np.eye(3)[np.asarray(DATA.y)] + smoothing / 3
    losses = -(jnp.asarray(targets, jnp.float32) * jax.nn.log_softmax(seen.logits)).sum(1)
    return losses.sum() / len(DATA.x), seen.statistics


def slow_training(variables, arch, *, learning_rate, weight_decay, momentum, smoothing, warmup):
    """Three steps in plain XLA and optax: losses, weights and running averages."""
    weights, averages = by_name(variables.params), by_name(variables.statistics)
    velocity = optax.trace(decay=momentum, nesterov=True)
    state = velocity.init(weights)
    differentiate = jax.jit(
        jax.value_and_grad(lambda w: slow_loss(w, arch, smoothing), has_aux=True)
    )
    losses = []
    for step in range(EPOCHS):
        done = (step + 0.5) / EPOCHS
        cosine = 0.5 * (1 + np.cos(np.pi * (done - warmup) / (1 - warmup)))
        rate = learning_rate * (done / warmup if done < warmup else cosine)
        (loss, statistics), gradient = differentiate(weights)
        losses.append(float(loss))
        for name, w in weights.items():
            if name.endswith("kernel"):
                gradient[name] = gradient[name] + weight_decay * w
        update, state = velocity.update(gradient, state)
        weights = {name: w - rate * update[name] for name, w in weights.items()}
        for name, statistic in statistics.items():
            averages[name] = 0.9 * averages[name] + 0.1 * statistic
    return losses, weights, averages


@pytest.fixture(scope="module")
def whole_batches(train):
    """One step an epoch, on all images: their order does not matter."""
    hyper = changed(HYPER, 2, momentum=0.9, warmup=0.4, weight_decay=0.1)
    return hyper, train(hyper=hyper, batch_size=8)


class TestSteps:
    @pytest.mark.parametrize("row", range(3))
    def test_against_optax_on_one_architectures_own_network(self, tiny, whole_batches, row):
        hyper, history = whole_batches
        variables = tiny.init(jax.random.key(int(SEEDS[row])))
        losses, weights, averages = slow_training(
            variables,
            ARCHS[row],
            learning_rate=hyper.learning_rate[row],
            weight_decay=hyper.weight_decay[row],
            momentum=hyper.momentum[row],
            smoothing=hyper.label_smoothing[row],
            warmup=hyper.warmup[row],
        )
        np.testing.assert_allclose([m.train_loss[row] for _, _, m in history], losses, rtol=1e-4)
        last = jax.tree.map(lambda a: a[row], history[-1][1].variables)
        for got, expected in ((last.params, weights), (last.statistics, averages)):
            assert_trees_close(by_name(got), expected, rtol=1e-3, atol=1e-4)

    def test_branches_not_taken_keep_their_averages(self, whole_batches):
        _, history = whole_batches
        averages = by_name(jax.tree.map(lambda a: a[0], history[-1][1].variables.statistics))
        taken = {f"blocks.0.edges.{e}.branches.{op}" for e, op in enumerate(ARCHS[0])}
        inside = {name for name in averages if name.startswith("blocks")}
        moved = {n for n in inside if (averages[n] != float(n.endswith("variance"))).any()}
        assert moved == {n for n in inside if ".".join(n.split(".")[:6]) in taken}
        assert moved

    def test_without_a_learning_rate_nothing_but_averages_moves(self, tiny, train):
        still = Hyper.constant(3, learning_rate=0.0)
        _, population, _ = train(hyper=still, epochs=1)[0]
        fresh = init_population(tiny, SEEDS, ARCHS).variables
        assert_trees_equal(population.variables.params, fresh.params)
        pairs = zip(
            jax.tree.leaves(population.variables.statistics),
            jax.tree.leaves(fresh.statistics),
            strict=True,
        )
        assert any((a[0] != b[0]).any() for a, b in pairs)


def halves(averages, kernel):
    """Which 4 of 8 images came first, for every candidate and epoch, from the stem's averages.

    With weights at rest the average moves by a tenth of each batch's mean m: from r to
    0.81 r + 0.09 m(first) + 0.1 m(second).
    """
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(DATA.x, kernel, (1, 1), "SAME", dimension_numbers=layout)
    means = np.asarray(y, np.float64).mean((1, 2))
    found, before = [], np.zeros(means.shape[1])
    for after in averages:
        errors = {}
        for first in itertools.combinations(range(8), 4):
            second = [i for i in range(8) if i not in first]
            moved = 0.09 * means[list(first)].mean(0) + 0.1 * means[second].mean(0)
            errors[first] = np.abs(0.81 * before + moved - after).max()
        best, next_best = sorted(errors, key=errors.__getitem__)[:2]
        assert errors[best] < 1e-6 < 1e-5 < errors[next_best]
        found.append(best)
        before = after
    return found


def test_an_epoch_sees_every_image_once_in_the_candidates_own_order(train):
    history = train(hyper=Hyper.constant(3, learning_rate=0.0))
    orders = []
    for row in range(3):
        states = [jax.tree.map(lambda a, r=row: a[r], p.variables) for _, p, _ in history]
        averages = [by_name(s.statistics)["stem.modules.1.mean"] for s in states]
        orders += halves(averages, by_name(states[0].params)["stem.modules.0.kernel"])
    assert len(set(orders)) > 6


class TestEvaluation:
    def test_running_averages_over_more_images_than_a_batch(self, tiny, undisturbed):
        population = jax.tree.map(jnp.asarray, undisturbed[-1][1])
        x, y = split(300, 2)
        loss, accuracy, _ = evaluate_population(tiny, population.variables, ARCHS, x, y)
        for row, arch in enumerate(ARCHS):
            own = jax.tree.map(lambda a, r=row: a[r], population.variables)
            logits = jax.jit(lambda v, x, a=arch: tiny.apply(v, a, x, batch_norm="running").logits)(
                own, x
            )
            chosen = jax.nn.log_softmax(logits)[jnp.arange(300), y]
            assert loss[row] == pytest.approx(-float(chosen.mean()), rel=1e-4)
            assert accuracy[row] == pytest.approx(float((logits.argmax(1) == y).mean()), abs=1e-6)
        assert len(set(accuracy)) > 1

    def test_what_fills_up_the_last_batch_does_not_count(self, tiny, undisturbed):
        # Candidate k takes everything for class k.
        def convinced(path, leaf):
            return 1e3 * np.eye(4, 3) if "classifier" in str(path) and leaf.ndim == 2 else leaf

        population = jax.tree.map(jnp.asarray, undisturbed[-1][1])
        params = jax.tree_util.tree_map_with_path(convinced, population.variables.params)
        variables = population.variables._replace(params=params)
        x, y = split(10, 3)
        _, accuracy, _ = evaluate_population(tiny, variables, ARCHS, x, y)
        np.testing.assert_allclose(accuracy, np.bincount(y) / 10)

    def test_is_what_the_metrics_say(self, tiny, undisturbed):
        for _, population, metrics in undisturbed:
            population = jax.tree.map(jnp.asarray, population)
            found = evaluate_population(tiny, population.variables, ARCHS, DATA.x_val, DATA.y_val)
            assert_trees_equal(found, tuple(metrics[1:]))


def test_constant_hyperparameters():
    hyper = Hyper.constant(4, learning_rate=0.3, momentum=0.8)
    assert all(v.shape == (4,) and v.dtype == np.float32 for v in jax.tree.leaves(hyper))
    assert (hyper.learning_rate == np.float32(0.3)).all()
    assert (hyper.momentum == np.float32(0.8)).all()
    assert (hyper.label_smoothing == 0).all()
