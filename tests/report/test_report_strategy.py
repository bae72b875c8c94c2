"""What the report says of a strategy's decisions, and of the Pareto front."""

import dataclasses
import re

import numpy as np
import pytest

from jaxnas.report.section_cost import SECTION as COST
from jaxnas.report.section_decisions import SECTION as DECISIONS
from jaxnas.report.section_decisions import columns
from jaxnas.report.section_decisions import rows as decided
from jaxnas.report.section_front import SECTION as FRONT
from jaxnas.report.section_front import compared, front, rows


def charts(html: str) -> list[str]:
    return re.findall(r'<svg class="plot".*?</svg>', html, re.DOTALL)


def test_every_decision_is_a_row_in_order(demo):
    table = decided(demo)
    assert columns(demo) == ["place without training", "expected", "reached"]
    assert [(row.arch, row.batch) for row in table] == [(d.arch, d.batch) for d in demo.decisions]
    assert [row.failed for row in table] == [k == 1 for k in range(8)]
    assert table[1].values == ("2", "–", "–")
    place, expected, reached = table[4].values
    assert (place, expected) == ("5", "97.80\xa0% ± 0.40\xa0%")
    assert reached == f"{100 * demo.decisions[4].reached:.2f}\xa0%"
    assert [row.winner for row in table] == [k == 7 for k in range(8)]


def test_the_figure_has_a_mark_for_each_and_what_was_expected_beside_it(demo):
    html = str(DECISIONS.render(demo))
    assert "8 trainings were asked for in 2 batches" in html
    assert "1 failed" in html
    drawn = charts(html)
    assert len(drawn) == 2
    for chart in drawn:  # wide and narrow
        assert chart.count("mark candidate") == 6
        assert chart.count("mark winner") == 1
        assert chart.count('class="failed"') == 1
        assert chart.count('class="interval"') == 4
        assert chart.count('class="band"') == 1
        steps = re.search(r'd="M([^"]*)" class="curve best"', chart)
        heights = [float(pair.split()[1]) for pair in (steps[1] if steps else "").split("L")]
        assert len(heights) > 3
        assert heights == sorted(heights, reverse=True)  # of an SVG: upwards
    inside = sum(abs(d.reached - d.expected) <= d.deviation for d in demo.decisions[4:])
    assert f"{inside} of 4 lie within one deviation" in html


def test_trainings_of_several_lengths_are_told_apart(demo):
    short = dataclasses.replace(demo.decisions[2], epochs=3, reached=0.999)
    data = dataclasses.replace(demo, decisions=(*demo.decisions, short))
    assert columns(data)[1] == "epochs"
    assert [row.values[1] for row in decided(data)][-2:] == ["12", "3"]
    html = str(DECISIONS.render(data))
    assert html.count('class="shorter"') == 2
    before, after = (str(DECISIONS.render(d)) for d in (demo, data))
    levels = [
        len(re.findall("L", re.findall(r'd="(\S.*?)" class="curve best"', h)[0]))
        for h in (before, after)
    ]
    assert levels[0] == levels[1]  # a short training is never the best so far


def test_sums_of_losses_are_no_shares(demo):
    config = {"train": {"measure": "sotl"}}
    decisions = [dataclasses.replace(d, reached=-3.25, expected=np.nan) for d in demo.decisions]
    data = dataclasses.replace(
        demo, result=demo.result | {"config": config}, decisions=tuple(decisions)
    )
    assert decided(data)[0].values[-1] == "−3.25"
    html = str(DECISIONS.render(data))
    assert ">fitness<" in html
    assert "%" not in html


def test_many_decisions_are_folded_away(demo):
    data = dataclasses.replace(demo, decisions=demo.decisions * 5)
    assert "<summary>All 40 decisions</summary>" in str(DECISIONS.render(data))
    assert "<details" not in str(DECISIONS.render(demo))
    assert DECISIONS.render(dataclasses.replace(demo, decisions=())) is None


def test_the_front_is_what_nothing_dominates(demo):
    shown = compared(demo)
    assert len(shown) == 16  # all but the one that diverged and the winner's training to the end
    for cost in ("params", "macs"):
        expected = {
            c.arch
            for c in shown
            if not any(
                o.costs[cost] <= c.costs[cost] and o.best_val_accuracy > c.best_val_accuracy
                for o in shown
            )
        }
        assert {c.arch for c in front(shown, cost)} == expected
    assert {row.arch for row in rows(demo)} == expected
    assert all(row.fronts == ("parameters", "multiply-adds") for row in rows(demo))
    listed = [float(row.costs[1].split()[0]) for row in rows(demo)]
    assert listed == sorted(listed)


def test_of_equal_accuracy_only_the_cheaper_is_on_the_front(demo):
    one = dataclasses.replace(demo.trained[0], costs={"params": 5.0})
    dear = dataclasses.replace(one, arch="dear", costs={"params": 6.0})
    again = dataclasses.replace(one, arch="again")
    assert front([dear, one, again], "params") == [one]


def test_limits_are_lines_and_latency_is_drawn_where_it_is_known(demo):
    html = str(FRONT.render(demo))
    assert [chart.count('class="ceiling"') for chart in charts(html)] == [0, 1]
    assert "At most 11\xa0M multiply-adds of one image were allowed" in html
    some = [
        dataclasses.replace(c, costs={**c.costs, "latency": c.macs / 2e6}) if k % 2 else c
        for k, c in enumerate(demo.trained)
    ]
    data = dataclasses.replace(demo, trained=tuple(some), limits={"latency": 4.0})
    html = str(FRONT.render(data))
    assert [chart.count('class="ceiling"') for chart in charts(html)] == [0, 0, 1]
    marks = [len(re.findall('class="mark ', chart)) for chart in charts(html)]
    assert marks[:2] == [16, 16]
    assert marks[2] == sum("latency" in c.costs for c in compared(data)) < 16
    assert FRONT.render(dataclasses.replace(demo, trained=demo.trained[:1])) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "the best of 7 that the strategy asked for"),
        ({"decisions": ()}, "the best of 7 candidates"),
        ({"decisions": (), "curves": {}}, "the best of 7 ranked first"),
    ],
)
def test_the_cost_section_says_why_candidates_were_trained(demo, changes, said):
    assert said in str(COST.render(dataclasses.replace(demo, **changes)))
