"""Named combinations of proxies, declared before any accuracy is seen."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxnas.errors import InputError
from jaxnas.spaces import SearchSpace, Size


@dataclass(frozen=True)
class Preset:
    """Proxies and how their ranks become one (`jaxnas.scoring.combine.COMBINATIONS`)."""

    name: str
    proxies: tuple[Any, ...]
    combine: str
    paper: str
    batch_size: int = 32
    repeats: int = 1
    """Of initialisations and batches."""
    deep: bool = False
    """Whether networks are as deep as the space's `deep_size`, where it has one."""

    @property
    def own_protocol(self) -> bool:
        """Whether its members' scores are other than those of the proxies by themselves."""
        return (self.batch_size, self.repeats, self.deep) != (32, 1, False)


class Recipe(NamedTuple):
    """How a ranking is made."""

    proxies: tuple[Any, ...]
    combine: str
    batch_size: int
    repeats: int
    deep: bool

    def size(self, space: SearchSpace) -> Size:
        """How large a space's networks are unless told otherwise."""
        return space.deep_size if self.deep and space.deep_size else space.proxy_size


PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        Preset(
            name="default",
            proxies=("naswot", "jacov", "az_expressivity", "params"),
            combine="log_rank",
            paper="jaxnas, docs/proxies.md",
            deep=True,
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


def resolve(
    names: Iterable[Any],
    combine: str | None = None,
    batch_size: int | None = None,
    repeats: int | None = None,
) -> Recipe:
    """The proxies that names stand for and how they are scored and combined; None: as usual.

    A preset has to stand alone, and brings what it is defined with. What is no name, such as a proxy
    itself, stands for itself.

    Raises:
        InputError: a preset among other names, or with another combination than its own.
    """
    names = tuple(names)
    presets = [name for name in names if isinstance(name, str) and name in PRESETS]
    if not presets:
        usual = Preset("", names, combine or "log_rank", "")
        return _recipe(usual, batch_size, repeats)
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
    return _recipe(preset, batch_size, repeats)


def _recipe(preset: Preset, batch_size: int | None, repeats: int | None) -> Recipe:
    return Recipe(
        preset.proxies,
        preset.combine,
        preset.batch_size if batch_size is None else batch_size,
        preset.repeats if repeats is None else repeats,
        preset.deep,
    )
