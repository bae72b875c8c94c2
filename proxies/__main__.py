"""`python -m jaxnas.proxies [NAME]`: what proxies and presets there are, and one of them in full."""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator, Sequence

from jaxnas.console import Screen
from jaxnas.errors import InputError
from jaxnas.proxies import PRESETS, PROXIES, get_proxies
from jaxnas.proxies.own import OfFour
from jaxnas.proxies.presets import Preset
from jaxnas.proxy import CountProxy, ForwardProxy, GradientProxy, Proxy


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxnas.proxies",
        description="List the training-free proxies, or describe one in full.",
    )
    parser.add_argument("proxy", nargs="?", help="a name | a preset | module:function")
    args = parser.parse_args(argv)
    screen = Screen()
    try:
        if args.proxy is None:
            list_proxies(screen)
            list_presets(screen)
        elif args.proxy in PRESETS:
            describe_preset(screen, PRESETS[args.proxy])
        else:
            describe(screen, *get_proxies([args.proxy]))
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def list_proxies(screen: Screen) -> None:
    """A table of the registered proxies."""
    rows = [
        [p.name, _better(p), _needs(p), "yes" if p.needs_labels else "", p.formula, _short(p.paper)]
        for p in PROXIES.values()
    ]
    columns = ["proxy", "better", "computed from", "labels", "formula", "reference"]
    folded = ("computed from", "formula", "reference")
    screen.table(f"{len(rows)} training-free proxies", columns, rows, folded=folded)
    screen.show(
        "\nWhat several are computed from is computed once. One of them in full:\n"
        "  python -m jaxnas.proxies NAME\n"
    )


def list_presets(screen: Screen) -> None:
    """A table of the named combinations."""
    rows = [[p.name, ",".join(p.proxies), p.combine, _short(p.paper)] for p in PRESETS.values()]
    columns = ["preset", "proxies", "combined by", "reference"]
    folded = ("proxies", "reference")
    screen.table(f"{len(rows)} presets: --proxies NAME", columns, rows, folded=folded)


def describe(screen: Screen, proxy: Proxy) -> None:
    """One proxy: what it says of itself, and what its functions say."""
    facts = {
        "better": _better(proxy),
        "formula": proxy.formula,
        "protocol": proxy.protocol,
        "computed from": _needs(proxy) + (", with labels" if proxy.needs_labels else ""),
        "executors": _executors(proxy),
        "reference": proxy.paper,
    }
    _facts(screen, proxy.name, facts)
    for text in _docstrings(proxy):
        screen.show("\n" + _unwrapped(text))
    screen.show(f"\n  python -m jaxnas.search --stages rank --proxies {proxy.name}")


def describe_preset(screen: Screen, preset: Preset) -> None:
    """One preset, and its members' formulas."""
    facts = {"combined by": preset.combine, "reference": preset.paper}
    members = {name: _formula(name) for name in preset.proxies}
    _facts(screen, preset.name, members | facts)
    screen.show(f"\n  python -m jaxnas.search --stages rank --proxies {preset.name}")


def _formula(name: str) -> str:
    (proxy,) = get_proxies([name])
    return f"{_better(proxy)} is better; {proxy.formula}"


def _facts(screen: Screen, title: str, facts: dict[str, str]) -> None:
    screen.show(title)
    widest = max(map(len, facts))
    for name, said in facts.items():
        if said:
            screen.show(f"  {name.ljust(widest)}  {said}")


def _better(proxy: Proxy) -> str:
    return "higher" if proxy.sign > 0 else "lower"


def _needs(proxy: Proxy) -> str:
    return ", ".join(proxy.needs).replace("_", " ") or "the architecture alone"


def _executors(proxy: Proxy) -> str:
    if isinstance(proxy, CountProxy):
        return "none is needed"
    both = isinstance(proxy, ForwardProxy)
    return "shared_prefix and per_architecture" if both else "per_architecture"


def _short(paper: str) -> str:
    """First authors and arXiv number, where a reference has one."""
    number = re.search(r"arXiv:[\d.]+\d", paper)
    return f"{paper.split(',')[0]}, {number[0]}" if number else paper


def _docstrings(proxy: Proxy) -> Iterator[str]:
    """What is written of a proxy where it is computed."""
    parts: list[object] = []
    if isinstance(proxy, ForwardProxy):
        tap = proxy.tap
        parts = [tap if inspect.isfunction(tap) else type(tap), proxy.finish, proxy.adjust]
    elif isinstance(proxy, GradientProxy):
        score = proxy.score
        parts = [score.function if isinstance(score, OfFour) else score]
    elif isinstance(proxy, CountProxy):
        parts = [sys.modules.get(proxy.count.__module__)]
    for part in parts:
        if part is not None and (text := inspect.getdoc(part)):
            yield text


def _unwrapped(text: str) -> str:
    """Paragraphs on a line each, but for what is indented."""
    paragraphs = text.replace("`", "").split("\n\n")
    return "\n\n".join(
        p if re.search(r"^\s", p, re.MULTILINE) else " ".join(p.split()) for p in paragraphs
    )


if __name__ == "__main__":
    sys.exit(main())
