"""Evolution, pruning and perturbation by label-free scores, on scores whose best is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import BEST, SPACE

from jaxnas.errors import InputError
from jaxnas.nn.mixed import MixedContext
from jaxnas.proxies import get_proxies
from jaxnas.ranking import make_batch
from jaxnas.search_spaces import get_space
from jaxnas.spaces import Size
from jaxnas.strategies.guided import around, explore
from jaxnas.strategies.pruning import perturb, perturbation_cost, prune, pruning_cost
from jaxnas.strategies.relaxed import branches, relaxed_scores

NB201 = get_space("nasbench201")
CELL = np.array([3, 0, 3, 1, 4, 2])
WORTH = np.random.default_rng(0).uniform(0.1, 1, (6, 5))
WORTH[np.arange(6), CELL] = 2.0


def right(archs):
    """How many decisions are right."""
    return {"right": (archs == BEST).sum(axis=1).astype(float)}


def test_evolution_finds_what_random_draws_do_not():
    counted = []

    def score(archs):
        counted.append(len(archs))
        return right(archs)

    found = explore(SPACE, score, jax.random.key(0), 400, random=0.2)
    drawn = right(SPACE.sample_distinct(jax.random.key(1), 400))["right"]
    assert sum(counted) == len(found.archs) == 400
    assert found.scores["right"][0] == 8
    assert found.scores["right"].mean() > drawn.mean() + 1.5
    np.testing.assert_array_equal(found.scores["right"], right(found.archs)["right"])
    assert (np.diff(found.combined) <= 0).all()
    assert len(np.unique(found.archs, axis=0)) == 400
    again = explore(SPACE, right, jax.random.key(0), 400, random=0.2)
    np.testing.assert_array_equal(found.archs, again.archs)


def test_evolution_minds_nan_and_what_computes_the_same():
    small = get_space("transnas_macro")

    def score(archs):
        value = archs.sum(axis=1).astype(float)
        return {"sum": np.where(archs[:, 0] == 1, np.nan, value)}

    found = explore(small, score, jax.random.key(0), 300, generation=16)
    assert small.valid(found.archs).all()
    assert len(np.unique(small.pruned(found.archs), axis=0)) == len(found.archs)
    assert np.isnan(found.scores["sum"][-1])
    assert not np.isnan(found.scores["sum"][0])
    with pytest.raises(InputError, match="budget of 0"):
        explore(SPACE, right, jax.random.key(0), 0)


def test_around_begins_with_what_was_given():
    start = np.stack([BEST, np.zeros(8, np.int32)])
    found = around(SPACE, start, 300, jax.random.key(0))
    np.testing.assert_array_equal(found[:2], start)
    assert len(np.unique(found, axis=0)) == 300
    apart = (found[:, None] != start[None]).sum(axis=2).min(axis=1)
    assert (apart <= 3).mean() > 0.9
    assert len(around(SPACE, start, 1, jax.random.key(0))) == 1


def worth(seed):
    """Masks are worth what their best branches are."""
    return lambda masks: {"worth": np.where(masks, WORTH, 0).max(axis=2).sum(axis=1)}


@pytest.mark.parametrize(("run", "cost"), [(prune, pruning_cost), (perturb, perturbation_cost)])
def test_the_branches_that_matter_stay(run, cost):
    present = np.ones((6, 5), bool)
    scorings = []

    def counting(seed):
        def score(masks):
            scorings.append(len(masks))
            return worth(seed)(masks)

        return score

    takes = cost(present)
    found = run(NB201, present, counting, jax.random.key(0), 2 * takes + 1)
    np.testing.assert_array_equal(found.archs, CELL[None])
    assert found.scores["worth"].tolist() == [12.0]
    assert sum(scorings) == 2 * takes
    with pytest.raises(InputError, match=f"takes {takes}"):
        run(NB201, present, worth, jax.random.key(0), takes - 1)


@pytest.fixture(scope="module")
def tiny():
    return NB201.network(Size(2, (1,), 8), classes=3)


def test_masks_are_scored_on_the_mean_of_what_is_left(tiny):
    """The gradient norm of the network of mixed choices, branch by branch, in plain JAX."""
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(4, 8, 8, 3)).astype("f"), np.array([0, 1, 2, 0])
    batch = make_batch(images, labels)
    present = branches(tiny)
    assert present.shape == (6, 5)
    masks = rng.random((3, 6, 5)) < 0.6
    masks[:, :, 1] = True
    score = relaxed_scores(tiny, batch, get_proxies(["grad_norm", "naswot"]), seed=2)
    found = score(masks)
    variables = tiny.init(jax.random.key(2))
    assert np.isfinite(found["naswot"]).all()
    for mask, value in zip(masks, found["grad_norm"], strict=True):
        weights = mask / mask.sum(axis=1, keepdims=True)

        def loss(params, weights=weights):
            ctx = MixedContext(jnp.asarray(weights, "float32"))
            logits = tiny.apply_in(
                variables._replace(params=params), ctx, jnp.asarray(images)
            ).logits
            chosen = jax.nn.log_softmax(logits)[jnp.arange(4), labels]
            return -chosen.mean()

        gradients = jax.tree.leaves(jax.grad(loss)(variables.params))
        expected = sum(np.linalg.norm(np.asarray(g)) for g in gradients if g.ndim > 1)
        assert value == pytest.approx(expected, rel=1e-3)
    for name in ("params", "fisher"):
        with pytest.raises(InputError, match="not defined for mixed choices"):
            relaxed_scores(tiny, batch, get_proxies([name]))


def test_widths_cannot_be_mixed():
    space = get_space("nats_size")
    network = space.network(space.proxy_size, classes=10)
    with pytest.raises(InputError, match="and widths"):
        branches(network)
