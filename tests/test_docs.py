"""What docs/own_space.md and CONTRIBUTING.md show works as it stands there."""

import re
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from jaxnas.config import STAGES, build, read_yaml
from jaxnas.search_spaces import get_space

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "own_space.md"


def blocks(language, page=PAGE):
    found = re.findall(
        rf"^( *```{language}\n.*?)```", page.read_text(encoding="utf-8"), re.M | re.S
    )
    return [dedent(block).split("\n", 1)[1] for block in found]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the page's module and file, as a reader would save them."""
    (tmp_path / "mine.py").write_text(blocks("python")[0])
    (tmp_path / "net.yaml").write_text(blocks("yaml")[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_module_is_a_space_of_at_most_25_lines(folder):
    space = get_space("mine:Mine")
    assert space.size == 24
    assert space.to_string(np.array([1, 2, 0])) == "first=3x3 width=48 second=skip"
    assert len(space.count(space.all(), space.proxy_size, classes=10).params) == 24
    assert len(blocks("python")[0].strip().splitlines()) <= 25


def test_the_file_is_a_space_and_a_description(folder):
    space = get_space("net.yaml")
    assert [d.name for d in space.decisions][-1] == "trainer.learning_rate"
    exec(compile(blocks("python")[1], "own_space.md", "exec"), {})


def test_the_walkthroughs_proxy_passes_its_test(tmp_path, monkeypatch, tiny, variables, batch):
    proxy, test, _ = blocks("python", ROOT / "CONTRIBUTING.md")
    (tmp_path / "sensitivity.py").write_text(proxy)
    monkeypatch.syspath_prepend(tmp_path)
    names = {}
    source = test.replace("jaxnas.proxies.sensitivity", "sensitivity")
    exec(compile(source, "CONTRIBUTING.md", "exec"), names)
    names["test_against_the_whole_jacobian"](tiny, variables, batch)


def test_the_pipelines_file_is_a_configuration(tmp_path):
    (page,) = blocks("yaml", ROOT / "docs" / "pipeline.md")
    (tmp_path / "pipeline.yaml").write_text(page)
    config = build(read_yaml(tmp_path / "pipeline.yaml"))
    assert config.active_stages == STAGES
    assert config.tune.tuner == "pbt"
    assert config.objective.class_weights == ("balanced",)
