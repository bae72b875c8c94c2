"""The sentences of bad input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnas.errors import InputError, nearest, unknown

NAMES = ["naswot", "params", "macs", "grad_norm", "synflow"]


def test_it_is_a_value_error():
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("naswott", ["naswot"]),
        ("NASWOT", ["naswot"]),
        ("grad", ["grad_norm"]),
        ("gradnorm", ["grad_norm"]),
        ("param", ["params"]),
        ("xyzzy", []),
        ("", []),
    ],
)
def test_the_nearest_names(name, expected):
    assert nearest(name, NAMES) == expected


def test_beginnings_come_before_resemblances_and_no_more_than_asked():
    known = ["batch_size", "bat", "batch", "match", "patch"]
    assert nearest("batc", known)[:2] == ["batch_size", "batch"]
    assert len(nearest("batc", known, n=2)) == 2


def test_known_names_may_be_written_in_capitals():
    assert nearest("cifar", ["DIGITS", "CIFAR10"]) == ["CIFAR10"]
    assert nearest("difits", ["DIGITS", "CIFAR10"]) == ["DIGITS"]


@given(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=6))
def test_the_nearest_are_known_and_named_once(name, known):
    found = nearest(name, iter(known))
    assert set(found) <= set(known)
    assert len(set(found)) == len(found) <= 3


def test_an_unknown_name_is_answered_with_the_nearest():
    error = unknown("proxy", "naswott", NAMES)
    assert isinstance(error, InputError)
    assert str(error) == "Unknown proxy 'naswott'; did you mean naswot?"


def test_without_a_near_one_all_are_listed():
    message = str(unknown("proxy", "xyzzy", iter(NAMES)))
    assert message == ("Unknown proxy 'xyzzy'; known: grad_norm, macs, naswot, params, synflow.")
