"""Policies by name: their parameters, the published tables, and JSON."""

import dataclasses
import json

import numpy as np
import pytest
from entered_twice import OTHER_SOURCE
from helpers import assert_trees_equal

from jaxnas.augment import NAMED, Policy, from_json, get_policy, load, save, to_json
from jaxnas.augment.__main__ import main
from jaxnas.augment.named import listed
from jaxnas.augment.operations import NUMBER, OPERATIONS, REACH, SIGNED, reach
from jaxnas.augment.published import CIFAR10, IMAGENET, SVHN
from jaxnas.errors import InputError

PUBLISHED = {
    "autoaugment_cifar10": CIFAR10,
    "autoaugment_imagenet": IMAGENET,
    "autoaugment_svhn": SVHN,
}


@pytest.mark.parametrize("name", NAMED)
class TestContract:
    def test_is_named_and_says_where_it_is_from(self, name):
        kind = NAMED[name]
        assert kind.name == name
        assert kind.__doc__
        assert name == "none" or "arXiv:" in kind.paper

    def test_a_policy_of_float32(self, name):
        policy = get_policy(name)
        assert {np.asarray(field).dtype for field in policy} == {np.dtype(np.float32)}
        assert policy.choice.shape == (policy.subpolicies, policy.layers, len(OPERATIONS))
        assert (policy.choice[policy.probability > 0] > 0).all()

    def test_every_parameter_can_be_given(self, name):
        plain = get_policy(name)
        for field in dataclasses.fields(NAMED[name]):
            value = 3 if isinstance(field.default, int) else 0.25
            other = get_policy(f"{name}:{field.name}={value}")
            assert to_json(other) != to_json(plain)
            if field.name in Policy._fields:
                assert getattr(other, field.name) == np.float32(value)

    def test_json_is_exact(self, name, tmp_path):
        policy = get_policy(f"{name}:flip=0.1:mixup=0.3")
        save(policy, tmp_path / "policy.json")
        read = load(tmp_path / "policy.json")
        assert_trees_equal(read, policy)
        assert {field.dtype for field in read} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tables(name):
    """25 pairs; published probabilities are tenths, and magnitudes are there where they matter."""
    table, policy = PUBLISHED[name], get_policy(name)
    assert policy.choice.shape == (25, 2, len(OPERATIONS))
    assert (policy.weights == 1).all()
    for s, pair in enumerate(table):
        for i, (operation, probability, step) in enumerate(pair):
            number = NUMBER[operation]
            assert np.flatnonzero(policy.choice[s, i]) == [number]
            assert policy.probability[s, i, number] == np.float32(probability)
            assert probability * 10 == pytest.approx(round(probability * 10))
            assert (step is None) == (REACH[operation] == 0)
            assert policy.magnitude[s, i, number] == np.float32((step or 0) / 9)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tables_entered_twice(name):
    """The same pairs from another source, where operations without a magnitude have one all the same."""
    assert len(OTHER_SOURCE[name]) == 25
    for line, pair in zip(OTHER_SOURCE[name], PUBLISHED[name], strict=True):
        words = line.split()
        for i, (operation, probability, step) in enumerate(pair):
            chance, other, magnitude = words[3 * i : 3 * i + 3]
            assert (float(chance), other) == (probability, operation.lower())
            assert step is None or step == int(magnitude)


class TestRandAugment:
    def test_14_operations_alike_at_one_magnitude(self):
        policy = get_policy("randaugment:n=3:m=15")
        assert policy.choice.shape == (1, 3, len(OPERATIONS))
        left_out = {OPERATIONS[i] for i in np.flatnonzero(policy.choice[0, 0] == 0)}
        assert left_out == {"Invert", "Cutout", "SolarizeAdd"}
        assert (policy.magnitude == 0.5).all()
        assert not policy.spread.any()

    @pytest.mark.parametrize("text", ["n=0", "n=-1", "m=31", "m=-1", "m=nan"])
    def test_refused(self, text):
        with pytest.raises(InputError, match=f"randaugment:{text[0]} is"):
            get_policy(f"randaugment:{text}")


def test_trivialaugment_is_wide():
    policy = get_policy("trivialaugment")
    assert policy.layers == policy.subpolicies == 1
    assert (policy.magnitude == 1).all()
    assert (policy.spread == 1).all()
    wide = dict(zip(OPERATIONS, policy.reach, strict=True))
    for name in ("ShearX", "ShearY", "Contrast", "Color", "Brightness", "Sharpness"):
        assert wide[name] == np.float32(0.99)
    assert (wide["Rotate"], wide["Posterize"], wide["Solarize"]) == (135, 6, 256)
    assert wide["TranslateX"] == wide["TranslateY"] == 1


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("randaugmnt", "augmentation policy 'randaugmnt'; did you mean randaugment"),
            ("randaugment:k=2", "parameter of randaugment 'k'"),
            ("randaugment:n=two", "randaugment:n is 'two', expected a whole number"),
            ("flip_crop:flip=x", "flip_crop:flip is 'x', expected a number"),
            ("flip_crop:flip=2", "flip"),
            ("flip_crop:flip", "flip_crop:flip is '', expected a number"),
        ],
    )
    def test_text(self, text, message):
        with pytest.raises(InputError, match=message):
            get_policy(text)

    def test_operations(self):
        with pytest.raises(InputError, match="did you mean Rotate"):
            reach(Rotat=3.0)
        with pytest.raises(InputError, match="did you mean Rotate"):
            listed([[("Rotat", 1.0, 1)]])
        with pytest.raises(InputError, match="as many each"):
            listed([[("Rotate", 1.0, 1)], []])


class TestJson:
    def test_operations_by_name_whatever_their_order(self):
        policy = get_policy("autoaugment_cifar10")
        read = json.loads(to_json(policy))
        order = np.random.default_rng(0).permutation(len(OPERATIONS))
        read["operations"] = [read["operations"][i] for i in order]
        for name in ("choice", "probability", "magnitude", "spread", "reach"):
            read[name] = np.asarray(read[name])[..., order].tolist()
        assert_trees_equal(from_json(json.dumps(read)), policy)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": "other"}, "not of the format"),
            ({"flip": 2.0}, "flip"),
            ({"flip": "much"}, "other than numbers"),
            ({"choice": [[1, 2], [3]]}, "other than numbers"),
            ({"operations": ["Identity", "Rotat"]}, "did you mean Rotate"),
            ({"operations": ["Identity"]}, "1 operations"),
            ({"operations": None}, "lacks operations"),
        ],
    )
    def test_refused(self, change, message):
        read = json.loads(to_json(get_policy("none"))) | change
        with pytest.raises(InputError, match=message):
            from_json(json.dumps(read))

    def test_what_is_missing(self, tmp_path):
        read = json.loads(to_json(get_policy("none")))
        del read["shift"]
        with pytest.raises(InputError, match="lacks shift"):
            from_json(json.dumps(read))
        with pytest.raises(InputError, match="not JSON"):
            from_json("{")
        with pytest.raises(InputError, match=r"nowhere\.json"):
            load(tmp_path / "nowhere.json")


def test_signed_operations_are_operations():
    assert set(SIGNED) < set(OPERATIONS)


def test_the_list_names_all(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*NAMED, *OPERATIONS))
