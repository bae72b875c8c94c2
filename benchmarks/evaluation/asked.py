"""What was asked to be evaluated: proxies, presets that combine some, and everything they need scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxnas.errors import InputError, unknown
from jaxnas.proxies import PROXIES, get_proxies
from jaxnas.proxies.presets import PRESETS, Preset
from jaxnas.proxy import GradientProxy, Proxy
from jaxnas.scoring.combine import COMBINATIONS


@dataclass(frozen=True)
class Asked:
    """Names in the order given, and the proxies whose scores they are made of, each once."""

    names: tuple[str, ...]
    proxies: tuple[Proxy, ...]
    presets: Mapping[str, Preset]

    def members(self, name: str) -> tuple[Proxy, ...]:
        """The proxies that a name stands for: itself, or a preset's members."""
        wanted = self.presets[name].proxies if name in self.presets else (name,)
        return tuple(p for p in self.proxies if p.name in wanted)

    def paper(self, name: str) -> str:
        """Where it comes from."""
        return self.presets[name].paper if name in self.presets else self.members(name)[0].paper

    def groups(self) -> dict[str, tuple[Proxy, ...]]:
        """Proxies that are scored together: those that need no gradients have a faster executor.

        A preset with a protocol of its own is a group by its name.
        """
        apart = {n: self.members(n) for n in self.names if self.own(n)}
        shared = {p for n in self.names if n not in apart for p in self.members(n)}
        gradient = tuple(p for p in self.proxies if p in shared and isinstance(p, GradientProxy))
        forward = tuple(p for p in self.proxies if p in shared and p not in gradient)
        return {k: v for k, v in (("forward", forward), ("gradient", gradient)) if v} | apart

    def own(self, name: str) -> Preset | None:
        """The preset of this name, if it is one that is scored by a protocol of its own."""
        preset = self.presets.get(name)
        return preset if preset and preset.own_protocol else None

    def key(self, name: str, proxy: Proxy) -> str:
        """Where the raw scores of a member of `name` are."""
        return f"{name}/{proxy.name}" if self.own(name) else proxy.name

    def promising(self, name: str, raw: Mapping[str, np.ndarray]) -> np.ndarray:
        """The score of a name from its members' raw scores, `float64[N]`, higher is better.

        -inf, no path to the output, stays what it is whatever the sign; so does NaN.
        """
        found = {p.name: raw[self.key(name, p)] for p in self.members(name)}
        oriented = {p.name: _oriented(p, found[p.name]) for p in self.members(name)}
        if name not in self.presets:
            return oriented[name]
        combined = COMBINATIONS[self.presets[name].combine](oriented)
        nowhere = np.all([np.isneginf(scores) for scores in found.values()], axis=0)
        return np.where(nowhere, -np.inf, combined)

    def failed(self, name: str, raw: Mapping[str, np.ndarray]) -> np.ndarray:
        """Of which architectures a member's score is NaN, `bool[N]`."""
        return np.any([np.isnan(raw[self.key(name, p)]) for p in self.members(name)], axis=0)


def find(names: str | Sequence[str]) -> Asked:
    """The proxies and presets of these names, a list or separated by commas.

    Raises:
        InputError: a name is neither (with the nearest), or comes twice.
    """
    names = tuple(names.split(",") if isinstance(names, str) else names)
    presets = {name: each for name, each in PRESETS.items() if name in names}
    for name in names:
        # `module:function`, a user's own, is looked up by get_proxies.
        if name not in presets and name not in PROXIES and ":" not in name:
            raise unknown("proxy or preset", name, [*PROXIES, *PRESETS])
    if len(set(names)) < len(names):
        raise InputError(f"A proxy is named twice in {','.join(names)}.")
    members = [each.proxies if (each := presets.get(n)) else (n,) for n in names]
    needed = dict.fromkeys(member for group in members for member in group)
    proxies = get_proxies(needed)
    # A user's own goes by the name that it gives itself.
    own = dict(zip(needed, (p.name for p in proxies), strict=True))
    return Asked(tuple(own.get(n, n) for n in names), proxies, presets)


def check_labels(asked: Asked, labels: np.ndarray | None) -> None:
    """`InputError` where a proxy needs labels and there are none."""
    needy = [p.name for p in asked.proxies if p.needs_labels]
    if needy and labels is None:
        verb = "needs" if len(needy) == 1 else "need"
        raise InputError(f"{', '.join(needy)} {verb} labels, and the data has none.")


def _oriented(proxy: Proxy, raw: np.ndarray) -> np.ndarray:
    return np.where(np.isneginf(raw), -np.inf, proxy.sign * np.asarray(raw, np.float64))
