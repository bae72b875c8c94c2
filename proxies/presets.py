"""Named combinations of proxies, declared before any accuracy is seen."""

from collections.abc import Iterable
from dataclasses import dataclass

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
    )
}


def resolve(names: Iterable[str], combine: str | None = None) -> tuple[tuple[str, ...], str]:
    """The proxies that names stand for, and the combination; a preset has to stand alone.

    Raises:
        InputError: a preset among other names, or with another combination than its own.
    """
    names = tuple(names)
    presets = [name for name in names if name in PRESETS]
    if not presets:
        return names, combine or "log_rank"
    if len(names) > 1:
        raise InputError(
            f"{presets[0]} is a combination of proxies ({','.join(PRESETS[presets[0]].proxies)}) and "
            f"cannot be combined again, as in {','.join(names)}."
        )
    preset = PRESETS[presets[0]]
    if combine not in (None, preset.combine):
        raise InputError(
            f"{preset.name} combines its proxies by {preset.combine}; got combine={combine}."
        )
    return preset.proxies, preset.combine
