"""The configuration of a search: one set of dataclasses is the flags, the YAML keys and the help."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from jaxnas.budget import Budget
from jaxnas.errors import InputError, unknown

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    # Made at run time by jsonargparse, which static tools cannot follow.
    type NonNegativeFloat = float
    type NonNegativeInt = int
    type PositiveFloat = float
    type PositiveInt = int
else:
    from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

STAGES = ("rank", "train", "finish")
PRESETS: dict[str, tuple[str, ...]] = {"quick": ("rank", "train", "finish"), "full": STAGES}
DTYPES = ("float32", "bfloat16")
EXPLORE = ("random", "evolution", "pruning", "perturbation")
EXECUTORS = ("auto", "shared_prefix", "per_architecture")
STREAM = ("auto", "always", "never")


@dataclass(frozen=True)
class DataConfig:
    """Data: which images or table, and how they are split.

    Args:
        source: digits (scikit-learn's, embedded) | NAME of a tfds image data set | FILE.npz with x_train,
            y_train and optionally x_test, y_test | FOLDER of class folders | a table, FILE.csv, .csv.gz,
            .tsv or .parquet; short: --data
        dir: where tfds keeps its data; short: --data-dir
        target: column of a table that holds the class; null: the one called label, target, class or y,
            else the last
        split_seed: seed of the train/validation/test split
        val_fraction: share of the images for validation
        test_fraction: share for the test, where the data brings no test set
        stream: where candidates' images lie: never (on the device) | always (on the host, streamed by
            the extra jaxnas[stream]) | auto (streamed if they take over a quarter of its memory)
    """

    source: str = "digits"
    dir: str | None = None
    target: str | None = None
    split_seed: NonNegativeInt = 0
    val_fraction: PositiveFloat = 0.2
    test_fraction: PositiveFloat = 0.2
    stream: str = "auto"


@dataclass(frozen=True)
class RankConfig:
    """Rank: score every architecture without training.

    Args:
        proxies: training-free scores, separated by commas; null: the space's own, naswot,params for
            most; short: --proxies
        sample: rank so many architectures, found as explore says; 0: all; null: all, or some thousands
            where a space is too large; short: --sample
        explore: how those that are ranked are found where not all are: random | evolution (bred by their
            scores) | pruning (TE-NAS) | perturbation (Zero-Cost-PT), each of these two with what lies
            around its find; null: evolution where a space is too large to list, else random
        combine: how several scores make one: log_rank | rank_mean | vote; null: log_rank, or that of
            the preset named in proxies
        executor: shared_prefix (for proxies that need a forward pass alone) | per_architecture | auto
        repeats: initialisations and batches that scores are the mean of; null: 1, or the preset's;
            short: --repeats
        dtype: what networks are computed in: float32 | bfloat16
        batch_size: images that scores are computed on; null: 32, or the preset's
        channels: channels of the scored networks; null: the space's own, 16 for nasbench201
        cells: their cells in each stage, as in 5,5,5; null: the space's own, 1 for nasbench201
        resolution: side of their images; null: the space's own, or the data's if smaller
    """

    proxies: tuple[str, ...] | None = None
    sample: NonNegativeInt | None = None
    explore: str | None = None
    combine: str | None = None
    repeats: PositiveInt | None = None
    dtype: str = "float32"
    executor: str = "auto"
    batch_size: PositiveInt | None = None
    channels: PositiveInt | None = None
    cells: tuple[PositiveInt, ...] | None = None
    resolution: PositiveInt | None = None


@dataclass(frozen=True)
class TrainConfig:
    """Train: the best candidates for a short time, all in one program; or one super-net for all.

    Args:
        trainer: population (each candidate its own weights) | a super-net as spos (candidates inherit its
            weights) | a search by gradient as gdas (what is found is the winner); `python -m
            jaxnas.supernet` lists them all; short: --trainer
        strategy: who is trained next: default (the ranking's best, then those that a predictor fitted to
            what has been trained points to) | proxy (the ranking's order) | another of `python -m
            jaxnas.strategies`, its parameters after colons; short: --strategy
        budget: how much the strategy may train: a number of trainings, or a time of ranking and training
            as 30min (s, min, h); null: twice top; short: --budget
        top: how many candidates are trained at once; with halving or a super-net, how many of the
            ranking's best; short: --top
        baselines: random architectures trained beside them, and the largest one; 0: neither
        halving: successive halving: after 1, eta, eta^2, ... epochs 1 of eta is trained on; 0: all are
        measure: what candidates are halved by: last_seen (validation accuracy) | sotl | sotl_e (sums of
            training losses, of all epochs and the last)
        sample: architectures that a super-net's weights evaluate, beside the best of the ranking
        epochs: epochs of each candidate, or of the super-net
        batch_size: images a step
        learning_rate: peak learning rate (SGD with Nesterov momentum, cosine)
        weight_decay: weight decay on kernels
        dtype: what candidates are computed in: float32 | bfloat16
        channels: channels of the candidates; null: the space's own, 16 for nasbench201
        cells: their cells in each stage; null: the space's own, 1,1,1 for nasbench201
        resolution: side of their images; null: the data's, at most the space's own
    """

    trainer: str = "population"
    strategy: str = "default"
    budget: PositiveInt | str | None = None
    top: PositiveInt = 8
    baselines: NonNegativeInt = 8
    halving: NonNegativeInt = 0
    measure: str = "last_seen"
    sample: PositiveInt = 200
    dtype: str = "float32"
    epochs: PositiveInt = 3
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 0.1
    weight_decay: NonNegativeFloat = 5e-4
    channels: PositiveInt | None = None
    cells: tuple[PositiveInt, ...] | None = None
    resolution: PositiveInt | None = None


@dataclass(frozen=True)
class FinishConfig:
    """Finish: train the winner to the end.

    Args:
        epochs: epochs of the winner
        batch_size: images a step
        learning_rate: peak learning rate (SGD with Nesterov momentum, cosine)
        weight_decay: weight decay on kernels
        channels: channels of the winner; null: the space's own, 16 for nasbench201
        cells: its cells in each stage; null: the space's own, 1,1,1 for nasbench201
        resolution: side of its images; null: the data's, at most the space's own
    """

    epochs: PositiveInt = 20
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 0.1
    weight_decay: NonNegativeFloat = 5e-4
    channels: PositiveInt | None = None
    cells: tuple[PositiveInt, ...] | None = None
    resolution: PositiveInt | None = None


@dataclass(frozen=True)
class LimitsConfig:
    """Limits: what the winner may cost at most, at the size it is finished at.

    Args:
        max_params: parameters; null: no limit; short: --max-params
        max_macs: multiply-adds of one image; null: no limit; short: --max-macs
        max_latency: milliseconds of one image; null: no limit; short: --max-latency
        latency_table: FILE.csv or .parquet with columns arch and latency_ms; null: the networks are timed
            on this device
    """

    max_params: PositiveInt | None = None
    max_macs: PositiveInt | None = None
    max_latency: PositiveFloat | None = None
    latency_table: str | None = None


@dataclass(frozen=True)
class SearchConfig:
    """Search: everything a run depends on; its config.yaml holds it in full.

    Args:
        space: the search space: a name | FILE.yaml | module:attribute
        preset: quick (rank, train, finish) | full (all stages)
        stages: rank | rank,train | rank,train,finish, in place of the preset's
        seed: seed of initial weights and batches
        out: directory of the run; null: runs/SPACE-DATA-TIME
        resume: continue the run in --out
    """

    space: str = "nasbench201"
    preset: str = "quick"
    stages: tuple[str, ...] | None = None
    seed: NonNegativeInt = 0
    out: str | None = None
    resume: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    rank: RankConfig = field(default_factory=RankConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    finish: FinishConfig = field(default_factory=FinishConfig)

    @property
    def active_stages(self) -> tuple[str, ...]:
        """The stages to run, in order."""
        return self.stages if self.stages is not None else PRESETS[self.preset]


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "rank": RankConfig,
    "limits": LimitsConfig,
    "train": TrainConfig,
    "finish": FinishConfig,
}
SHORT = {
    "data": ("data.source",),
    "data_dir": ("data.dir",),
    "proxies": ("rank.proxies",),
    "sample": ("rank.sample",),
    "repeats": ("rank.repeats",),
    "strategy": ("train.strategy",),
    "budget": ("train.budget",),
    "max_params": ("limits.max_params",),
    "max_macs": ("limits.max_macs",),
    "max_latency": ("limits.max_latency",),
    "top": ("train.top",),
    "trainer": ("train.trainer",),
    "epochs": ("train.epochs", "finish.epochs"),
    "batch_size": ("rank.batch_size", "train.batch_size", "finish.batch_size"),
    "channels": ("rank.channels", "train.channels", "finish.channels"),
    "cells": ("rank.cells", "train.cells", "finish.cells"),
    "resolution": ("rank.resolution", "train.resolution", "finish.resolution"),
}
"""Names without a section, and the keys they set; a section's own value goes before."""


def keys() -> dict[str, dataclasses.Field]:
    """Every key of the configuration, `section.name` or `name`, and its field."""
    top = {f.name: f for f in dataclasses.fields(SearchConfig) if f.name not in SECTIONS}
    inner = {
        f"{section}.{f.name}": f
        for section, cls in SECTIONS.items()
        for f in dataclasses.fields(cls)
    }
    return top | inner


def trainers() -> tuple[str, ...]:
    """What `train.trainer` may be, by the registries; `--help`, which must be quick, does not ask."""
    from jaxnas.supernet.differentiable.search import STRATEGIES
    from jaxnas.supernet.train import TRAINERS

    return ("population", *TRAINERS, *STRATEGIES)


def parser() -> "ArgumentParser":
    """The parser made from the dataclasses: types, defaults and help."""
    from jsonargparse import ArgumentParser

    made = ArgumentParser(prog="python -m jaxnas.search", exit_on_error=False)
    made.add_class_arguments(SearchConfig)
    return made


def flatten(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Nested, dotted or short keys, with hyphens or underscores, as full dotted keys.

    `InputError` names an unknown key and the nearest ones, beginning with `where`.
    """
    short: dict[str, Any] = {}
    full: dict[str, Any] = {}
    for key, value in _leaves(values):
        if key in SECTIONS and value is None:
            continue  # a section with nothing below it, as `train:` in YAML
        if key in SHORT:
            short |= dict.fromkeys(SHORT[key], value)
        elif key in keys():
            full[key] = value
        elif key in SECTIONS:
            raise InputError(f"{where}{key} is {value!r}, expected keys below it.")
        else:
            raise InputError(f"{where}{unknown('key', key, [*keys(), *SHORT])}")
    return short | full


def build(values: Mapping[str, Any]) -> SearchConfig:
    """A checked configuration from full dotted keys; values may be text, as on a command line."""
    from argparse import ArgumentError

    fields, nested = keys(), {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        target = nested.setdefault(section, {}) if section else nested
        kind = str(fields[key].type)
        target[name] = _items(value) if "tuple" in kind else value
        # jsonargparse lets these pass.
        if target[name] == [] or (value is None and "None" not in kind):
            raise InputError(_expectation(key, value))
    made = parser()
    try:
        parsed = made.parse_object(nested)
    except ArgumentError as error:
        raise InputError(_sentence(str(error), values)) from error
    checked = {k: _plain(v) for k, v in _leaves(parsed.as_dict())}
    sections = {
        name: cls(**{f.name: checked[f"{name}.{f.name}"] for f in dataclasses.fields(cls)})
        for name, cls in SECTIONS.items()
    }
    top = {k: v for k, v in checked.items() if "." not in k}
    config = SearchConfig(**top, **sections)
    _check(config)
    return config


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The keys of a YAML file, as `flatten` gives them; read safely."""
    import yaml

    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The configuration {path} is not UTF-8 text.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a {type(values).__name__}, expected keys and values.")
    return flatten(values, f"In {path}: ")


def to_dict(config: SearchConfig) -> dict[str, Any]:
    """Plain nested values, as written to `config.yaml`; `build(flatten(...))` gives it back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(config))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in values.items():
        name = prefix + str(key).replace("-", "_")
        if isinstance(value, Mapping):
            found += _leaves(value, name + ".")
        else:
            found.append((name, value))
    return found


def _plain(value: Any) -> Any:
    """A value without jsonargparse's restricted number types."""
    if isinstance(value, tuple):
        return tuple(_plain(v) for v in value)
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value


def _items(value: Any) -> Any:
    if isinstance(value, str) and value.lower() not in ("null", "none"):
        return [part.strip() for part in value.strip("[]() ").split(",")]
    if isinstance(value, int):
        return [value]
    return None if isinstance(value, str) else value


def _sentence(message: str, values: Mapping[str, Any]) -> str:
    """jsonargparse's message, often of several lines, as one sentence."""
    named = re.search(r'key "([\w.]+)"', message)
    key = named.group(1) if named else ""
    return _expectation(key, values[key]) if key in values else " ".join(message.split())


def _expectation(key: str, value: Any) -> str:
    kind: Any = keys()[key].type
    name = str(kind) if get_args(kind) else kind.__name__
    name = name.replace("jsonargparse.typing.", "")
    return f"{key} is {value!r}, expected {_WORDS[name]}."


_WORDS = {
    "PositiveInt": "a whole number of at least 1",
    "NonNegativeInt": "a whole number of at least 0",
    "PositiveFloat": "a number above 0",
    "NonNegativeFloat": "a number of at least 0",
    "str": "some text",
    "bool": "true or false",
    "PositiveInt | None": "a whole number of at least 1, or null",
    "NonNegativeInt | None": "a whole number of at least 0, or null",
    "PositiveFloat | None": "a number above 0, or null",
    "PositiveInt | str | None": "a number of trainings as 60, a time as 30min, or null",
    "tuple[PositiveInt, ...] | None": "whole numbers of at least 1, as in 1,1,1",
    "tuple[str, ...]": "names separated by commas",
    "tuple[str, ...] | None": "names separated by commas",
    "str | None": "some text",
}


def _check(config: SearchConfig) -> None:
    from jaxnas.scoring.combine import COMBINATIONS
    from jaxnas.strategies import get_strategy
    from jaxnas.training.fidelity import MEASURES

    if config.out == "":
        raise InputError("out is empty, expected a directory.")
    if config.seed >= 2**32:
        raise InputError(f"seed is {config.seed}, expected a whole number below 2^32.")
    _among("preset", config.preset, PRESETS)
    for stage in config.active_stages:
        _among("stage", stage, STAGES)
    if config.active_stages != STAGES[: len(config.active_stages)]:
        raise InputError(
            f"stages is {','.join(config.active_stages)}; each stage needs those before it: "
            "rank | rank,train | rank,train,finish."
        )
    _among("executor", config.rank.executor, EXECUTORS)
    if config.rank.explore is not None:
        _among("way to explore", config.rank.explore, EXPLORE)
    if config.rank.combine is not None:
        _among("combination", config.rank.combine, COMBINATIONS)
    _among("dtype", config.rank.dtype, DTYPES)
    _among("dtype", config.train.dtype, DTYPES)
    _among("trainer", config.train.trainer, trainers())
    _among("stream", config.data.stream, STREAM)
    _among("measure", config.train.measure, MEASURES)
    get_strategy(config.train.strategy)
    if config.train.budget is not None:
        Budget.parse(config.train.budget)
    _check_alone(config.train)
    if config.train.halving == 1:
        raise InputError(
            "train.halving is 1, expected 0 (none) or at least 2: 1 of so many is kept."
        )
    if config.rank.batch_size == 1:
        raise InputError("rank.batch_size is 1, expected at least 2: scores compare images.")
    for key, value in flatten(to_dict(config)).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{key} is {value}, expected a finite number.")
    if config.data.val_fraction + config.data.test_fraction >= 1:
        raise InputError(
            f"data.val_fraction {config.data.val_fraction} and data.test_fraction "
            f"{config.data.test_fraction} leave nothing to train on."
        )


def _check_alone(train: TrainConfig) -> None:
    """Refuse a strategy or a budget where no strategy asks for trainings."""
    asked = {"budget": train.budget, "strategy": train.strategy}
    given = [k for k, v in asked.items() if v != getattr(TrainConfig, k)]
    if given and train.halving:
        raise InputError(
            f"train.halving thins out one batch of the ranking's best, which has no {given[0]}; for "
            "successive halving within a budget expected train.strategy successive_halving."
        )
    if given and train.trainer != "population":
        raise InputError(
            f"train.trainer {train.trainer} trains one super-net, which has no {given[0]}; expected "
            "population."
        )


def _among(kind: str, name: str, known: Iterable[str] | Sequence[str]) -> None:
    known = list(known)
    if name not in known:
        raise unknown(kind, name, known)
