"""Search strategies: who proposes the next architectures. Pure functions and explicit states."""

from jaxnas.catalogue import chosen
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
    return chosen("strategy", text, STRATEGIES)
