"""Hyper-parameter optimisation of a running population: whose weights are copied, who is trained how."""

import dataclasses
import re
from typing import Any

from jaxnas.errors import InputError, unknown
from jaxnas.hpo.asha import Asha
from jaxnas.hpo.bohb import Bohb
from jaxnas.hpo.boss import Boss
from jaxnas.hpo.cmaes import Cmaes
from jaxnas.hpo.drive import Done, Result, run
from jaxnas.hpo.functions import FunctionTrials
from jaxnas.hpo.gp import Gp
from jaxnas.hpo.grid import Grid
from jaxnas.hpo.hyperband import Hyperband
from jaxnas.hpo.pb2 import Pb2
from jaxnas.hpo.pbt import Pbt
from jaxnas.hpo.random import Random
from jaxnas.hpo.ranges import choice, integer, log_uniform, only_if, uniform
from jaxnas.hpo.schedule import Replay, Schedule
from jaxnas.hpo.space import Space
from jaxnas.hpo.successive_halving import SuccessiveHalving
from jaxnas.hpo.tpe import Tpe
from jaxnas.hpo.tuner import Segment, Trials, Tuner

TUNERS: dict[str, type[Tuner]] = {
    tuner.name: tuner
    for tuner in (
        Grid,
        Random,
        SuccessiveHalving,
        Hyperband,
        Asha,
        Bohb,
        Boss,
        Pbt,
        Pb2,
        Tpe,
        Gp,
        Cmaes,
    )
}
"""The tuners by name. A new one is its file and a line here."""

_KINDS = {int: "a whole number", float: "a number", str: "text"}

__all__ = [
    "TUNERS",
    "Done",
    "FunctionTrials",
    "Replay",
    "Result",
    "Schedule",
    "Segment",
    "Space",
    "Trials",
    "Tuner",
    "choice",
    "get_tuner",
    "integer",
    "log_uniform",
    "only_if",
    "run",
    "uniform",
]


def get_tuner(text: str) -> Tuner:
    """The tuner of a name, its parameters after colons: `pbt:exploit=t_test:interval=5`.

    Raises:
        InputError: no such tuner or parameter (with the nearest), or a value that it cannot have.
    """
    # A colon within a value, as in storage=sqlite:///study.db, is followed by no parameter.
    name, *settings = re.split(r":(?=[a-z_0-9]+=|[a-z_0-9]+$)", text)
    if name not in TUNERS:
        raise unknown("tuner", name, TUNERS)
    kind = TUNERS[name]
    known = {f.name: f.default for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in known or not equals:
            raise unknown(f"parameter of {name}", key, known)
        made = type(known[key])
        try:
            given[key] = made(value)
        except ValueError:
            raise InputError(f"{name}:{key} is {value!r}, expected {_KINDS[made]}.") from None
    return kind(**given)
