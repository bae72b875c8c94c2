"""The formulas of differentiable strategies, and their gradients, against slow references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxnas.nn.mixed import MixedContext, SampledContext
from jaxnas.supernet.differentiable import STRATEGIES
from jaxnas.supernet.differentiable.choices import Choices
from jaxnas.supernet.differentiable.drnas import dirichlet, kl_to_flat
from jaxnas.supernet.differentiable.gradients import unrolled_loss
from jaxnas.supernet.differentiable.pcdarts import edge_softmax
from jaxnas.supernet.differentiable.strategy import Alphas, Now, entropy, masked_softmax

KEPT = np.array([[True, True, True, True], [True, True, True, False]])
ALPHAS = Alphas(jnp.array([[0.5, -0.3, 1.2, 0.0], [0.1, 0.9, -0.7, 5.0]]), jnp.zeros(2))


def weights_of(name, key, alphas=ALPHAS, **now):
    strategy = STRATEGIES[name]
    ctx = strategy.context(alphas, jnp.asarray(KEPT), None, Now(**now), key, "batch")
    return ctx.weights, getattr(ctx, "arch", None)


class TestFormulas:
    def slow_softmax(self, alphas=ALPHAS):
        exponentials = np.exp(np.asarray(alphas.operations, np.float64)) * KEPT
        return exponentials / exponentials.sum(1, keepdims=True)

    def test_softmax_over_what_is_kept(self):
        got = masked_softmax(ALPHAS.operations, jnp.asarray(KEPT))
        np.testing.assert_allclose(got, self.slow_softmax(), rtol=1e-6)
        assert np.isfinite(
            jax.grad(lambda a: masked_softmax(a, KEPT)[1, 1])(ALPHAS.operations)
        ).all()

    @pytest.mark.parametrize("temperature", [0.1, 10.0])
    def test_gdas_draws_by_the_softmax(self, temperature):
        keys = jax.random.split(jax.random.key(0), 20_000)
        weights, drawn = jax.vmap(lambda k: weights_of("gdas", k, temperature=temperature))(keys)
        assert (np.asarray(weights) == 1).all()
        self.check_frequencies(drawn)

    def test_snas_largest_weight_by_the_softmax(self):
        keys = jax.random.split(jax.random.key(1), 20_000)
        weights, _ = jax.vmap(lambda k: weights_of("snas", k, temperature=0.5))(keys)
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
        assert np.asarray(weights)[..., :3].min(-1).max() > 0.01
        self.check_frequencies(np.argmax(weights, axis=-1))

    def check_frequencies(self, drawn):
        expected = self.slow_softmax()
        for edge in range(2):
            counts = np.bincount(np.asarray(drawn)[:, edge], minlength=4)
            there = KEPT[edge]
            assert counts[~there].sum() == 0
            chance = scipy.stats.chisquare(counts[there], expected[edge][there] * len(drawn))
            assert chance.pvalue > 1e-3

    def test_gdas_gradient_is_the_softmaxs(self):
        key = jax.random.key(3)
        noise = np.asarray(jax.random.gumbel(key, (2, 4)))

        def soft(operations):
            logs = jnp.log(masked_softmax(operations, jnp.asarray(KEPT))[0])
            return jax.nn.softmax((logs + noise[0]) / 2.0)

        got = jax.jacrev(
            lambda a: weights_of("gdas", key, Alphas(a, ALPHAS.edges), temperature=2.0)[0]
        )(ALPHAS.operations)
        expected = jax.jacrev(soft)(ALPHAS.operations)
        np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-6)

    def test_temperatures(self):
        gdas, snas = STRATEGIES["gdas"], STRATEGIES["snas"]
        assert [gdas.now(0, e, 3).temperature for e in range(3)] == pytest.approx([10, 5.05, 0.1])
        assert [snas.now(0, e, 3).temperature for e in range(3)] == pytest.approx(
            [1, np.sqrt(0.03), 0.03]
        )

    def test_drnas_moments(self):
        concentration = jnp.array([[0.5, 1.0, 2.0, 1.5], [1.0, 3.0, 0.7, 9.0]])
        keys = jax.random.split(jax.random.key(0), 20_000)
        draws = np.asarray(jax.vmap(lambda k: dirichlet(k, concentration, jnp.asarray(KEPT)))(keys))
        c = np.asarray(concentration) * KEPT
        total = c.sum(1, keepdims=True)
        mean = c / total
        variance = mean * (1 - mean) / (total + 1)
        deviation = np.sqrt(variance / len(keys))
        assert (np.abs(draws.mean(0) - mean) <= 5 * deviation).all()
        np.testing.assert_allclose(draws.var(0), variance, rtol=0.05, atol=1e-6)
        # d E[w] / dc, by pathwise gradients of draws.
        gradient = jax.vmap(
            jax.grad(lambda c, k: dirichlet(k, c, jnp.asarray(KEPT))[0, 2]), in_axes=(None, 0)
        )(concentration, keys[:4000])
        expected = -c[0, 2] / total[0, 0] ** 2 + np.eye(4)[2] / total[0, 0]
        np.testing.assert_allclose(gradient[:, 0].mean(0), expected, atol=0.02)

    def test_drnas_probabilities_are_the_mean(self):
        operations = jnp.array([[0.0, 1.0, -1.0, 2.0], [0.5, 0.0, 0.0, 9.0]])
        got = STRATEGIES["drnas"].probabilities(Alphas(operations, ALPHAS.edges), KEPT, None)
        c = np.where(operations > 0, np.asarray(operations) + 1, np.exp(operations)) * KEPT
        np.testing.assert_allclose(got, c / c.sum(1, keepdims=True), rtol=1e-5)

    def test_kl_to_the_flat_distribution(self):
        concentration = np.array([[0.5, 1.0, 2.0, 1.5], [1.0, 3.0, 0.7, 9.0]])
        got = kl_to_flat(jnp.asarray(concentration, jnp.float32), jnp.asarray(KEPT))
        for row, there, value in zip(concentration, KEPT, got, strict=True):
            own = scipy.stats.dirichlet(row[there])
            flat = scipy.stats.dirichlet(np.ones(there.sum()))
            draws = own.rvs(200_000, random_state=np.random.default_rng(0)).T
            draws = np.clip(draws, 1e-12, 1)
            draws /= draws.sum(0)
            slow = np.mean(own.logpdf(draws) - flat.logpdf(draws))
            assert value == pytest.approx(slow, abs=0.02)
        ones = jnp.ones((2, 4))
        np.testing.assert_allclose(kl_to_flat(ones, jnp.asarray(KEPT)), 0, atol=1e-5)

    def test_beta_decay(self):
        a = np.asarray(ALPHAS.operations, np.float64)
        slow = np.mean(
            [np.log(np.exp(row[there]).sum()) for row, there in zip(a, KEPT, strict=True)]
        )
        strategy = STRATEGIES["betadarts"]
        assert strategy.regulariser(ALPHAS, KEPT) == pytest.approx(slow, rel=1e-5)
        factors = [strategy.now(0, epoch, 3).regulariser for epoch in range(3)]
        assert factors == [0, 25, 50]

    def test_edges_are_normalised_within_their_node(self):
        betas = np.array([0.3, -1.0, 0.5, 2.0])
        got = edge_softmax(jnp.asarray(betas, jnp.float32), np.array([0, 1, 1, 0]))
        a, b = np.exp(betas[[0, 3]]), np.exp(betas[[1, 2]])
        expected = [a[0] / a.sum(), *b / b.sum(), a[1] / a.sum()]
        np.testing.assert_allclose(got, expected, rtol=1e-5)

    def test_entropy(self):
        assert entropy(np.array([[0.5, 0.5, 0], [2.0, 0, 0]])) == pytest.approx(np.log(2) / 2)


class TestSecondOrder:
    def test_against_finite_differences(self):
        # Float64: the inner gradient leaves few digits of float32.
        with jax.enable_x64(True):
            rng = np.random.default_rng(0)
            x, x_val = rng.standard_normal((2, 12, 3))
            y, y_val = rng.standard_normal((2, 12))
            w = {
                "a": jnp.asarray(rng.standard_normal((3, 4))),
                "b": jnp.asarray(rng.standard_normal(4)),
            }
            alphas = jnp.asarray(rng.standard_normal(3))

            def loss(w, alphas, x, y):
                p = jax.nn.softmax(alphas)
                hidden = x @ w["a"]
                mixed = p[0] * hidden + p[1] * jnp.tanh(hidden) + p[2] * jnp.sin(hidden)
                return jnp.mean((mixed @ w["b"] - y) ** 2)

            def train(w, a):
                return loss(w, a, x, y)

            def validate(w, a):
                return loss(w, a, x_val, y_val)

            def step(w, gradient):
                return jax.tree.map(lambda w, g: w - 0.3 * g, w, gradient)

            got = jax.grad(unrolled_loss(train, validate, step), argnums=1)(w, alphas)
            numeric = []
            for direction in np.eye(3) * 1e-5:
                sides = []
                for a in (alphas + direction, alphas - direction):
                    sides.append(validate(step(w, jax.grad(train)(w, a)), a))
                numeric.append(float(sides[0] - sides[1]) / 2e-5)
            first_order = jax.grad(validate, argnums=1)(w, alphas)
        np.testing.assert_allclose(got, numeric, rtol=1e-6)
        assert np.abs(np.asarray(got) - np.asarray(first_order)).max() > 1e-3


def test_contexts_are_of_the_kind_that_a_strategy_says():
    kinds = {
        n: type(
            s.context(
                ALPHAS,
                jnp.asarray(KEPT),
                Choices(KEPT, KEPT, KEPT, np.arange(2)),
                Now(),
                jax.random.key(0),
                "batch",
            )
        )
        for n, s in STRATEGIES.items()
    }
    assert kinds.pop("gdas") is SampledContext
    assert all(issubclass(kind, MixedContext) for kind in kinds.values())
