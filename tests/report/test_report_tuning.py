"""What the report says of a tuner: who copied whom, the best line, and the values that were found."""

import dataclasses
import re

import numpy as np
import pytest

from jaxnas.report import TunedMember
from jaxnas.report.lineage import NOBODY, best, copies, line, parents, stretches
from jaxnas.report.section_tuning import SECTION as TUNING
from jaxnas.report.section_tuning import rows, tried
from jaxnas.report.svg import log_axis, log_ticks
from jaxnas.report.tuning_plots import arrow, by_epoch, shades, value_axis


def trial(member, start, units, copied=-1, fitness=0.5, **values) -> TunedMember:
    return TunedMember(member, start, units, copied, values or {"rate": 0.1}, fitness)


def simulated(seed: int, members: int = 5, segments: int = 7):
    """A random population, and whose weights each trial really went on from."""
    rng = np.random.default_rng(seed)
    epochs, owner = [0] * members, [NOBODY] * members
    trials, truth, copied = [], [], []
    for _ in range(segments):
        source = [
            i if rng.random() < 0.6 else int(rng.integers(-1, members)) for i in range(members)
        ]
        start = [epochs[s] if s >= 0 else 0 for s in source]
        before = [owner[s] if s >= 0 and epochs[s] else NOBODY for s in source]
        units = int(rng.integers(1, 4))
        gave_up, owner = owner, list(owner)
        for i, s in enumerate(source):
            other = s >= 0 and s != i
            trials.append(trial(i, start[i], units, s if other else -1, float(rng.random())))
            truth.append(before[i])
            if other and before[i] != NOBODY:
                copied.append((len(trials) - 1, before[i], gave_up[i]))
            owner[i], epochs[i] = len(trials) - 1, start[i] + units
    return trials, truth, copied


@pytest.mark.parametrize("seed", range(20))
def test_whose_weights_went_where(seed):
    trials, truth, copied = simulated(seed)
    assert parents(trials) == truth
    assert [(c.by, c.source, c.given_up) for c in copies(trials)] == copied
    way = line(trials)
    assert truth[way[0]] == NOBODY
    assert [truth[k] for k in way[1:]] == way[:-1]
    assert trials[way[-1]].fitness == max(t.fitness for t in trials)


def test_a_member_that_was_begun_anew_owes_nothing_to_what_it_did_before():
    trials = [trial(0, 0, 2), trial(1, 0, 2), trial(0, 0, 4), trial(1, 2, 2, copied=0)]
    assert parents(trials) == [NOBODY, NOBODY, NOBODY, 0]
    assert parents([trial(0, 3, 2, copied=1)]) == [NOBODY]  # not known
    assert copies([trial(0, 3, 2, copied=1)]) == []


def test_weights_are_copied_as_they_were_before_the_segment():
    first = [trial(k, 0, 2) for k in range(3)]
    # member 0 gives up 4 epochs, which member 2 takes, and is 4 epochs under way again afterwards
    trials = [*first, trial(0, 2, 2), trial(0, 2, 2, copied=1), trial(2, 4, 2, copied=0)]
    assert parents(trials) == [NOBODY] * 3 + [0, 1, 3]


def test_diverged_trials_are_never_the_best():
    trials = [
        trial(0, 0, 1, fitness=np.nan),
        trial(1, 0, 1, fitness=0.2),
        trial(2, 0, 1, fitness=0.2),
    ]
    assert best(trials) == 1
    assert line(trials) == [1]
    assert best(trials[:1]) == NOBODY
    assert line(trials[:1]) == []


