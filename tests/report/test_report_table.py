"""Which figures stand beside each other: the table's columns and rows, and equal budgets."""

import dataclasses

import numpy as np

from jaxnas.report.section_cost import SECTION as COST
from jaxnas.report.section_table import SECTION as TABLE
from jaxnas.report.section_table import accuracy_columns, headings, rows


def test_validation_and_test_accuracy_have_columns_of_their_own(demo):
    columns = accuracy_columns(demo)
    assert columns == ["validation, 12 epochs", "validation, finished", "test, finished"]
    by_rank = {row.rank: row for row in rows(demo) if row.role in ("winner", "candidate")}
    budget, finished, test = by_rank["8"].accuracies
    assert (finished, test) == ("98.96\xa0%", "98.61\xa0%")
    best = max(demo.trained[7].val_accuracy)
    assert budget == f"{100 * best:.2f}\xa0%"
    assert by_rank["1"].accuracies[1:] == ("–", "–")


def test_table_rows(demo):
    table = rows(demo)
    ranks = [int(row.rank.replace(",", "")) for row in table]
    assert ranks == sorted(ranks)
    assert set(range(1, 11)) <= set(ranks)
    trained = {run.arch for run in demo.trained}
    assert {row.arch for row in table[-8:]} <= trained
    assert sum(row.role == "random" for row in table) == 8
    assert [row.rank for row in table if row.diverged] == ["2"]
    assert headings(demo) == ["naswot", "params", "score"]


def test_a_deviation_over_repeats_stands_beside_its_score(demo):
    ranking = demo.ranking.assign(naswot_std=12.345, params_std=0.0)
    ranking.loc[1, "naswot_std"] = np.nan  # as where a score is not finite
    repeated = dataclasses.replace(demo, ranking=ranking)
    assert headings(repeated) == ["naswot ±", "params", "score"]
    before, after = rows(demo), rows(repeated)
    assert after[0].scores == (f"{before[0].scores[0]} ± 12", *before[0].scores[1:])
    assert after[1].scores == before[1].scores
    assert "naswot_std" not in TABLE.render(repeated)


def test_trained_architecture_outside_the_ranking_is_listed(demo):
    stranger = dataclasses.replace(demo.trained[0], arch="elsewhere")
    last = rows(dataclasses.replace(demo, trained=(stranger,)))[-1]
    assert (last.arch, last.rank, last.role) == ("elsewhere", "–", "candidate")


def test_trainings_of_other_budgets_are_not_compared(demo):
    assert demo.budget == 12
    assert [run.role for run in demo.beyond_budget()] == ["winner"]
    html = COST.render(demo)
    assert html is not None
    assert "2 trained longer or diverged" in html
    assert html.count('class="mark candidate"') == 2 * 6 + 1  # two charts and the legend
    assert html.count('class="mark winner"') == 2 + 1
