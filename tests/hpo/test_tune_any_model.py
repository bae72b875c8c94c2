"""The example that tunes a model of the user's: it runs, and learns."""

import importlib.util
import re
from pathlib import Path

import pytest
from helpers import compilations


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).resolve().parents[2] / "examples" / "tune_any_model.py"
    spec = importlib.util.spec_from_file_location("tune_any_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_tuner_finds_hyper_parameters_that_learn(example, capsys):
    settings = ["--tuners", "asha,pbt:interval=1,pb2:interval=1", "--members", "4", "--units", "6"]
    assert example.main(settings) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "24 passes over the data for each tuner, 4 members"
    assert [line.split(":")[0] for line in lines[1:]] == ["asha", "pbt", "pb2"]
    for line in lines[1:]:
        assert float(re.search(r"accuracy (0\.\d+)", line)[1]) > 0.85
        assert "learning_rate" in line
    changes = [int(re.search(r"after (\d+) changes", line)[1]) for line in lines[1:]]
    assert changes[0] == 0


def test_another_tuner_compiles_nothing(example):
    trials = example.FunctionTrials(example.init, example.step, example.evaluate, example.data()[0])

    def tuned(name):
        example.run(example.get_tuner(name), trials, example.SPACE, n=4, units=3, budget=24, seed=1)

    tuned("pbt:interval=1")
    tuned("asha:eta=2")
    with compilations() as compiled:
        tuned("pb2:interval=1")
        tuned("random")
        tuned("hyperband:eta=2")
    assert compiled == []
