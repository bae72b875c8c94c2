"""The configuration: every spelling of a key, what is refused and how, and its YAML round trip."""

import dataclasses
import re

import pytest
import yaml

from jaxnas.config import (
    PRESETS,
    SECTIONS,
    SHORT,
    STAGES,
    FinishConfig,
    SearchConfig,
    build,
    flatten,
    keys,
    read_yaml,
    to_dict,
)
from jaxnas.errors import InputError

ANOTHER = {
    "space": "elsewhere",
    "preset": "full",
    "pipeline": ("rank",),
    "arch": "|none~0|",
    "tensorboard": True,
    "seed": 4294967295,
    "out": "somewhere",
    "resume": True,
    "data.source": "images.npz",
    "data.dir": "there",
    "data.target": "species",
    "data.split_seed": 3,
    "data.val_fraction": 0.3,
    "data.test_fraction": 0.1,
    "data.stream": "always",
    "rank.proxies": ("params", "grad_norm"),
    "rank.combine": "rank_mean",
    "rank.dtype": "bfloat16",
    "rank.executor": "per_architecture",
    "rank.explore": "pruning",
    "limits.max_latency": 2.5,
    "limits.latency_table": "ms.csv",
    "train.trainer": "gdas",
    "train.strategy": "regularized_evolution:population=4",
    "train.budget": "30min",
    "train.measure": "sotl",
    "train.dtype": "bfloat16",
    "objective.metric": "f1",
    "objective.loss": "focal",
    "objective.class_weights": ("1", "2.5"),
    "tune.tuner": "pbt:interval=2",
    "tune.space": "rates.yaml",
    "tune.storage": "sqlite:///study.db",
    "augment.policies": ("none", "randaugment:n=1"),
    "augment.search": ("pba",),
    "augment.beside": "none",
    "finish.optimizer": "adamw",
    "finish.schedule": "one_cycle",
    "finish.momentum": 0.8,
    "finish.label_smoothing": 0.1,
    "finish.dropout": 0.1,
    "finish.drop_path": 0.2,
    "finish.distortion": 0.05,
    "finish.ema": 0.99,
    "finish.augment": "flip_crop",
    "finish.teacher": "exported",
    "finish.dtype": "bfloat16",
    "export.dir": "there",
    "export.formats": ("onnx",),
}
"""A value of each key that is not its default; numbers of the rest are counted up."""


def another(key: str):
    if key in ANOTHER:
        return ANOTHER[key]
    if key.endswith(".cells"):
        return (2, 3)
    section, _, name = key.partition(".")
    return (getattr(SECTIONS[section](), name) or 4) * 2


def value_of(config: SearchConfig, key: str):
    for name in key.split("."):
        config = getattr(config, name)
    return config


def as_text(value) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_nothing_given_is_the_defaults():
    assert build({}) == SearchConfig()
    assert build({}).active_stages == PRESETS["quick"]
    assert build({"preset": "full"}).active_stages == PRESETS["full"]
    assert build(flatten({"stages": "rank,train"})).active_stages == ("rank", "train")


@pytest.mark.parametrize("key", keys())
def test_a_key_is_set_from_text_and_from_a_value_and_nothing_else_changes(key):
    expected = another(key)
    assert expected != value_of(SearchConfig(), key)
    as_value = list(expected) if isinstance(expected, tuple) else expected
    for given in (as_text(expected), as_value):
        config = build({key: given})
        got = value_of(config, key)
        assert got == expected
        assert type(got) is type(expected)
        rest = flatten(to_dict(config)) | {key: None}
        assert rest == flatten(to_dict(SearchConfig())) | {key: None}


@pytest.mark.parametrize("key", [k for k in keys() if "None" in str(keys()[k].type)])
def test_null_asks_for_the_default(key):
    assert value_of(build({key: "null"}), key) is None
    assert value_of(build({key: None}), key) is None


@pytest.mark.parametrize("key", [k for k in keys() if "None" not in str(keys()[k].type)])
def test_null_is_refused_where_there_is_always_a_value(key):
    with pytest.raises(InputError, match=rf"^{key} is None, expected .+\.$"):
        build({key: None})


@pytest.mark.parametrize("name", SHORT)
def test_a_short_name_sets_every_section_and_a_section_goes_before(name):
    value = another(SHORT[name][0])
    config = build(flatten({name: value}))
    assert [value_of(config, key) for key in SHORT[name]] == [value] * len(SHORT[name])
    own = SHORT[name][-1]
    section, _, inner = own.partition(".")
    nested = {section: {inner: "9"}} if inner else {own: "9"}
    for order in ({name: value, own: "9"}, {own: "9", name: value}, nested):
        assert flatten({name: value} | order)[own] == "9"


