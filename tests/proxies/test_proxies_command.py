"""`python -m jaxnas.proxies`: the list, the presets, and one proxy in full."""

import re
import subprocess
import sys

import pytest

from jaxnas.proxies import PRESETS, PROXIES, as_proxy
from jaxnas.proxies.__main__ import main
from jaxnas.proxy import CountProxy, ForwardProxy, GradientProxy


def rows_of(listed):
    """The lines of each proxy or preset, joined, by its name."""
    rows, name = {}, ""
    for line in listed.splitlines():
        name = line.split()[0] if re.match(r"\w", line) else name if line.strip() else ""
        rows[name] = f"{rows.get(name, '')} {line}"
    return rows


def words(text):
    return " ".join(text.split())


def test_every_proxy_is_listed_with_sign_cost_formula_and_paper(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert f"{len(PROXIES)} training-free proxies" in listed
    rows = rows_of(listed)
    for name, proxy in PROXIES.items():
        row = words(rows[name])
        assert row.split()[1] == ("higher" if proxy.sign == 1 else "lower"), row
        assert ("arXiv:" in row) == ("arXiv:" in proxy.paper)
        assert (" yes " in f" {row} ") == proxy.needs_labels
        cost = "the architecture alone" if isinstance(proxy, CountProxy) else proxy.needs[0]
        assert cost.replace("_", " ").split()[0] in row
        assert proxy.formula.split()[0] in row
    assert "K_H[i, j]" in rows["naswot"]
    assert "lower" in rows["ntk"]


def test_presets_are_listed_with_their_members(capsys):
    main([])
    rows = rows_of(capsys.readouterr().out)
    for preset in PRESETS.values():
        assert f"{','.join(preset.proxies)} {preset.combine}" in words(rows[preset.name])


@pytest.mark.parametrize("name", PROXIES)
def test_one_in_full(name, capsys):
    assert main([name]) == 0
    said = capsys.readouterr().out
    proxy = PROXIES[name]
    for fact in (name, proxy.formula, proxy.protocol, proxy.paper):
        assert fact in said
    executors = {
        CountProxy: "executors      none is needed\n",
        ForwardProxy: "executors      shared_prefix and per_architecture\n",
        GradientProxy: "executors      per_architecture\n",
    }
    assert executors[type(proxy)] in said
    assert ("with labels" in said) == proxy.needs_labels
    assert len(said.splitlines()) > 9  # something of where it is computed, besides


def test_what_the_function_says_keeps_formulas_and_joins_paragraphs(capsys):
    main(["dss"])
    said = capsys.readouterr().out
    assert "\n    sum over matrices of self-attention of |G|_nuc |W|_nuc\n" in said
    assert "layer norm kept and batch norm left out. With G = dR/dW,\n" in said
    assert "Layers that are not there have G = 0" in said


def test_a_preset_in_full(capsys):
    assert main(["te_nas"]) == 0
    said = capsys.readouterr().out
    assert "combined by     rank_mean" in said
    assert re.search(r"ntk +lower is better; ", said)
    assert re.search(r"linear_regions +higher is better; ", said)
    assert "arXiv:2102.11535" in said


def test_ones_own(capsys, tmp_path):
    source = 'def score(network, variables, arch, batch):\n    """My `own`\n    words."""\n'
    (tmp_path / "mine.py").write_text(source)
    command = [sys.executable, "-m", "jaxnas.proxies", "mine:score"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nMy own words.\n" in done.stdout
    assert "--proxies mine:score\n" in done.stdout


def test_a_registered_one_is_listed_too(capsys, monkeypatch):
    monkeypatch.setitem(PROXIES, "mine", as_proxy(lambda passes: 0.0, "mine", sign=-1))
    main([])
    assert words(rows_of(capsys.readouterr().out)["mine"]).startswith("mine lower its own")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("naswott", "Unknown proxy 'naswott'; did you mean naswot"),
        ("te_nass", "Unknown proxy 'te_nass'; did you mean te_nas"),
        ("nowhere:score", "The proxy nowhere:score cannot be imported: No module named 'nowhere'."),
        ("", "Unknown proxy ''"),
    ],
)
def test_bad_input_is_one_sentence(name, said, capsys):
    assert main([name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}")
    assert len(error.strip().splitlines()) == 1
