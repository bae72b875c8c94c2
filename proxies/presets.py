"""Named combinations of proxies, declared before any accuracy is seen."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jaxnas.errors import InputError


@dataclass(frozen=True)
class Preset:
    """Proxies and how their ranks become one (`jaxnas.scoring.combine.COMBINATIONS`)."""

    name: str
    proxies: tuple[str, ...]
    combine: str
    paper: str


PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        Preset(
            name="default",
            proxies=("naswot", "params"),
            combine="log_rank",
            paper="jaxnas, docs/proxies.md",
        ),
        Preset(
            name="az_nas",
            proxies=("az_expressivity", "az_progressivity", "az_trainability", "az_complexity"),
            combine="log_rank",
            paper="Lee and Ham, AZ-NAS, arXiv:2403.19232",
        ),
        Preset(
            name="te_nas",
            proxies=("ntk", "linear_regions"),
            combine="rank_mean",
            paper="Chen et al., Neural Architecture Search on ImageNet in Four GPU Hours (TE-NAS), "
            "arXiv:2102.11535",
        ),
        Preset(
            name="zero_cost_vote",
            proxies=("synflow", "jacov", "snip"),
            combine="vote",
            paper="Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, arXiv:2101.08134",
        ),
    )
}


def resolve(names: Iterable[Any], combine: str | None = None) -> tuple[tuple[Any, ...], str]:
    """The proxies that names stand for, and the combination; a preset has to stand alone.

    What is no name, such as a proxy itself, stands for itself.

    Raises:
        InputError: a preset among other names, or with another combination than its own.
    """
    names = tuple(names)
    presets = [name for name in names if isinstance(name, str) and name in PRESETS]
    if not presets:
        return names, combine or "log_rank"
    if len(names) > 1:
        raise InputError(
            f"{presets[0]} is a combination of proxies ({','.join(PRESETS[presets[0]].proxies)}) and "
            f"cannot be combined again, as in {','.join(getattr(n, 'name', str(n)) for n in names)}."
        )
    preset = PRESETS[presets[0]]
    if combine not in (None, preset.combine):
        raise InputError(
            f"{preset.name} combines its proxies by {preset.combine}; got combine={combine}."
        )
    return preset.proxies, preset.combine