def test_an_architecture_that_is_given_is_not_searched_for():
    assert build({"arch": "a"}).active_stages == ("finish",)
    assert build({"arch": "a", "preset": "full"}).active_stages == STAGES[2:]
    assert build({"arch": "a", "pipeline": "rank,finish"}).active_stages == ("rank", "finish")
    with pytest.raises(InputError, match="so that train has nothing to pick"):
        build({"arch": "a", "pipeline": "rank,train"})


def test_augmentation_is_tried_as_long_as_the_last_training_is_and_what_was_tuned_half_as_long():
    config = build({"finish.epochs": 30})
    assert config.tune.confirm is None
    assert config.stage("tune").confirm == 15
    assert build({"tune.confirm": 0}).stage("tune").confirm == 0
    assert config.augment.epochs == 0
    assert config.stage("augment").epochs == 30
    assert build({"finish.epochs": 1}).stage("tune").confirm == 1
    assert build({"augment.epochs": 4}).stage("augment").epochs == 4
    assert config.stage("finish") is config.finish


def test_spellings_of_one_key():
    expected = {"train.batch_size": 3}
    for written in (
        {"train": {"batch_size": 3}},
        {"train": {"batch-size": 3}},
        {"train.batch_size": 3},
        {"train.batch-size": 3},
    ):
        assert flatten(written) == expected
    assert flatten({"train": None, "data": None}) == {}


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"train": {"epoch": 3}}, "Unknown key 'train.epoch'; did you mean train.epochs"),
        ({"epoch": 3}, "Unknown key 'epoch'; did you mean epochs"),
        ({"train.top.x": 3}, "Unknown key 'train.top.x'; did you mean train.top"),
        ({1: 2}, "Unknown key '1'; known: arch, "),
        ({"train": 5}, "train is 5, expected keys below it"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(written, says):
    with pytest.raises(InputError, match=f"^In f.yaml: {re.escape(says)}"):
        flatten(written, "In f.yaml: ")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train.top", "0", "train.top is '0', expected a whole number of at least 1."),
        ("train.top", 1.5, "train.top is 1.5, expected a whole number of at least 1."),
        ("train.epochs", "many", "train.epochs is 'many', expected a whole number"),
        ("train.baselines", -1, "a whole number of at least 0"),
        ("seed", "-1", "seed is '-1', expected a whole number of at least 0."),
        ("seed", True, "seed is True, expected a whole number of at least 0."),
        ("seed", 2**32, "seed is 4294967296, expected a whole number below 2^32."),
        ("rank.batch_size", 1, "rank.batch_size is 1, expected at least 2"),
        ("rank.channels", "0", "a whole number of at least 1, or null."),
        ("rank.cells", "0", "expected whole numbers of at least 1, as in 1,1,1."),
        ("finish.cells", "1,x", "finish.cells is '1,x', expected whole numbers"),
        ("finish.cells", [], "finish.cells is [], expected whole numbers"),
        ("rank.proxies", [], "rank.proxies is [], expected names separated by commas."),
        ("pipeline", "", "Unknown stage ''; known: augment, export, finish, rank, train, tune."),
        ("pipeline", "rnk", "Unknown stage 'rnk'; did you mean rank"),
        ("pipeline", "train", "each stage needs those before it, here rank"),
        ("pipeline", "rank,finish", "each stage needs those before it, here train"),
        ("pipeline", "rank,train,export", "each stage needs those before it, here finish."),
        ("pipeline", "train,rank", "stages come once each, in the order rank, train, tune"),
        ("pipeline", "rank,rank", "stages come once each"),
        ("pipeline", "rank,compress", "The stage compress is a reserved name"),
        ("objective.metric", "acuracy", "Unknown metric 'acuracy'; did you mean accuracy"),
        ("objective.loss", "mse", "Unknown loss 'mse'"),
        ("objective.loss", "nowhere:loss", "The loss nowhere:loss cannot be imported"),
        (
            "objective.class_weights",
            "1,0",
            "objective.class_weights has '0', expected balanced, or",
        ),
        ("finish.optimizer", "adam", "Unknown optimizer 'adam'; did you mean adamw"),
        ("finish.schedule", "cos", "Unknown schedule 'cos'"),
        ("finish.ema", 1, "finish.ema is 1.0, expected a number of at least 0, below 1."),
        ("finish.distill", 2, "finish.distill is 2.0, expected a number from 0 to 1."),
        ("preset", "quik", "Unknown preset 'quik'; did you mean quick?"),
        ("rank.executor", "shared", "Unknown executor 'shared'; did you mean shared_prefix?"),
        ("rank.combine", "mean", "Unknown combination 'mean'; did you mean rank_mean?"),
        ("rank.dtype", "float16", "Unknown dtype 'float16'; did you mean bfloat16 or float32?"),
        ("rank.dtype", None, "rank.dtype is None, expected some text."),
        ("rank.repeats", 0, "rank.repeats is 0, expected a whole number of at least 1, or null."),
        (
            "rank.repeats",
            "two",
            "rank.repeats is 'two', expected a whole number of at least 1, or null.",
        ),
        ("train.budget", "0", "budget is '0': nothing could be trained; expected more than 0."),
        (
            "train.budget",
            "soon",
            "budget is 'soon', expected a number of trainings as 60, or a time",
        ),
        ("train.strategy", "regularised", "did you mean regularized_evolution"),
        ("train.strategy", "hyperband:etta=4", "did you mean eta?"),
        ("train.strategy", "hyperband:eta=x", "hyperband:eta is 'x', expected a whole number."),
        ("limits.max_params", 0, "limits.max_params is 0, expected a whole number of at least 1"),
        ("limits.max_latency", "fast", "expected a number above 0, or null."),
        ("train.learning_rate", "0", "expected a number above 0."),
        ("train.learning_rate", "nan", "expected a number above 0."),
        ("train.learning_rate", "inf", "train.learning_rate is inf, expected a finite number."),
        ("finish.weight_decay", -1, "expected a number of at least 0."),
        ("data.val_fraction", 0.8, "leave nothing to train on."),
        ("data.source", ["a"], "data.source is ['a'], expected some text."),
        ("out", 5, "out is 5, expected some text."),
        ("out", "", "out is empty, expected a directory."),
        ("resume", "maybe", "resume is 'maybe', expected true or false."),
    ],
)
def test_a_bad_value_is_one_sentence(key, value, says):
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        build({key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("alone", [{}, {"train.trainer": "population", "train.halving": 0}])
def test_config_yaml_gives_the_same_configuration_back(alone, tmp_path):
    # A strategy and its budget, or else another way to train.
    kept = [k for k in keys() if alone or k not in ("train.strategy", "train.budget")]
    config = build({key: another(key) for key in kept} | alone)
    assert (config.finish.epochs, config.finish.cells) == (40, (2, 3))
    assert config.finish != FinishConfig()
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(to_dict(config), sort_keys=False))
    assert build(read_yaml(path)) == config


@pytest.mark.parametrize("given", [{"train.budget": 4}, {"train.strategy": "random"}])
def test_where_nobody_is_asked_there_is_no_strategy_and_no_budget(given):
    with pytest.raises(InputError, match=r"train\.halving thins out one batch .* has no "):
        build({"train.halving": 2, **given})
    with pytest.raises(
        InputError, match=r"train\.trainer spos trains one super-net, which has no "
    ):
        build({"train.trainer": "spos", **given})


def test_every_key_is_described():
    for cls in (SearchConfig, *SECTIONS.values()):
        for field in dataclasses.fields(cls):
            assert field.name in SECTIONS or f"\n        {field.name}: " in str(cls.__doc__)


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (None, r"Cannot read the configuration .*f\.yaml: No such file"),
        (b"\xff\xfe\x00\x81", r"f\.yaml is not UTF-8 text"),
        (b"a: [1\nb: }", r"f\.yaml is not YAML: .* line 2"),
        (b"train:\n\ttop: 1", r"f\.yaml is not YAML"),
        (b"space: !!python/object/apply:os.getcwd []", r"f\.yaml is not YAML: could not determine"),
        (b"- 1\n", r"f\.yaml holds a list, expected keys and values"),
        (b"hello", r"f\.yaml holds a str, expected keys and values"),
        (b"train: {epoch: 1}", r"In .*f\.yaml: Unknown key 'train\.epoch'; did you mean"),
    ],
)
def test_a_bad_yaml_file_is_one_sentence(contents, says, tmp_path):
    path = tmp_path / "f.yaml"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(InputError, match=says) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_an_empty_yaml_file_sets_nothing(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("# nothing\n")
    assert read_yaml(path) == {}
