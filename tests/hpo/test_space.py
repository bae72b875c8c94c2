"""Spaces of hyper-parameters: decoding, conditions, grids, the YAML language."""

import numpy as np
import pytest
from populations import MIXED, PLAIN

from jaxnas.errors import InputError
from jaxnas.hpo import Space, choice, integer, log_uniform, only_if, uniform
from jaxnas.language import BinaryArray, Description

FILE = """
search_space:
  type: SearchSpace
  hyperparameters:
    - {key: optim.type, type: CATEGORY, range: [Adam, SGD]}
    - {key: optim.lr, type: FLOAT_EXP, range: [0.001, 0.1]}
    - {key: optim.momentum, type: FLOAT, range: [0.0, 0.99]}
  condition:
    - {key: c, child: optim.momentum, parent: optim.type, type: EQUAL, range: [SGD]}
"""


def test_values_are_what_programs_read():
    rows = MIXED.encode(
        [
            {
                "rate": 0.1,
                "kind": "sgd",
                "momentum": 0.5,
                "layers": 3,
                "size": 16,
                "nesterov": True,
            },
            {"rate": 1.0, "kind": "adam", "layers": 6, "size": 8},
        ]
    )
    values = MIXED.values(rows)
    assert {k: v.dtype for k, v in values.items()} == dict.fromkeys(MIXED.names, np.float32)
    np.testing.assert_allclose(values["rate"], [0.1, 1], rtol=1e-6)
    np.testing.assert_array_equal(values["kind"], [0, 1])
    np.testing.assert_allclose(values["momentum"], [0.5, 0])  # inactive: as the space says
    np.testing.assert_array_equal(values["layers"], [3, 6])
    np.testing.assert_array_equal(values["size"], [16, 8])
    # Inactive, and nothing said: the middle of the cube, the second of two.
    np.testing.assert_array_equal(values["nesterov"], [1, 1])
    np.testing.assert_array_equal(rows[1, [2, 5]], 0.5)
    np.testing.assert_array_equal(MIXED.active(rows)[:, 2], [True, False])


def test_rows_and_configurations_there_and_back():
    rows = MIXED.sample(np.random.default_rng(0), 200)
    again = MIXED.encode(MIXED.configurations(rows))
    np.testing.assert_allclose(again, rows, atol=1e-12)
    np.testing.assert_array_equal(MIXED.canonical(rows), rows)
    assert MIXED.allowed(rows).all()
    rate = MIXED.values(rows)["rate"]
    assert 0.3 < (rate < np.sqrt(1e-3)).mean() < 0.7  # uniform in the logarithm
    same = MIXED.canonical(
        np.array([[0.2, 0.4, 0.1, 0.2, 0.3, 0.9], [0.2, 0.5, 0.8, 0.2, 0.3, 0.1]])
    )
    np.testing.assert_array_equal(same[0], same[1])  # adam: momentum and nesterov mean nothing


def test_a_grid_has_each_configuration_once():
    space = Space.of(
        {"lr": log_uniform(0.01, 1.0), "kind": choice("a", "b", "c"), "m": uniform(0.0, 1.0)},
        [only_if("m", "kind", "b")],
    )
    found = space.configurations(space.grid(3))
    expected = [
        {"lr": lr, "kind": kind} | ({"m": m} if kind == "b" else {})
        for lr in (0.01, 0.1, 1.0)
        for kind in ("a", "b", "c")
        for m in ((0.0, 0.5, 1.0) if kind == "b" else (0.0,))
    ]
    assert [sorted(c) for c in found] == [sorted(c) for c in expected]
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b) if "kind" not in a else a["lr"] == pytest.approx(b["lr"])
        assert (a["kind"], a.get("m")) == (b["kind"], b.get("m"))
    whole = Space.of({"n": integer(1, 9)})
    np.testing.assert_array_equal(whole.values(whole.grid(3))["n"], [1, 5, 9])
    np.testing.assert_array_equal(whole.values(whole.grid(9))["n"], range(1, 10))
    assert len(MIXED.grid(2)) < 2 * 3 * 2 * 2 * 2 * 2
    assert MIXED.allowed(MIXED.grid(6)).all()


def test_features_keep_words_equally_far_apart():
    space = Space.of({"kind": choice("a", "b", "c"), "x": uniform(0.0, 2.0)})
    rows = space.encode([{"kind": k, "x": x} for k, x in [("a", 0.0), ("b", 0.0), ("c", 2.0)]])
    f = space.features(rows)
    apart = np.square(f[:, None] - f[None]).sum(axis=2)
    np.testing.assert_allclose(apart, [[0, 1, 2], [1, 0, 2], [2, 2, 0]])


def test_a_space_from_the_yaml_language(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(FILE)
    space = Space.read(path, inactive={"optim.momentum": -1})
    rows = space.sample(np.random.default_rng(0), 50)
    values = space.values(rows)
    adam = values["optim.type"] == 0
    assert 0 < adam.sum() < 50
    assert (values["optim.momentum"][adam] == -1).all()
    assert (values["optim.momentum"][~adam] >= 0).all()
    assert space.identity() == Space.read(path, inactive={"optim.momentum": -1}).identity()
    path.write_text(FILE.replace("0.99", "0.9"))
    assert space.identity() != Space.read(path, inactive={"optim.momentum": -1}).identity()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Space(Description((BinaryArray("a", 2, 3),))), "BINARY_ARRAY, an array"),
        (lambda: Space.of({"x": uniform(0.0, 1.0)}, inactive={"y": 0}), "hyper-parameter 'y'"),
        (lambda: PLAIN.encode([{"z": 1.0}]), "Unknown hyper-parameter 'z'"),
        (lambda: PLAIN.encode([{"x": 2.0}]), "outside its range"),
        (lambda: PLAIN.grid(0), "0 levels"),
        (lambda: PLAIN.grid(400), "more than 100,000 points"),
        (lambda: Space.of({"x": log_uniform(0.0, 1.0)}), "above 0"),
    ],
)
def test_spaces_that_cannot_be(make, said):
    with pytest.raises(InputError, match=said):
        make()
