"""Surrogate predictors, by name. A new one is a file here, a line in `PREDICTORS` and its reference in
`tests/predictors/`."""

from collections.abc import Iterable

from jaxnas.errors import InputError, unknown
from jaxnas.predictor import Predictor
from jaxnas.predictors.boosting import Boosting
from jaxnas.predictors.curve import Curve
from jaxnas.predictors.default import Default
from jaxnas.predictors.encodings import ENCODINGS, encode
from jaxnas.predictors.forest import RandomForest
from jaxnas.predictors.gnn import GNN
from jaxnas.predictors.gp import GP, WeisfeilerLehmanGP
from jaxnas.predictors.linear import BayesianLinear, Ridge
from jaxnas.predictors.mlp import MLPEnsemble
from jaxnas.predictors.natural import NGBoost

__all__ = ["ENCODINGS", "PREDICTORS", "encode", "get_predictors"]

PREDICTORS: dict[str, Predictor] = {
    p.name: p
    for p in (
        Default(),
        Ridge(),
        BayesianLinear(),
        GP(),
        WeisfeilerLehmanGP(),
        RandomForest(),
        Boosting(),
        MLPEnsemble(),
        GNN(),
        NGBoost(),
        Curve(),
    )
}


def get_predictors(names: str | Iterable[str]) -> tuple[Predictor, ...]:
    """The predictors of these names, a list or separated by commas.

    Raises:
        InputError: an unknown name (with the nearest), a name twice, or none at all.
    """
    names = [n for n in names.split(",") if n] if isinstance(names, str) else list(names)
    if not names:
        raise InputError("No predictor was given; expected one or more names, as in default,gp.")
    for name in names:
        if name not in PREDICTORS:
            raise unknown("predictor", name, PREDICTORS)
        if names.count(name) > 1:
            raise InputError(f"A predictor is named twice in {','.join(names)}.")
    return tuple(PREDICTORS[name] for name in names)
