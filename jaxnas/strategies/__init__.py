"""Search strategies: who proposes the next architectures. Pure functions and explicit states."""

import dataclasses
from typing import Any

from jaxnas.errors import InputError, unknown
from jaxnas.strategies.area import Area
from jaxnas.strategies.asha import Asha
from jaxnas.strategies.bananas import Bananas
from jaxnas.strategies.bo import BayesianOptimisation
from jaxnas.strategies.cars import Cars
from jaxnas.strategies.default import Default
from jaxnas.strategies.grid import Grid
from jaxnas.strategies.hyperband import Hyperband
from jaxnas.strategies.largest import Largest
from jaxnas.strategies.local import Local
from jaxnas.strategies.npenas import Npenas
from jaxnas.strategies.nsga2 import Nsga2
from jaxnas.strategies.proxy import Proxy
from jaxnas.strategies.random import Random
from jaxnas.strategies.regularized_evolution import RegularizedEvolution
from jaxnas.strategies.reinforce import Reinforce
from jaxnas.strategies.rnn_controller import RnnController
from jaxnas.strategies.successive_halving import SuccessiveHalving
from jaxnas.strategies.warm_evolution import WarmEvolution
from jaxnas.strategy import Strategy

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy
    for strategy in (
        Default,
        Random,
        Grid,
        Proxy,
        Largest,
        Local,
        RegularizedEvolution,
        WarmEvolution,
        Area,
        Reinforce,
        RnnController,
        SuccessiveHalving,
        Hyperband,
        Asha,
        Nsga2,
        Cars,
        Bananas,
        Npenas,
        BayesianOptimisation,
    )
}
"""The strategies by name. A new one is its file and a line here."""


def get_strategy(text: str) -> Strategy:
    """The strategy of a name, its parameters after colons: `regularized_evolution:population=100`.

    Raises:
        InputError: no such strategy or parameter (with the nearest), or a value that it cannot have.
    """
    name, *settings = text.split(":")
    if name not in STRATEGIES:
        raise unknown("strategy", name, STRATEGIES)
    kind = STRATEGIES[name]
    known = (
        {f.name: f.default for f in dataclasses.fields(kind)}
        if dataclasses.is_dataclass(kind)
        else {}
    )
    given: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in known or not equals:
            raise unknown(f"parameter of {name}", key, known)
        given[key] = _read(f"{name}:{key}", value, known[key])
    return kind(**given)


def _read(where: str, text: str, default: Any) -> Any:
    """`text` as what the default is."""
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise InputError(f"{where} is {text!r}, expected true or false.")
        return text == "true"
    try:
        return type(default)(text)
    except ValueError:
        what = "a whole number" if isinstance(default, int) else "a number"
        raise InputError(f"{where} is {text!r}, expected {what}.") from None
