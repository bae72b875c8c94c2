"""What is seen while a search runs: bars, sentences and tables on terminals of any width."""

import io
from typing import Any

import pytest
from rich.console import Console

from jaxnas import cost
from jaxnas.config import build
from jaxnas.console import Screen
from jaxnas.data.load import load
from jaxnas.stages.job import Job

ARCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|none~2|"
COLUMNS = ["rank", "architecture", "naswot", "validation"]
ROWS = [[1, ARCH, "200.927", "0.9833"], [10, ARCH, "-inf", ""]]


def screen_of(width: int, *, terminal: bool = True) -> tuple[Screen, io.StringIO]:
    screen, file = Screen(), io.StringIO()
    options: dict[str, Any] = {"file": file, "width": width, "force_terminal": terminal}
    screen._out = screen._err = Console(color_system=None, **options)
    return screen, file


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_table_fits_and_breaks_architectures_only_between_operations(width):
    screen, file = screen_of(width)
    screen.table("The 2 best", COLUMNS, ROWS)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].strip() == "The 2 best"
    assert lines[1].split() == COLUMNS
    start = lines[1].index("architecture")
    pieces = [line[start:].split()[0] for line in lines[3:]]
    assert "".join(pieces) == ARCH * 2
    assert all(piece.startswith("|") for piece in pieces)
    ends = [line.split()[-1] for line in lines[3:]]
    assert "0.9833" in ends
    assert "-inf" in ends
    assert "…" not in file.getvalue()


def test_numbers_are_to_the_right_and_names_to_the_left():
    screen, file = screen_of(80)
    screen.table("", ["role", "networks"], [["largest", 1], ["random", 12]])
    assert file.getvalue().splitlines()[-2:] == ["largest         1", "random         12"]
    screen.table("", ["a", "b ±"], [["x", "1.000 ± 0.500"], ["y", "-inf"], ["z", "10.25 ± 0.125"]])
    ends = [line.rstrip() for line in file.getvalue().splitlines()[-3:]]
    assert ends == ["x  1.000 ± 0.500", "y           -inf", "z  10.25 ± 0.125"]


def test_brackets_in_a_cell_are_no_markup():
    screen, file = screen_of(80)
    screen.table("of [a, b]", ["[red]x"], [["K[i, j] = [bold]"]])
    said = file.getvalue()
    assert all(part in said for part in ("of [a, b]", "[red]x", "K[i, j] = [bold]"))


def test_a_folded_column_breaks_between_words():
    screen, file = screen_of(30)
    screen.table("", ["name", "says"], [["first", "one two three four five six"]], folded=["says"])
    lines = [line.split() for line in file.getvalue().splitlines()[-2:]]
    assert lines == [["first", "one", "two", "three", "four", "five"], ["six"]]


def test_a_sentence_breaks_between_words_and_what_may_be_copied_stays_whole():
    screen, file = screen_of(40)
    screen.show(f"Winner: {ARCH}\n  81,090 parameters, 684,864 multiply-adds, test accuracy 0.9")
    lines = file.getvalue().splitlines()
    assert f"  {ARCH}" in lines
    assert all(len(line) <= 40 for line in lines if ARCH not in line)
    assert " ".join(file.getvalue().split()).endswith("684,864 multiply-adds, test accuracy 0.9")


def test_a_file_gets_every_sentence_on_a_line_of_its_own():
    screen, file = screen_of(40, terminal=False)
    screen.say("word " * 50 + "[bold]end")
    with screen.bar("train", 3) as bar:
        bar.advance(1, "best 0.5")
    assert file.getvalue() == "word " * 50 + "[bold]end\n" + "train ...\n"


def test_a_bar_says_compiling_until_its_first_unit_and_stays_when_done():
    screen, file = screen_of(80)
    with screen.bar("train", 2) as bar:
        bar.advance(1, "best 0.5")
        bar.advance(1, "best 0.75")
    seen = file.getvalue()
    assert seen.index("train · compiling") < seen.index("train · best 0.75")
    assert "2/2" in seen[seen.index("train · best 0.75") :]
    assert "2/2" in seen.splitlines()[-2]  # before the cursor is shown again


def test_the_cost_is_that_of_the_mean_architecture_to_that_of_the_largest(space, monkeypatch):
    monkeypatch.setattr(cost, "_multiply_adds_per_second", lambda job: 1e9)
    given = {"train.top": 3, "train.baselines": 2, "train.epochs": 4, "finish.epochs": 20}
    data = load("digits")
    unused: Any = None
    job = Job(build(given), space, data, unused, Screen(quiet=True), unused)
    job.archs = space.all()
    macs = job.count(job.config.train, job.archs).macs
    steps = 3 * len(data.train) * ((2 * 3 + 1 + 2) * 4 + 20)
    mean, most = steps * macs.mean(), steps * macs.max()
    said = cost.cost_sentence(job)
    assert "15,625 architectures to score without training" in said
    assert (
        f"training 9 x 4 epochs and 1 x 20 epochs, about {mean / 1e9:,.0f} to {most / 1e9:,.0f}"
        in said
    )
    assert f"roughly {mean / 1e9 / 60:.0f} min to {most / 1e9 / 60:.0f} min on" in said
    job.archs = job.archs[:1]
    alone = 3 * len(data.train) * ((1 + 1 + 2) * 4 + 20) * macs[0]
    assert f"about {alone / 1e9:,.0f} G multiply-adds, roughly" in cost.cost_sentence(job)
    job.config, job.archs = build({"pipeline": "rank"}), space.all()
    assert cost.cost_sentence(job) == "To do: 15,625 architectures to score without training."


@pytest.mark.parametrize(
    ("seconds", "said"), [(12.4, "12 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h")]
)
def test_durations_in_words(seconds, said):
    assert cost._duration(seconds) == said
