"""What the report says of test images and of augmentation: counts, mistakes, pictures."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from demo_stages import demo_judged
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxnas.report import Augmented, ComparedPolicy, Judged
from jaxnas.report.answers import answers, confused, confusion, mistakes, recalls
from jaxnas.report.heat_map import FEW, heat_map, shade
from jaxnas.report.pictures import data_uri, levels, picture
from jaxnas.report.section_augmentation import SECTION as AUGMENTATION
from jaxnas.report.section_augmentation import rows
from jaxnas.report.section_confusion import SECTION as CONFUSION
from jaxnas.report.section_mistakes import SECTION as MISTAKES
from jaxnas.report.section_mistakes import listed


def judged(probabilities, y, images=None, names="abcdefgh") -> Judged:
    p = np.array(probabilities, float)
    shown = np.zeros((len(p), 2, 2, 1), np.uint8) if images is None else images
    return Judged(p, np.array(y), tuple(names[: p.shape[1]]), shown)


FOUR = judged(
    [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.0, 0.9], [0.1, 0.6, 0.3], [np.nan] * 3],
    [0, 0, 1, 1, 0],
)


def test_what_was_taken_for_what():
    assert answers(FOUR).tolist() == [0, 1, 2, 1, -1]
    assert confusion(FOUR).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert [(f.name, f.found, f.images) for f in recalls(FOUR)] == [
        ("a", 1, 3),
        ("b", 1, 2),
        ("c", 0, 0),
    ]
    assert np.isnan(recalls(FOUR)[2].recall)
    assert mistakes(FOUR, 9).tolist() == [2, 1]  # the surest first
    assert mistakes(FOUR, 1).tolist() == [2]
    assert confused(FOUR, 9) == [(0, 1, 1), (1, 2, 1)]


@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_counts_against_scikit_learn(classes, n, seed):
    from sklearn.metrics import confusion_matrix

    rng = np.random.default_rng(seed)
    data = judged(rng.dirichlet(np.ones(classes), n), rng.integers(0, classes, n))
    given_class = [int(row.argmax()) for row in data.probabilities]
    expected = confusion_matrix(data.y, given_class, labels=range(classes))
    np.testing.assert_array_equal(confusion(data), expected)
    wrong = [k for k in range(n) if given_class[k] != data.y[k]]
    found = mistakes(data, n).tolist()
    assert sorted(found) == wrong
    sure = [max(data.probabilities[k]) for k in found]
    assert sure == sorted(sure, reverse=True)
    most = max(1, len(np.flatnonzero(expected - np.diag(np.diag(expected)))))
    assert sum(c for *_, c in confused(data, most)) == len(wrong)


def test_the_matrix_shows_each_pair_that_occurs(demo):
    html = str(CONFUSION.render(demo))
    counts = confusion(demo.judged)
    said = re.findall(r"<title>(\d) taken for (\d): (\d+) \(", html)
    assert {(int(a), int(b)): int(c) for a, b, c in said} == {
        (int(i), int(j)): int(counts[i, j]) for i, j in np.argwhere(counts)
    }
    assert re.findall(r'class="value"[^>]*>(\d+)<', html) == [c for *_, c in said]
    assert html.count("square nothing") == (counts == 0).sum()
    assert html.count("square right-") == 10
    right = int(np.trace(counts))
    assert f"Of 360 test images {right} ({100 * right / 360:.2f}\xa0%)" in html
    zero = counts[0, 0] / counts[0].sum()
    assert f'aria-label="0: {100 * zero:.1f}\xa0%"' in html
    assert "Most frequent mistakes" not in html


def test_a_sample_of_other_images_is_said_to_be_one(demo):
    places = np.arange(len(demo.judged.y)) + 1000
    drawn = dataclasses.replace(demo.judged, places=places, total=20_000, split="validation")
    html = str(CONFUSION.render(dataclasses.replace(demo, judged=drawn)))
    assert "Of 360 validation images, drawn from 20,000, " in html
    first, second = ([m.place for m in listed(judged)] for judged in (demo.judged, drawn))
    assert second == [place + 1000 for place in first]


@pytest.mark.parametrize("classes", [2, 3, FEW, FEW + 1, 100])
def test_matrices_of_all_sizes_lie_within_their_frame(demo, classes):
    data = demo_judged(500, classes)
    svg = str(heat_map(data))
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
    assert width == 540
    assert 0 < height < 720
    if classes <= FEW:
        squares = re.findall(r'<rect x="(\S+)" y="(\S+)" width="(\S+)"', svg)
        assert len(squares) == classes**2
        ends = np.array(squares, float)
        right, low = ends[:, :2].max(0) + ends[0, 2]
        assert right <= width
        assert low <= height
    else:
        places = re.findall(r"M([\d.]+) ([\d.]+)h", svg)
        assert len(places) == (confusion(data) > 0).sum()
        assert np.array(places, float).max() < 540
    html = str(CONFUSION.render(dataclasses.replace(demo, judged=data)))
    assert ("Most frequent mistakes" in html) == (classes > 10)
    assert (f"All {classes} classes" in html) == (classes > FEW)


def test_of_many_classes_those_found_least_are_shown(hundred):
    html = str(CONFUSION.render(hundred))
    found = re.findall(r'class="name">(class \d+)</span>', html)
    worst = sorted((f for f in recalls(hundred.judged) if f.images), key=lambda f: f.recall)
    assert found == [f.name for f in worst[:20]]
    i, j, count = confused(hundred.judged, 1)[0]
    cells = re.findall(r'<td class="name">(.*?)</td>|<td>(\d+)</td>', html)
    assert [a or b for a, b in cells[:3]] == [f"class {i}", f"class {j}", str(count)]


def test_small_shares_are_seen():
    assert [shade(s) for s in (0.01, 0.05, 0.2, 0.5, 0.9, 1.0)] == [0, 1, 2, 3, 4, 4]


def test_mistakes_are_listed_with_what_was_answered(demo):
    found = listed(demo.judged)
    assert len(found) == 24
    p, y = demo.judged.probabilities, demo.judged.y
    wrong = [k for k in range(len(y)) if p[k].argmax() != y[k]]
    assert [m.place for m in found] == sorted(wrong, key=lambda k: -p[k].max())[:24]
    for m in found:
        assert (m.label, m.answer) == (str(y[m.place]), str(p[m.place].argmax()))
        assert m.sure == f"{100 * p[m.place].max():.1f}\xa0%"
        assert m.of_label == f"{100 * p[m.place][y[m.place]]:.1f}\xa0%"
        np.testing.assert_array_equal(decoded(str(m.picture)), demo.judged.images[m.place, ..., 0])
    assert f"24 of {len(wrong)} misclassified" in str(MISTAKES.render(demo))


def test_mistakes_of_tables_have_no_pictures_and_none_are_said_to_be_none(demo):
    table = judged([[0.3, 0.7], [0.6, 0.4]], [0, 0], images=np.zeros((2, 1, 1, 7), np.float32))
    html = str(MISTAKES.render(dataclasses.replace(demo, judged=table)))
    assert "<img" not in html
    assert "All 1 misclassified" in html
    right = judged([[0.3, 0.7]], [1])
    assert "none was taken" in str(MISTAKES.render(dataclasses.replace(demo, judged=right)))
    for section in (MISTAKES, CONFUSION):
        assert section.render(dataclasses.replace(demo, judged=None)) is None


def decoded(html: str) -> np.ndarray:
    source = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert source
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1]))))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_exact_up_to_64_pixels(channels):
    image = np.random.default_rng(0).integers(0, 256, (64, 33, channels), dtype=np.uint8)
    np.testing.assert_array_equal(
        decoded(str(picture(image, "x"))), image.squeeze(-1) if channels == 1 else image
    )
    large = np.repeat(np.repeat(image, 3, 0), 3, 1)
    assert decoded(f'src="{data_uri(large)}"').shape[:2] == (64, 33)
    assert 'class="picture shrunk"' in picture(large, "x")


def test_floating_point_and_odd_channels_are_shown():
    values = np.array([-1.0, 0.0, 3.0, np.nan]).reshape(4, 1, 1, 1)
    assert levels(values).ravel().tolist() == [0, 64, 255, 64]
    assert levels(np.full((2, 1, 1, 1), 7.0)).ravel().tolist() == [0, 0]
    stored = np.arange(8, dtype=np.uint8).reshape(2, 1, 1, 4)
    assert levels(stored).tolist() == stored[..., :3].tolist()
    assert levels(stored[..., :2]).shape == (2, 1, 1, 1)
    assert levels(np.zeros((0, 2, 2, 1), np.float32)).shape == (0, 2, 2, 1)


def test_policies_are_ordered_by_the_last_epoch(demo):
    table = rows(demo)
    assert table[0].name == "randaugment:n=2:m=9"
    last = {p.name: p.val_metric[-1] for p in demo.policies}
    assert [row.name for row in table] == sorted(last, key=lambda name: -last[name])
    assert [row.chosen for row in table] == [True] + [False] * 4
    best = max(demo.policies[0].val_metric)
    assert {row.name: row.best for row in table}["none"] == f"{100 * best:.2f}\xa0%"
    lost = ComparedPolicy("lost", (0.5, np.nan), False)
    row = rows(dataclasses.replace(demo, policies=(lost, *demo.policies)))[-1]
    assert (row.name, row.last, row.best) == ("lost", "–", "50.00\xa0%")


def test_the_grid_holds_each_image_and_its_draws(demo):
    html = str(AUGMENTATION.render(demo))
    shown = re.findall("<img[^>]*>", html)
    assert len(shown) == 6 * 6
    np.testing.assert_array_equal(decoded(shown[6]), demo.augmented.images[1, ..., 0])
    np.testing.assert_array_equal(decoded(shown[6 + 3]), demo.augmented.made[1, 2, ..., 0])
    colour = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    data = dataclasses.replace(demo, augmented=Augmented(colour, 255 - colour[:, None], "invert"))
    shown = re.findall("<img[^>]*>", str(AUGMENTATION.render(data)))
    np.testing.assert_array_equal(decoded(shown[3]), 255 - colour[1])


def test_one_epoch_has_no_chart_and_nothing_is_left_out(demo):
    short = tuple(dataclasses.replace(p, val_metric=p.val_metric[:1]) for p in demo.policies)
    html = str(AUGMENTATION.render(dataclasses.replace(demo, policies=short, metric="f1")))
    assert "<svg" not in html
    assert "validation F1, epoch 1" in html
    html = str(AUGMENTATION.render(demo))
    assert html.count('class="curve winner"') == 2 + 1
    assert html.count('class="curve series-0"') == 2 + 1
    nothing = dataclasses.replace(demo, policies=(), augmented=None)
    assert AUGMENTATION.render(nothing) is None
