"""The page as text: what it holds, what it must never hold, and how it is written."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxnas.errors import InputError
from jaxnas.report import TrainedCandidate, render_report, write_report
from jaxnas.report.write import SECTIONS

VOID = {"meta", "link", "br", "wbr", "hr", "img", "input"}
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>&'


class Page(HTMLParser):
    """Tags, attributes and text of a page; refuses tags that do not nest."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text += data

    def ids(self, tag: str) -> list[str | None]:
        return [attrs.get("id") for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(demo) -> Page:
    return Page(render_report(demo))


def test_all_sections_in_order(page):
    assert page.ids("section") == [section.id for section in SECTIONS]
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == [f"#{section.id}" for section in SECTIONS]


def test_ids_are_unique(page):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", ["demo", "rank_only"])
def test_nothing_is_fetched_and_nothing_runs(name, request):
    html = render_report(request.getfixturevalue(name))
    for tag, attrs in Page(html).tags:
        assert tag not in {"script", "iframe", "object", "embed", "base"}
        assert tag != "img" or attrs["src"].startswith("data:image/png;base64,")
        assert not [key for key in attrs if key.startswith("on")]
        fetched = [attrs[key] for key in ("src", "href", "xlink:href", "srcset") if key in attrs]
        assert all(url.startswith(("#", "data:")) for url in fetched)
    assert "@import" not in html
    assert "url(" not in html
    namespaces = html.count('xmlns="http://www.w3.org/2000/svg"')
    assert len(re.findall("https?://", html)) == namespaces > 0


def test_figures_of_the_winner(page):
    for figure in (
        "98.61 %",
        "98.96 %",
        "902 k",
        "9.12 M",
        "15,625",
        "16 of them trained",
        "1 min 3 s",
        "17.0 s",
        "1.26 T multiply-adds",
    ):
        assert figure in page.text.replace("\xa0", " ")
    assert "python -m jaxnas.search --space nasbench201 --out 'my run'" in page.text
    assert "batch_size: 64" in page.text


def test_size(demo):
    assert len(render_report(demo).encode()) < 600_000


def test_size_with_35000_points(demo):
    import pandas as pd

    rng = np.random.default_rng(0)
    n = 35_000
    ranking = pd.DataFrame(
        {
            "index": np.arange(n),
            "arch": [str(k) for k in range(n)],
            "params": rng.uniform(1e5, 1e7, n),
            "score": rng.normal(size=n),
        }
    )
    ranking["rank"] = ranking["score"].rank(ascending=False)
    html = render_report(dataclasses.replace(demo, ranking=ranking))
    assert 200_000 < len(html.encode()) < 1_500_000


def test_hostile_strings_are_shown_as_text(demo):
    ranking = demo.ranking.head(30).rename(columns={"naswot": HOSTILE})
    ranking.loc[ranking.index[0], "arch"] = HOSTILE
    bad = dataclasses.replace(demo.trained[0], arch=HOSTILE)
    result = {
        **demo.result,
        "arch": HOSTILE,
        "device": HOSTILE,
        "versions": {HOSTILE: HOSTILE},
        "config": {HOSTILE: HOSTILE},
        "command": HOSTILE,
        "seconds": {HOSTILE: {"run": 1.0, "compile": 0.0}},
    }
    graph = dataclasses.replace(demo.graphs[0][1], nodes=(HOSTILE,) * 4, edges=((0, 3, HOSTILE),))
    data = dataclasses.replace(
        demo,
        title=HOSTILE,
        result=result,
        ranking=ranking,
        graphs=((HOSTILE, graph),),
        trained=(bad,),
        notes=(HOSTILE,),
        metric=HOSTILE,
        trials=tuple(dataclasses.replace(t, values={HOSTILE: 1.0}) for t in demo.trials),
        tuned={HOSTILE: [1.0]},
        policies=(dataclasses.replace(demo.policies[0], name=HOSTILE),),
        augmented=dataclasses.replace(demo.augmented, policy=HOSTILE),
        judged=dataclasses.replace(demo.judged, class_names=(HOSTILE,) * 10),
    )
    page = Page(render_report(data))
    assert "script" not in {tag for tag, _ in page.tags}
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert all({*attrs} == {"src", "alt", "width", "height", "class"} for attrs in images)
    assert all(attrs["src"].startswith("data:image/png;base64,") for attrs in images)
    assert page.text.count(HOSTILE) >= 30


def test_nan_and_infinite_scores_are_counted_and_not_drawn(demo):
    ranking = demo.ranking.head(40).copy()
    ranking["score"] = ranking["score"].to_numpy(dtype=float, copy=True)
    ranking.loc[ranking.index[:3], "score"] = np.nan
    ranking.loc[ranking.index[3:8], "score"] = -np.inf
    html = render_report(dataclasses.replace(demo, ranking=ranking))
    assert "5 scored −∞ (no path from input to output). 3 scored NaN" in html
    paths = "".join(re.findall(r' d="([^"]*)"', html)) + "".join(
        re.findall(r'[xy]="([^"]*)"', html)
    )
    assert paths
    assert "nan" not in paths.lower()
    assert "inf" not in paths.lower()


@pytest.mark.parametrize("score", [np.nan, -np.inf, 1.0])
def test_degenerate_scores(rank_only, score):
    ranking = rank_only.ranking.head(5).assign(score=score)
    html = render_report(dataclasses.replace(rank_only, ranking=ranking))
    assert ("nothing to draw" in html) == (not np.isfinite(score))


def test_without_parameters_the_score_is_drawn_against_the_rank(rank_only):
    ranking = rank_only.ranking.drop(columns="params")
    html = render_report(dataclasses.replace(rank_only, ranking=ranking))
    assert "Score against rank of 15,498 architectures" in html


def test_direction_of_the_score_is_stated(rank_only):
    assert "score (higher is better)" in render_report(rank_only)
    ranking = rank_only.ranking.assign(score=-rank_only.ranking["score"])
    assert "score (lower is better)" in render_report(
        dataclasses.replace(rank_only, ranking=ranking)
    )


def test_rank_only(rank_only):
    page = Page(render_report(rank_only))
    expected = ["summary", "cell", "ranking", "table", "time", "config"]
    assert page.ids("section") == expected
    assert "Ranked first" in page.text
    for word in ("accuracy", "Winner", "winner", "trained", "–"):
        assert word not in page.text


def test_bare_result(rank_only):
    data = dataclasses.replace(rank_only, result={}, graphs=())
    assert Page(render_report(data)).ids("section") == ["summary", "ranking", "table"]


def test_points_of_trained_architectures_have_titles(demo):
    html = render_report(demo)
    ranking = html[html.index('<section id="ranking"') : html.index('<section id="decisions"')]
    titles = re.findall("<title>(.*?)</title>", ranking, re.DOTALL)
    finite = {run.arch for run in demo.trained}
    assert {title.split("\n")[0].split(": ")[1] for title in titles} <= finite
    assert len(titles) == 2 * 17  # 8 candidates, the largest, 8 random; the wide and narrow chart
    assert "score" in titles[0]


def test_exploding_loss_leaves_room_for_the_others(demo):
    run = dataclasses.replace(demo.trained[1], train_loss=(2.0, 1e30) + (np.nan,) * 10)
    html = render_report(dataclasses.replace(demo, trained=(demo.trained[0], run)))
    assert "1 diverged" in html
    assert "e+30" not in html


def test_only_diverged_or_empty_curves(demo):
    nothing = TrainedCandidate("a", "candidate", 1, 1, np.nan, (), (), ())
    lost = dataclasses.replace(
        nothing, epochs=(1,), train_loss=(np.nan,), val_accuracy=(np.nan,), diverged=True
    )
    page = Page(render_report(dataclasses.replace(demo, trained=(nothing, lost))))
    assert "cost" not in page.ids("section")
    assert "curves" in page.ids("section")


def test_bad_input(demo):
    with pytest.raises(InputError, match="no column rank"):
        dataclasses.replace(demo, ranking=demo.ranking.drop(columns="rank"))
    with pytest.raises(InputError, match="'best'"):
        TrainedCandidate("a", "best", 1, 1, 1.0, (), (), ())
    with pytest.raises(InputError, match="2 epochs, 1 losses and 2"):
        TrainedCandidate("a", "random", 1, 1, 1.0, (1, 2), (0.5,), (0.1, 0.2))


def test_written_whole_or_not_at_all(tmp_path, demo, monkeypatch):
    path = tmp_path / "report.html"
    write_report(path, demo)
    assert path.read_text(encoding="utf-8") == render_report(demo)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("jaxnas.report.write.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, dataclasses.replace(demo, title="a later run"))
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert "a later run" not in path.read_text(encoding="utf-8")
