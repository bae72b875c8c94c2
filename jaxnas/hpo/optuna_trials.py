"""Between rows of a space and trials of an Optuna study (Akiba et al., arXiv:1907.10902)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.errors import InputError
from jaxnas.hpo.space import Space
from jaxnas.language import Category, Parameter
from jaxnas.language.intervals import Float, FloatExp, Interval, IntExp

SPACE, BEFORE, RUN, SEGMENT, MEMBER, DIVERGED = (
    f"jaxnas:{name}" for name in ("space", "before", "run", "segment", "member", "diverged")
)
"""Attributes of studies and trials."""
TRIES = 3
"""A proposal that is forbidden is replaced so often, then by a uniform draw: a sampler that does not draw
would propose the same again and again."""


def optuna_for(name: str) -> Any:
    """The module.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module("optuna")
    except ImportError:
        raise InputError(
            f"The tuner {name} needs Optuna, which is not installed: pip install 'jaxnas[hpo]'."
        ) from None


@contextmanager
def quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's notes on every study and trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def opened(optuna: Any, storage: str, name: str, space: Space) -> Iterator[Any]:
    """The study in a database, made if it is not there; closed afterwards.

    Raises:
        InputError: the database cannot be opened, or the study is of another space.
    """
    errors = import_module("sqlalchemy.exc").SQLAlchemyError
    url = storage if "://" in storage else f"sqlite:///{Path(storage)}"
    with quiet(optuna):
        try:
            database = optuna.storages.RDBStorage(url)
        except (errors, ImportError, RuntimeError, optuna.exceptions.OptunaError) as error:
            first = str(error).strip().partition("\n")[0]
            raise InputError(f"Cannot open the study database {storage}: {first}") from None
        try:
            study = optuna.create_study(
                storage=database, study_name=name, direction="maximize", load_if_exists=True
            )
            _check(study, storage, name, space)
            yield study
        finally:
            database.remove_session()
            database.engine.dispose()


def _check(study: Any, storage: str, name: str, space: Space) -> None:
    known = study.user_attrs.get(SPACE)
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(SPACE, space.identity())
    elif known != space.identity():
        theirs = (
            "unknown" if known is None else ", ".join(p[1] for p in json.loads(known)["parameters"])
        )
        raise InputError(
            f"The study {name!r} in {storage} belongs to another space ({theirs}), not to "
            f"{', '.join(space.names)} with the ranges given; expected another study or database."
        )


def distribution(optuna: Any, parameter: Parameter) -> Any:
    """What Optuna calls a parameter's range."""
    made = optuna.distributions
    if isinstance(parameter, Float):
        log = isinstance(parameter, FloatExp)
        return made.FloatDistribution(float(parameter.low), float(parameter.high), log=log)
    if isinstance(parameter, Interval):
        return made.IntDistribution(
            parameter.low, parameter.high, log=isinstance(parameter, IntExp)
        )
    assert isinstance(parameter, Category)
    return made.CategoricalDistribution(parameter.choices)


def past(
    optuna: Any, space: Space, rows: np.ndarray, fitness: np.ndarray, attrs: np.ndarray
) -> list[Any]:
    """Finished trials as a sampler is to see them: who diverged was as bad as the worst."""
    finite = fitness[np.isfinite(fitness)]
    worst = finite.min() if len(finite) else 0.0
    ranges = {p.key: distribution(optuna, p) for p in space.parameters}
    return [
        optuna.trial.create_trial(
            value=float(value) if np.isfinite(value) else float(worst),
            params=params,
            distributions={name: ranges[name] for name in params},
            system_attrs=json.loads(noted),
        )
        for params, value, noted in zip(space.configurations(rows), fitness, attrs, strict=True)
    ]


def proposed(
    optuna: Any, study: Any, space: Space, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, Any]]:
    """A new trial's row `float64[P]` and what the sampler noted of it; the trial stays under way."""
    for _ in range(TRIES):
        trial = study.ask()
        chosen: dict[str, Any] = {}
        for parameter in in_order(space):
            if is_active(space, parameter.key, chosen):
                chosen[parameter.key] = suggested(trial, parameter)
        row = space.encode([chosen])
        if space.allowed(row)[0]:
            return row[0], study.get_trials(deepcopy=False)[trial.number].system_attrs
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return space.sample(rng, 1)[0], {}


