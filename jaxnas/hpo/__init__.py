"""Hyper-parameter optimisation of a running population: whose weights are copied, who is trained how."""

from jaxnas.catalogue import chosen
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
    return chosen("tuner", text, TUNERS)
