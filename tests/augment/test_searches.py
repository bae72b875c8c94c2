"""All searches of policies, on images where one operation is what helps."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_equal, compilations

from jaxnas.augment import OPERATIONS, PolicyAugment, checked, get_policy
from jaxnas.augment.search import SEARCHES, Found, Keeper, Setting
from jaxnas.augment.search.dada import Shape, alternated, differentiable
from jaxnas.augment.search.fast import Plan, density_matching
from jaxnas.augment.search.pba import population_based
from jaxnas.augment.search.setting import folds
from jaxnas.errors import InputError
from jaxnas.training.epoch import Recipe
from jaxnas.training.hyper import Hyper
from jaxnas.training.population import TrainingData

OPS = ("Rotate", "Invert", "Brightness", "Cutout")
AUGMENTER = PolicyAugment((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 0.0, 1.0)
ROW = np.array([3, 2, 3, 1, 2, 3], np.int32)
SHAPE = Shape(subpolicies=1, layers=1, rate=0.1)
QUICK = {
    "pba": partial(population_based, operations=("Rotate", "Invert"), interval=1),
    "fast": partial(density_matching, operations=OPS, plan=Plan(3, 16, 4)),
    "dada": partial(differentiable, operations=OPS, shape=SHAPE),
}
"""Each with less to do."""
MEMBERS = {"pba": 8, "fast": 2, "dada": 2}
PROGRAMS = ("train_epoch", "_evaluate", "mean_losses", "_epoch")


def images(n: int, inverted: float, seed: int = 0):
    """Three colours, each with its texture; a share of the images is inverted."""
    fixed = np.random.default_rng(7)
    rng = np.random.default_rng(seed)
    colours = np.array([[200, 60, 40], [40, 190, 70], [60, 70, 210]])[:, None, None]
    kinds = colours + fixed.uniform(-40, 40, (3, 8, 8, 3))
    y = np.arange(n) % 3
    levels = np.clip(kinds[y] + rng.normal(0, 15, (n, 8, 8, 3)), 0, 255).round()
    negative = rng.random(n) < inverted
    levels = np.where(negative[:, None, None, None], 255 - levels, levels)
    return jnp.asarray((levels / 255 - 0.5) / 0.25, jnp.float32), jnp.asarray(y, jnp.int32)


@pytest.fixture(scope="module")
def setting(tiny):
    """Training images as they are, validation images inverted."""

    def make(members=2, epochs=2, trained=0.0, **others):
        given = {
            "data": TrainingData(*images(96, trained), *images(48, 1.0, seed=1)),
            "hyper": Hyper.constant(
                members, learning_rate=0.1, policy=get_policy("trivialaugment")
            ),
            "recipe": Recipe(augmenter=AUGMENTER),
            "batch_size": 16,
            "metric": "accuracy",
            "seed": 0,
            "beside": get_policy("none:flip=0.5"),
        }
        given |= {"members": members, "epochs": epochs} | others
        return Setting(tiny, ROW, **given)

    return make


def use(policy):
    """How much of each operation images get, by name."""
    share = policy.weights / policy.weights.sum()
    choice = policy.choice / policy.choice.sum(-1, keepdims=True)
    strength = np.where(policy.reach > 0, policy.magnitude, 1)
    total = np.einsum("s,slk->k", share, choice * policy.probability * strength)
    return {name: total[i] for i, name in enumerate(OPERATIONS) if name != "Identity"}


def preferred(policy):
    return max(use(policy), key=use(policy).__getitem__)


@pytest.mark.parametrize("name", QUICK)
class TestContract:
    def test_it_finds_a_policy_the_same_each_time(self, name, setting):
        heard = []
        given = setting(MEMBERS[name], advance=lambda n, s: heard.append((n, s)))
        found = QUICK[name](given)
        assert isinstance(found, Found)
        policy = checked(found.policy)
        assert_trees_equal(policy, found.policy)
        assert policy.flip == 0.5
        assert policy.shift == 0
        known = {"Rotate", "Invert", "Brightness", "Cutout"}
        assert {k for k, v in use(policy).items() if v > 0} <= known
        assert 1 <= sum(n for n, _ in heard) <= given.members * given.epochs
        assert all(said for _, said in heard)
        if found.schedule is not None:
            assert {len(field) for field in found.schedule} == {given.epochs}
            assert_trees_equal(found.schedule.rows(-1), policy)
        with compilations() as names:
            again = QUICK[name](given)
        assert not set(PROGRAMS) & {n.removeprefix("jit_") for n in names}
        assert_trees_equal(again, found)
        other = QUICK[name](replace(given, seed=1))
        if name != "pba":  # all of whose members begin with the same
            assert not np.array_equal(other.policy.magnitude, policy.magnitude)

    def test_no_augmenter_is_refused(self, name, setting):
        with pytest.raises(InputError, match="expected a PolicyAugment"):
            QUICK[name](setting(recipe=Recipe()))

    def test_other_operations_are_refused(self, name, setting):
        with pytest.raises(InputError, match="Invert"):
            SEARCHES[name](setting(), operations=("Invertt",))


class TestWhatHelps:
    def test_pba_prefers_it(self, setting):
        given = setting(members=8, epochs=12)
        found = QUICK["pba"](given)
        assert use(found.policy)["Invert"] > 2 * use(found.policy)["Rotate"]
        assert use(found.schedule.rows(0))["Invert"] == 0

    @pytest.mark.parametrize("seed", [0, 1])
    def test_density_matching_prefers_what_the_data_has(self, setting, seed):
        given = setting(epochs=20, trained=0.5, seed=seed)
        found = QUICK["fast"](given)
        assert found.policy.subpolicies == 2 * 4
        assert found.policy.layers == 2
        share = use(found.policy)
        assert share["Invert"] > 0.3
        assert share["Invert"] > 3 * max(v for k, v in share.items() if k != "Invert")

    def test_dada_prefers_it_where_it_helps_and_not_where_it_does_not(self, setting):
        given = setting(epochs=20)
        train, held = images(48, 0.0), images(48, 1.0, seed=1)
        helped = alternated(given, train, held, operations=OPS, shape=SHAPE).policy
        share = use(helped)
        assert preferred(helped) == "Invert"
        assert share["Invert"] > 2 * max(v for k, v in share.items() if k != "Invert")
        same = alternated(given, train, images(48, 0.0, seed=1), operations=OPS, shape=SHAPE)
        assert use(same.policy)["Invert"] < 0.5 * share["Invert"]


def test_one_member_has_nobody_to_exchange_with(setting):
    with pytest.raises(InputError, match="1 members, expected at least 2"):
        population_based(setting(members=1))


def test_folds_have_one_size_and_all_classes_alike():
    y = np.repeat([0, 1, 2], [20, 31, 12])
    parts = folds(y, 5, seed=0)
    assert parts.shape == (5, 12)
    assert len(np.unique(parts)) == 60
    counts = np.stack([np.bincount(y[part], minlength=3) for part in parts])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert not np.array_equal(parts, folds(y, 5, seed=1))
    with pytest.raises(InputError, match="4 training images"):
        folds(y[:4], 5, seed=0)


def test_logs_of_divergence_are_one_sentence(setting):
    given = setting()
    wild = given.hyper._replace(learning_rate=np.full(2, 1e30, np.float32))
    with pytest.raises(InputError, match="diverged"):
        QUICK["fast"](replace(given, hyper=wild))
    with pytest.raises(InputError, match="diverged in epoch 1 of"):
        QUICK["dada"](replace(given, hyper=wild))


class Memory(Keeper):
    """Keeps in a list, through JSON as a journal does; `dies` after so many units."""

    def __init__(self, dies=0):
        self.kept, self.dies = [], dies

    def units(self):
        return [json.loads(figures) for figures, _ in self.kept]

    def keep(self, state=None, **figures):
        plain = {k: np.asarray(v).tolist() for k, v in figures.items()}
        self.kept.append((json.dumps(plain), jax.tree.map(np.array, state)))
        if len(self.kept) == self.dies:
            raise KeyboardInterrupt

    def state(self, like):
        return jax.tree.map(lambda a, b: jnp.asarray(b), like, self.kept[-1][1])


@pytest.mark.parametrize("name", SEARCHES)
def test_an_interrupted_search_goes_on_and_ends_as_undisturbed(name, setting):
    given = setting(epochs=3)
    trained = []
    whole = QUICK[name](replace(given, advance=lambda n, said: trained.append((n, said))))
    memory = Memory(dies=1)
    with pytest.raises(KeyboardInterrupt):
        QUICK[name](replace(given, keeper=memory))
    memory.dies, again = 0, []
    found = QUICK[name](
        replace(given, keeper=memory, advance=lambda n, said: again.append((n, said)))
    )
    assert_trees_equal(found, whole)
    (behind,) = [n for n, said in again if said == "from the journal"]
    assert 0 < behind < sum(n for n, _ in again) == sum(n for n, _ in trained)
    # What is done is not done again.
    assert sum(n for n, said in again if said != "from the journal") < sum(n for n, _ in trained)
