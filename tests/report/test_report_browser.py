"""The page in a real browser: Chromium through its own driver, both of the machine's."""

import json
import os
import shutil
from pathlib import Path

import pytest

from jaxnas.report import write_report
from jaxnas.report.write import SECTIONS

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage"
)
TEXTS = ("p.lead", "h2", "dt", ".remark", "td", "th", ".legend li", "summary", "nav a", ".chip",
         "figcaption", ".notes p", "pre code", ".settings dd", ".mistakes b", ".mistakes .muted",
         ".recall .name", ".recall .amount", ".recall .muted", "h3", "td code")  # fmt: skip
COLOURS = """
const css = getComputedStyle(document.documentElement);
const probe = document.body.appendChild(document.createElement("i"));
const rgb = value => { probe.style.color = value; return getComputedStyle(probe).color; };
const solid = e => {
  for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (c.startsWith("rgb(")) return c;
  }
  return getComputedStyle(document.body).backgroundColor;
};
const pairs = {};
for (const s of arguments[0]) {
  for (const e of document.querySelectorAll(s)) pairs[s + " " + e.className] =
    [getComputedStyle(e).color, solid(e)];
}
for (const e of document.querySelectorAll(".plot text, .cell text"))
  pairs["text " + e.className.baseVal + getComputedStyle(e).fill] =
    [getComputedStyle(e).fill, e.parentElement.querySelector("rect.node")
      ? rgb("var(--node)") : solid(e.closest("figure"))];
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const painted = value => {  // color-mix() is computed as color(srgb ...)
  canvas.fillStyle = value; canvas.fillRect(0, 0, 1, 1);
  return `rgb(${[...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).join(", ")})`;
};
for (const e of document.querySelectorAll(".confusion .value")) {
  const square = e.parentElement.querySelector("rect");
  pairs["square " + square.className.baseVal] =
    [getComputedStyle(e).fill, painted(getComputedStyle(square).fill)];
}
for (let k = 0; k < 8; k++) pairs["op-" + k] = [rgb(`var(--op-${k})`), rgb("var(--card)")];
pairs["op-pass"] = [rgb("var(--op-pass)"), rgb("var(--card)")];
for (const role of ["winner", "candidate", "largest", "random"])
  pairs[role] = [rgb(`var(--${role})`), rgb("var(--card)")];
probe.remove();
return pairs;
"""


def tool(variable: str, *names: str) -> str:
    """The path of a program of this machine, or a skip that says what is missing."""
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
    # a driver given by path keeps Selenium Manager from fetching one
    service = Service(tool("CHROMEDRIVER", "chromedriver"))
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory, demo, rank_only, hundred) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("report")
    runs = {"demo": demo, "rank_only": rank_only, "hundred": hundred}
    paths = {name: folder / f"{name}.html" for name in runs}
    for name, data in runs.items():
        write_report(paths[name], data)
    return paths


def show(browser, path: Path, *, width: int = 1280, scheme: str = "light") -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())


def requests(browser) -> list[str]:
    """Addresses that the last page asked for, itself included."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = (m["params"] for m in messages if m["method"] == "Network.requestWillBeSent")
    return [params["request"]["url"] for params in sent]


@pytest.mark.parametrize("name", ["demo", "rank_only", "hundred"])
def test_sections_console_and_requests(browser, pages, name):
    show(browser, pages[name])
    ids = [e.get_attribute("id") for e in browser.find_elements("css selector", "main > section")]
    ranked = ["summary", "cell", "ranking", "table", "time", "config"]
    assert ids == (ranked if name == "rank_only" else [s.id for s in SECTIONS])
    heights = browser.execute_script(
        "return [...document.querySelectorAll('main > section')].map(e => e.offsetHeight)"
    )
    assert min(heights) > 100
    asked = [url for url in requests(browser) if not url.startswith("data:")]
    assert asked == [pages[name].as_uri()]
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [url for url in loaded if not url.startswith("data:")] == []
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [400, 800, 1280])
@pytest.mark.parametrize("name", ["demo", "rank_only", "hundred"])
def test_no_sideways_scrolling_and_every_figure_shows(browser, pages, name, width):
    show(browser, pages[name], width=width)
    inner, scroll = browser.execute_script(
        "return [innerWidth, document.documentElement.scrollWidth]"
    )
    assert inner == width
    assert scroll <= width
    outside = browser.execute_script(
        "return [...document.querySelectorAll('figure')].filter(f => {"
        " const shown = [...f.querySelectorAll('svg')].filter(s => s.checkVisibility());"
        " const box = f.getBoundingClientRect();"
        " return !shown.length || box.left < 0 || box.right > innerWidth }).length"
    )
    assert outside == 0


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", ["demo", "hundred"])
def test_text_in_figures_is_legible(browser, pages, name, width):
    show(browser, pages[name], width=width)
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('figure svg text')].filter(t => t.checkVisibility())"
        ".map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"
    )
    assert sizes
    assert min(sizes) >= 9.5


def contrast(pair: list[str]) -> float:
    """WCAG 2's contrast ratio of two `rgb(r, g, b)`."""

    def luminance(colour: str) -> float:
        channels = [int(c) / 255 for c in colour.removeprefix("rgb(").rstrip(")").split(",")]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, pair))
    return (high + 0.05) / (low + 0.05)


def test_contrast_in_light_and_dark(browser, pages):
    colours = {}
    for scheme in ("light", "dark"):
        show(browser, pages["demo"], scheme=scheme)
        colours[scheme] = browser.execute_script(COLOURS, list(TEXTS))
        weak = {k: p for k, p in colours[scheme].items() if contrast(p) < 4.5}
        assert weak == {}
    light, dark = (colours[s]["h2 "] for s in ("light", "dark"))
    assert contrast([light[1], dark[1]]) > 10


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", ["demo", "hundred"])
def test_images_are_decoded_and_pixels_are_seen_as_such(browser, pages, name, width):
    show(browser, pages[name], width=width)
    images = browser.execute_script(
        "return [...document.images].map(e => [e.complete && e.naturalWidth, e.offsetWidth,"
        " e.getBoundingClientRect().right, getComputedStyle(e).imageRendering, e.alt])"
    )
    assert len(images) == 6 * 6 + 24
    for pixels, shown, right, rendering, alt in images:
        assert pixels == 8
        assert shown >= 40
        assert right <= width
        assert rendering == "pixelated"
        assert alt


@pytest.mark.parametrize("width", [400, 1280])
def test_numbers_lie_within_their_squares_of_the_confusion_matrix(browser, pages, width):
    show(browser, pages["demo"], width=width)
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('.confusion .value')].map(e => {"
        " const [a, b] = [e, e.parentElement.querySelector('rect')].map(x => x.getBoundingClientRect());"
        " return [a.left - b.left, b.right - a.right, a.top - b.top, b.bottom - a.bottom] })"
    )
    assert len(boxes) > 20
    assert min(map(min, boxes)) >= -1


def test_hidden_configuration_opens_without_scripts(browser, pages):
    show(browser, pages["demo"])
    code = browser.find_element("css selector", "#config details pre")
    assert not code.is_displayed()
    browser.execute_script("document.querySelector('#config summary').click()")
    assert code.is_displayed()
    assert "batch_size: 64" in code.text
