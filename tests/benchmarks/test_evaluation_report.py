"""The evaluation's page and drawings, as text and in a real browser."""

import os
import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from evaluation_fakes import NB201, Scorer, make_table

from jaxnas import ranking
from jaxnas.benchmarks.__main__ import main
from jaxnas.benchmarks.evaluation import plots
from jaxnas.report.scatter import density
from jaxnas.report.svg import Frame, axis

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An evaluation of 3,000 architectures, enough to be counted in squares."""
    base = tmp_path_factory.mktemp("evaluation")
    table = make_table(base, NB201.all()[:3000])
    flags = ["--space", "nasbench201", "--table", str(table), "--data", "digits"]
    flags += ["--target", "c10_test", "--also", "c100_test", "--seeds", "2", "--bootstrap", "10"]
    flags += ["--proxies", "naswot,params,grad_norm,default", "--dtypes", "float32,bfloat16"]
    patch = pytest.MonkeyPatch()
    patch.setattr(ranking, "score_archs", Scorer(nan_rows=2))
    try:
        assert main(["proxies", *flags, "--timed", "4", "--out", str(base / "out")]) == 0
    finally:
        patch.undo()
    return base / "out"


def test_the_page_says_what_the_tables_hold(folder):
    page = (folder / "report.html").read_text()
    for words in ("noise ceiling", "NAS-Bench-Suite-Zero", "float32 and bfloat16", "failed numerically",
                  "The top of the ranking", "3,000 architectures", "chance"):  # fmt: skip
        assert words in page
    assert "<script" not in page
    assert page.count('class="plot"') == 4 + 2  # four scatters, cost for wide and narrow pages
    assert len(page) < 400_000


def test_drawings_are_whole_files_with_their_style(folder):
    drawn = sorted(folder.glob("*.svg"))
    assert len(drawn) == 6
    for path in drawn:
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme: dark" in path.read_text()


def test_the_heat_map_has_every_pair(folder):
    text = (folder / "correlations.svg").read_text()
    assert text.count("<title>") == 6 * 6
    rho = {tuple(t.split(": ")[0].split(" with ")): float(t.split(": ")[1])
           for t in re.findall("<title>(.*?)</title>", text)}  # fmt: skip
    assert rho["naswot", "naswot"] == 1
    assert rho["naswot", "params"] == rho["params", "naswot"]


def test_squares_count_every_point():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5000))
    frame = Frame(axis("x", x.tolist(), write=str), axis("y", y.tolist(), write=str))
    drawn = str(density(frame, x, y))
    cells = {tuple(c) for c in np.floor(np.stack(frame.at(x, y), 1) / 6).astype(int) * 6}
    assert {tuple(map(int, c)) for c in re.findall(r"M(-?\d+) (-?\d+)h6", drawn)} == cells
    assert len(re.findall("shade-", drawn)) == 5


def test_seconds_and_correlations_are_written_shortly():
    assert [plots.seconds(e) for e in (0, -2.301, -6)] == ["1\xa0s", "5\xa0ms", "1\xa0µs"]
    assert [plots.short(v) for v in (0.8124, -0.05, -1e-9, np.nan)] == [
        ".812",
        "−.050",
        ".000",
        "–",
    ]
    assert [plots.short(v, 4) for v in (0.9999, -0.9999)] == [".9999", "−.9999"]


def tool(variable, *names):
    path = os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)
    if not path:
        pytest.skip(f"no {names[0]} on this machine (${variable} may name one)")
    return path


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = tool("CHROMIUM", "chromium", "chromium-browser", "google-chrome")
    service = Service(tool("CHROMEDRIVER", "chromedriver"))
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def show(browser, path, *, width=1280, scheme="light"):
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get_log("browser")
    browser.get(path.as_uri())


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_overflows_and_text_is_legible(browser, folder, width):
    show(browser, folder / "report.html", width=width)
    assert browser.get_log("browser") == []
    ids = [e.get_attribute("id") for e in browser.find_elements("css selector", "main > section")]
    first = ["summary", "correlation", "top", "scores"]
    assert ids == [*first, "agreement", "cost", "published", "protocol"]
    scroll = browser.execute_script("return document.documentElement.scrollWidth")
    assert scroll <= width
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('figure svg text')].filter(t => t.checkVisibility())"
        ".map(t => parseFloat(getComputedStyle(t).fontSize) *"
        " Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b))"
    )
    assert min(sizes) >= 9.5


CONTRASTS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const light = colour => {
  canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(
    v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => p - q);
  return (y + 0.05) / (x + 0.05); };
const card = getComputedStyle(document.querySelector("section")).backgroundColor;
const found = {};
for (const t of document.querySelectorAll("figure svg text")) {
  const square = t.parentElement.querySelector("rect");
  const behind = square ? getComputedStyle(square).fill : card;
  found[t.textContent + " " + behind] = ratio(getComputedStyle(t).fill, behind);
}
for (const t of document.querySelectorAll("td, th, p, h3"))
  found[t.className + t.tagName] = ratio(getComputedStyle(t).color, card);
return found;
"""


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser, folder, scheme):
    show(browser, folder / "report.html", scheme=scheme)
    found = browser.execute_script(CONTRASTS)
    assert len(found) > 40
    assert {k: v for k, v in found.items() if v < 4.5} == {}


@pytest.mark.browser
def test_names_beside_marks_do_not_overlap(browser, folder):
    show(browser, folder / "report.html")
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('#cost .wide text.name')].map(t => {"
        " const b = t.getBoundingClientRect(); return [b.left, b.right, b.top, b.bottom] })"
    )
    assert len(boxes) == 4
    for i, (left, right, top, bottom) in enumerate(boxes):
        for other in boxes[:i]:
            apart = left >= other[1] or right <= other[0] or top >= other[3] - 3
            assert apart or bottom <= other[2] + 3
