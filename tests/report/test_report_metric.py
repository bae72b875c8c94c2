"""What the report says of another metric than accuracy, and of what stages left."""

import dataclasses

import pytest

from jaxnas.report import render_report
from jaxnas.report.section_cost import SECTION as COST
from jaxnas.report.section_curves import SECTION as CURVES
from jaxnas.report.section_decisions import SECTION as DECISIONS
from jaxnas.report.section_front import SECTION as FRONT
from jaxnas.report.section_summary import settings, tiles
from jaxnas.report.section_table import accuracy_columns

SAID = "Networks were compared by their F1; what is shown here is accuracy."


@pytest.mark.parametrize("section", [CURVES, COST, FRONT], ids=lambda s: s.id)
def test_sections_that_draw_accuracy_say_what_was_compared(demo, hundred, section):
    assert SAID in str(section.render(hundred))
    assert "Networks were compared by" not in str(section.render(demo))


def test_the_metric_has_tiles_of_its_own(demo, hundred):
    assert tiles(hundred)[:4] == [
        ("Test F1", "69.80\xa0%", "measured once"),
        ("Validation F1", "71.20\xa0%", "what networks were compared by"),
        ("Test accuracy", "98.61\xa0%", "measured once"),
        ("Validation accuracy", "98.96\xa0%", "of the winner"),
    ]
    assert [what for what, *_ in tiles(demo)][:2] == ["Test accuracy", "Validation accuracy"]


def test_what_a_strategy_reached_is_the_metric(demo, hundred):
    assert ">validation F1<" in str(DECISIONS.render(hundred))
    assert ">validation accuracy<" in str(DECISIONS.render(demo))
    named = dataclasses.replace(demo, metric="balanced_accuracy")
    assert ">validation balanced accuracy<" in str(DECISIONS.render(named))


def test_columns_of_accuracies_are_named_as_such(demo, hundred):
    assert accuracy_columns(demo)[1:] == ["validation, finished", "test, finished"]
    assert accuracy_columns(hundred)[1:] == [
        "validation accuracy, finished",
        "test accuracy, finished",
    ]


def test_what_stages_left_stands_in_the_summary(demo, rank_only):
    rates = demo.tuned["learning_rate"]
    assert rates[0] != rates[-1]
    result = demo.result | {"tuned": {"learning_rate": [0.25, 0.125], "momentum": [0.9, 0.9]}}
    found = dict(settings(dataclasses.replace(demo, result=result)))
    assert found == {
        "Hyper-parameters taken": "learning_rate 0.25 to 0.125, momentum 0.9",
        "Augmentation": "randaugment:n=2:m=9",
        "Exported to": "runs/digits/export",
    }
    assert settings(rank_only) == []
    assert "settings" not in render_report(rank_only).split("</style>")[1]


def test_without_proxies_there_is_no_ranking_to_draw(demo):
    ranking = demo.ranking.drop(columns=["naswot", "params"])
    assert 'id="ranking"' not in render_report(dataclasses.replace(demo, ranking=ranking))