def suggested(trial: Any, parameter: Parameter) -> Any:
    """A value of the parameter, as the trial's sampler has it."""
    if isinstance(parameter, Float):
        log = isinstance(parameter, FloatExp)
        return trial.suggest_float(
            parameter.key, float(parameter.low), float(parameter.high), log=log
        )
    if isinstance(parameter, Interval):
        log = isinstance(parameter, IntExp)
        return trial.suggest_int(parameter.key, parameter.low, parameter.high, log=log)
    assert isinstance(parameter, Category)
    return trial.suggest_categorical(parameter.key, parameter.choices)


def in_order(space: Space) -> list[Parameter]:
    """Parameters, each behind those that decide whether it is active."""
    parents: dict[str, set[str]] = {name: set() for name in space.names}
    for condition in space.description.conditions:
        parents[condition.child].add(condition.parent)
    found: list[Parameter] = []
    while len(found) < space.dimensions:
        there = {p.key for p in found}
        found += [p for p in space.parameters if p.key not in there and parents[p.key] <= there]
    return found


def is_active(space: Space, name: str, chosen: dict[str, Any]) -> bool:
    """Whether a parameter is active where those before it have the values chosen."""
    by_name = {p.key: p for p in space.parameters}
    for condition in space.description.conditions:
        if condition.child != name:
            continue
        parent = by_name[condition.parent]
        on = condition.parent in chosen
        kind = object if parent.kinds == "O" else None
        value = chosen[condition.parent] if on else parent.decode(np.full((1, 1), 0.5))[0]
        if not condition.holds(parent, np.array([value], kind), np.array([on]))[0]:
            return False
    return True


def write(
    optuna: Any,
    study: Any,
    space: Space,
    rows: np.ndarray,
    fitness: np.ndarray,
    place: tuple[str, int],
) -> None:
    """Add a segment's trials to a study, those it does not have yet; who diverged has failed."""
    run, segment = place
    there = {
        t.user_attrs[MEMBER]
        for t in study.get_trials(deepcopy=False)
        if t.user_attrs.get(RUN) == run and t.user_attrs.get(SEGMENT) == segment
    }
    ranges = {p.key: distribution(optuna, p) for p in space.parameters}
    states = optuna.trial.TrialState
    for member, params in enumerate(space.configurations(rows)):
        if member in there or np.isnan(fitness[member]):
            continue
        good = np.isfinite(fitness[member])
        study.add_trial(
            optuna.trial.create_trial(
                state=states.COMPLETE if good else states.FAIL,
                value=float(fitness[member]) if good else None,
                params=params,
                distributions={name: ranges[name] for name in params},
                user_attrs={RUN: run, SEGMENT: segment, MEMBER: member, DIVERGED: not good},
            )
        )


def others(study: Any, space: Space, run: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and fitness of the trials that other runs had finished when this one began, -inf: diverged.

    Which those are is kept in the study: resumed beside others, a run must ask what it asked before.
    """
    found = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.user_attrs.get(RUN) != run
        and (trial.state.name == "COMPLETE" or trial.user_attrs.get(DIVERGED))
    ]
    known = study.user_attrs.get(f"{BEFORE}:{run}")
    if known is None:
        known = [trial.number for trial in found]
        study.set_user_attr(f"{BEFORE}:{run}", known)
    found = [trial for trial in found if trial.number in set(known)]
    fitness = [-np.inf if trial.value is None else trial.value for trial in found]
    return space.encode([trial.params for trial in found]), np.array(fitness, float)


def segments(study: Any, run: str, n: int) -> list[np.ndarray]:
    """Fitness `float64[N]` of a run's segments, as far as they are whole; NaN: diverged."""
    found: dict[int, dict[int, float]] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.user_attrs.get(RUN) == run:
            of = found.setdefault(trial.user_attrs[SEGMENT], {})
            of[trial.user_attrs[MEMBER]] = np.nan if trial.value is None else trial.value
    told = []
    while len(found.get(len(told), {})) == n:
        told.append(np.array([found[len(told)][member] for member in range(n)]))
    return told