def test_the_demo_is_told_as_it_was(demo):
    expected = [
        (k, (t.start // 2 - 1) * 8 + t.copied, k - 8)
        for k, t in enumerate(demo.trials)
        if t.copied >= 0
    ]
    assert [(c.by, c.source, c.given_up) for c in copies(demo.trials)] == expected
    found = [demo.trials[k] for k in line(demo.trials)]
    rates = [t.values["learning_rate"] for t in found for _ in range(t.units)]
    assert rates == demo.tuned["learning_rate"]
    html = str(TUNING.render(demo))
    assert "8 trainings began in 8 members" in html
    assert "for 96 epochs in all" in html
    assert f"{len(expected)} times one took over" in html
    assert "1 diverged" in html
    charts = re.findall(r'<svg class="plot".*?</svg>', html, re.DOTALL)
    assert len(charts) == 2 + 2
    seen = [e for e in expected if np.isfinite(demo.trials[e[2]].fitness)]
    for chart in charts[:2]:
        assert chart.count("mark winner") == 1
        assert chart.count("mark candidate") == 48 - 2
        assert chart.count('class="failed"') == 1
        arrows = re.findall(
            "<title>epoch (\\d+): member (\\d) took over the weights of member (\\d)", chart
        )
        assert [tuple(map(int, a)) for a in arrows] == [
            (demo.trials[a].start, demo.trials[a].member, demo.trials[b].member) for a, b, _ in seen
        ]


def test_the_schedule_is_cut_where_a_value_changes(demo):
    tuned = {"rate": [0.1, 0.1, 0.3, 0.3], "share": [1.0, 1.0, 1.0, 2.0]}
    cut = [(s.first, s.last, dict(s.values)) for s in stretches(tuned)]
    assert cut == [
        (1, 2, {"rate": 0.1, "share": 1.0}),
        (3, 3, {"rate": 0.3, "share": 1.0}),
        (4, 4, {"rate": 0.3, "share": 2.0}),
    ]
    nan = {"rate": [np.nan, np.nan, 1.0]}
    assert [(s.first, s.last) for s in stretches(nan)] == [(1, 2), (3, 3)]
    trials = (trial(0, 0, 2, rate=0.1, share=1.0), trial(1, 0, 2, rate=0.002, share=3.0))
    data = dataclasses.replace(demo, trials=trials, tuned=tuned)
    assert rows(data) == [("1 to 2", ("0.1", "1")), ("3", ("0.3", "1")), ("4", ("0.3", "2"))]
    assert tried(data) == ("0.002 to 0.1", "1 to 3")


def test_a_long_schedule_is_folded_away(demo):
    tuned = {"rate": [0.1 + 0.01 * k for k in range(20)]}
    html = str(TUNING.render(dataclasses.replace(demo, tuned=tuned)))
    assert "<summary>All 20 steps of the schedule</summary>" in html
    assert "<details" not in str(TUNING.render(demo))


def test_whole_trainings_are_drawn_in_their_order(hundred, demo):
    assert by_epoch(demo.trials)
    assert by_epoch([trial(0, 0, 1), trial(1, 0, 3)])
    assert not by_epoch(hundred.trials)
    html = str(TUNING.render(hundred))
    assert "48 trainings began" in html
    assert ">validation F1<" in html
    assert "accuracy" not in html
    assert 'class="copied"' not in html
    charts = re.findall(r'<svg class="plot".*?</svg>', html, re.DOTALL)
    assert [chart.count("mark winner") for chart in charts] == [1] * 4
    assert [chart.count("mark candidate") for chart in charts] == [46] * 4


def test_shades_are_ranks_among_trials_as_long_under_way():
    early = [trial(k, 0, 1, fitness=f) for k, f in enumerate([0.1, 0.3, 0.2, 0.5, 0.4])]
    late = [trial(k, 1, 1, fitness=f) for k, f in enumerate([0.9, np.nan, 0.8])]
    assert shades([*early, *late]) == [0, 2, 1, 4, 3, 4, 0, 0]


def test_values_that_span_decades_have_a_logarithmic_axis():
    assert value_axis("rate", [0.001, 0.02]).log
    assert not value_axis("rate", [0.001, 0.019]).log
    assert not value_axis("rate", [0.0, 0.02]).log
    axis = log_axis("rate", [0.001, 0.1], write=str, margin=0)
    assert axis.place(0.01) == pytest.approx(0.5)
    assert axis.place(np.array([0.001, 0.1])) == pytest.approx([0, 1])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.1, [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1]),
        (0.0009, 0.4, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]),
        (1e-8, 1.0, [1e-8, 1e-6, 1e-4, 0.01, 1.0]),
        (0.6, 0.9, [0.6, 0.7, 0.8, 0.9]),
    ],
)
def test_ticks_of_a_logarithmic_axis(low, high, expected):
    assert log_ticks(low, high) == pytest.approx(expected)


def test_an_arrow_ends_just_before_its_aim():
    path = arrow(100.0, 50.0, 100.0, 150.0)
    assert path.startswith("M100.0 50.0Q84.0 100.0 ")
    ends = [tuple(map(float, p.split())) for p in re.findall(r"L([\d. ]+)", path)]
    assert len(set(ends)) == 1
    assert np.hypot(ends[0][0] - 100, ends[0][1] - 150) == pytest.approx(5, abs=0.1)


def test_nothing_is_said_without_trials(demo):
    assert TUNING.render(dataclasses.replace(demo, trials=(), tuned={})) is None
    lost = tuple(dataclasses.replace(t, fitness=np.nan) for t in demo.trials)
    html = str(TUNING.render(dataclasses.replace(demo, trials=lost)))
    assert "48 diverged" in html
    assert "nan" not in "".join(re.findall(r' d="([^"]*)"', html))
