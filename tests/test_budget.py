"""How much a search may train, in words."""

import re

import pytest

from jaxnas.budget import Budget
from jaxnas.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (60, Budget(trainings=60)),
        ("60", Budget(trainings=60)),
        (" 7 ", Budget(trainings=7)),
        ("90s", Budget(seconds=90.0)),
        ("30min", Budget(seconds=1800.0)),
        ("1.5 h", Budget(seconds=5400.0)),
        (".5min", Budget(seconds=30.0)),
    ],
)
def test_trainings_or_a_time(text, expected):
    assert Budget.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "-3", "3 days", "30m", "1e3", "nan", "1,5h", "s", "."]
)
def test_nonsense_is_refused_with_an_example(text):
    with pytest.raises(InputError, match=re.escape(f"budget is {text!r}, expected a number of tr")):
        Budget.parse(text)


@pytest.mark.parametrize("text", [0, "0", "0s", "0.0h"])
def test_a_budget_of_nothing_is_refused(text):
    with pytest.raises(InputError, match="nothing could be trained; expected more than 0"):
        Budget.parse(text)


def test_half_a_training_is_refused():
    with pytest.raises(InputError, match=r"budget is '2\.5', expected a whole number of trainings"):
        Budget.parse("2.5")
