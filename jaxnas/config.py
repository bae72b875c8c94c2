"""The configuration of a search: one set of dataclasses is the flags, the YAML keys and the help."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from jaxnas.budget import Budget
from jaxnas.errors import InputError, unknown
from jaxnas.sections import (
    JOINT,
    AugmentConfig,
    DataConfig,
    ExportConfig,
    FinishConfig,
    LimitsConfig,
    ObjectiveConfig,
    RankConfig,
    TrainConfig,
    TuneConfig,
)

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    type NonNegativeInt = int
else:
    from jsonargparse.typing import NonNegativeInt

STAGES = ("rank", "train", "tune", "augment", "finish", "export")
RESERVED = ("compress",)
"""Names that stages to come will have."""
PRESETS: dict[str, tuple[str, ...]] = {"quick": ("rank", "train", "finish"), "full": STAGES}
DTYPES = ("float32", "bfloat16")
EXPLORE = ("random", "evolution", "pruning", "perturbation")
EXECUTORS = ("auto", "shared_prefix", "per_architecture")
STREAM = ("auto", "always", "never")


@dataclass(frozen=True)
class SearchConfig:
    """Search: everything a run depends on; its config.yaml holds it in full.

    Args:
        space: the search space: a name | FILE.yaml | module:attribute
        preset: quick (rank, train, finish) | full (all stages)
        pipeline: stages in place of the preset's, in order: rank, train, tune, augment, finish, export;
            short: --stages
        arch: an architecture to go on with, so that the pipeline needs neither rank nor train
        tensorboard: write event files for TensorBoard too (needs jaxnas[tensorboard])
        seed: seed of initial weights and batches
        out: directory of the run; null: runs/SPACE-DATA-TIME
        resume: continue the run in --out
    """

    space: str = "nasbench201"
    preset: str = "quick"
    pipeline: tuple[str, ...] | None = None
    arch: str | None = None
    tensorboard: bool = False
    seed: NonNegativeInt = 0
    out: str | None = None
    resume: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    rank: RankConfig = field(default_factory=RankConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    finish: FinishConfig = field(default_factory=FinishConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    @property
    def active_stages(self) -> tuple[str, ...]:
        """The stages to run, in order; where an architecture is given, those after the search."""
        if self.pipeline is not None:
            return self.pipeline
        found = self.arch is not None
        return tuple(s for s in PRESETS[self.preset] if not (found and s in ("rank", "train")))

    def stage(self, name: str) -> Any:
        """The section of a stage, with epochs in place of those that stage finish's stand for."""
        section, last = getattr(self, name), self.finish.epochs
        if name == "augment" and not section.epochs:
            return replace(section, epochs=last)
        if name == "tune" and section.confirm is None:
            return replace(section, confirm=max(1, last // 2))
        return section


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "rank": RankConfig,
    "limits": LimitsConfig,
    "objective": ObjectiveConfig,
    "train": TrainConfig,
    "tune": TuneConfig,
    "augment": AugmentConfig,
    "finish": FinishConfig,
    "export": ExportConfig,
}
TRAINING = ("rank", "train", "tune", "augment", "finish")
"""Sections that have the size of a network and of a batch."""
SHORT = {
    "data": ("data.source",),
    "data_dir": ("data.dir",),
    "max_bad": ("data.max_bad",),
    "proxies": ("rank.proxies",),
    "sample": ("rank.sample",),
    "repeats": ("rank.repeats",),
    "strategy": ("train.strategy",),
    "budget": ("train.budget",),
    "stages": ("pipeline",),
    "metric": ("objective.metric",),
    "loss": ("objective.loss",),
    "class_weights": ("objective.class_weights",),
    "tuner": ("tune.tuner",),
    "max_params": ("limits.max_params",),
    "max_macs": ("limits.max_macs",),
    "max_latency": ("limits.max_latency",),
    "top": ("train.top",),
    "trainer": ("train.trainer",),
    "epochs": ("train.epochs", "finish.epochs"),
    "batch_size": tuple(f"{s}.batch_size" for s in TRAINING),
    "channels": tuple(f"{s}.channels" for s in TRAINING),
    "cells": tuple(f"{s}.cells" for s in TRAINING),
    "resolution": tuple(f"{s}.resolution" for s in TRAINING),
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

    return ("population", *TRAINERS, *STRATEGIES, JOINT)


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
    _check_pipeline(config)
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
    _check_training(config)
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


def _check_pipeline(config: SearchConfig) -> None:
    stages = config.active_stages
    for stage in stages:
        if stage in RESERVED:
            raise InputError(f"The stage {stage} is a reserved name; there is no such stage yet.")
        _among("stage", stage, STAGES)
    order = [STAGES.index(stage) for stage in stages]
    if order != sorted(set(order)):
        raise InputError(
            f"pipeline is {','.join(stages)}; stages come once each, in the order {', '.join(STAGES)}."
        )
    needed = () if config.arch is not None else ("rank", "train")
    missing = [s for s in needed if s not in stages and order[-1] >= STAGES.index(s)]
    if "export" in stages and "finish" not in stages:
        missing.append("finish")
    if missing:
        raise InputError(
            f"pipeline is {','.join(stages)}; each stage needs those before it, here {missing[0]}"
            + ("" if "finish" in missing else ", or --arch with the architecture to go on with")
            + "."
        )
    between = [s for s in stages if s in ("tune", "augment")]
    if config.train.trainer == JOINT and "train" in stages and between:
        raise InputError(
            f"train.trainer {JOINT} tunes and augments while it searches; expected no {between[0]}."
        )
    if config.arch is not None and "train" in stages:
        raise InputError(
            "arch names the architecture to go on with, so that train has nothing to pick."
        )


def _check_training(config: SearchConfig) -> None:
    """Refuse names and numbers of the stages that train which cannot be."""
    from jaxnas.training.hyper import OPTIMIZERS, SCHEDULES
    from jaxnas.training.metrics import get_metric
    from jaxnas.training.objective import get_loss

    get_metric(config.objective.metric)
    get_loss(config.objective.loss)
    finish = config.finish
    _among("optimizer", finish.optimizer, OPTIMIZERS)
    _among("schedule", finish.schedule, SCHEDULES)
    _among("dtype", finish.dtype, DTYPES)
    for name in (
        "warmup",
        "momentum",
        "label_smoothing",
        "dropout",
        "drop_path",
        "distortion",
        "ema",
    ):
        if (value := getattr(finish, name)) >= 1:
            raise InputError(f"finish.{name} is {value}, expected a number of at least 0, below 1.")
    if finish.distill > 1:
        raise InputError(f"finish.distill is {finish.distill}, expected a number from 0 to 1.")
    weights = config.objective.class_weights
    if weights is not None and weights != ("balanced",):
        for word in weights:
            if not re.fullmatch(r"\d*\.?\d+(e[+-]?\d+)?", word) or float(word) == 0:
                raise InputError(
                    f"objective.class_weights has {word!r}, expected balanced, or a number above 0 for "
                    "each class."
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
