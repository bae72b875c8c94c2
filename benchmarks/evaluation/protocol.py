"""The manifest: everything that decides what a benchmark's numbers are."""

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax

from jaxnas import __version__
from jaxnas.benchmarks.evaluation.asked import Asked
from jaxnas.benchmarks.evaluation.ceiling import DRAWS
from jaxnas.benchmarks.evaluation.images import Images
from jaxnas.benchmarks.evaluation.population import Population, Target
from jaxnas.benchmarks.evaluation.tops import TOPS
from jaxnas.benchmarks.tables import Table
from jaxnas.benchmarks.tables.sources import sha256
from jaxnas.errors import InputError, unknown
from jaxnas.proxies.presets import Preset, resolve
from jaxnas.ranking import fit_size
from jaxnas.spaces import SearchSpace, Size

DTYPES = ("float32", "bfloat16")
INIT = (
    "jaxnas.network.Network.init: one draw of U(-b, b) from jax.random.key(seed), b = 1 / sqrt(fan-in) "
    "for convolutions and classifier as in PyTorch; batch norm on batch statistics"
)
TIES = (
    "correlations share mean ranks (Spearman) and are tau-b (Kendall); at the border of a top k the "
    "expected value; -inf ranks last, NaN below it"
)


@dataclass(frozen=True)
class Protocol:
    """What is asked of one evaluation beside the space, the table, the proxies and the data."""

    subset: str = "all"
    sample: int | None = None
    seeds: int = 3
    dtypes: tuple[str, ...] = ("float32",)
    batch_size: int = 32
    size: Size | None = None
    executor: str = "auto"
    bootstrap: int = 1000
    timed: int = 64
    channels: int | None = None
    cells: tuple[int, ...] | None = None
    resolution: int | None = None
    """Where `size` is None: what is other than the space's default for scoring."""
    given: bool = False
    """Once checked: whether `size` was asked for."""

    def of(
        self, preset: Preset | None, space: SearchSpace, images: Images
    ) -> tuple[int, int, Size]:
        """Batch size, repeats and network size of a preset with a protocol of its own, or of the rest.

        What was asked for goes before what a preset has.
        """
        assert self.size is not None
        if preset is None:
            return self.batch_size, 1, self.size
        recipe = resolve([preset.name])
        size = self.size if self.given else self._sized(recipe.size(space), images)
        batch = self.batch_size if self.batch_size != 32 else recipe.batch_size
        return batch, recipe.repeats, size

    def _sized(self, default: Size, images: Images) -> Size:
        asked = {k: getattr(self, k) for k in ("channels", "cells", "resolution")}
        return replace(
            fit_size(default, min(images.x.shape[1:3])),
            **{k: v for k, v in asked.items() if v is not None},
        )

    def checked(self, space: SearchSpace, images: Images) -> "Protocol":
        """The same with the size resolved; `InputError` for what cannot be used."""
        for name in self.dtypes:
            if name not in DTYPES:
                raise unknown("dtype", name, DTYPES)
        if len(set(self.dtypes)) < len(self.dtypes) or not self.dtypes:
            raise InputError(f"The dtypes are {','.join(self.dtypes)!r}, expected each once.")
        for what, number, least in (
            ("number of seeds", self.seeds, 1),
            ("number of bootstrap resamples", self.bootstrap, 0),
            ("number of timed architectures", self.timed, 0),
        ):
            if number < least:
                raise InputError(f"The {what} is {number}, expected at least {least}.")
        size = self.size or self._sized(space.proxy_size, images)
        return replace(self, size=size, given=self.size is not None)


def manifest(
    space: SearchSpace,
    table: Table,
    population: Population,
    targets: Sequence[Target],
    asked: Asked,
    images: Images,
    protocol: Protocol,
) -> dict[str, Any]:
    """The manifest as plain JSON; two evaluations with the same one give the same numbers."""
    size = protocol.size
    assert size is not None
    about = table.metadata
    return {
        "benchmark": "proxies",
        "space": space.name,
        # A file or a module may change under its name.
        "decisions": hashlib.sha256(repr(space.decisions).encode()).hexdigest(),
        "subset": protocol.subset,
        "n": len(population),
        "sample": protocol.sample,
        "table": {
            "file": table.path.name,
            "sha256": sha256(table.path),
            "rows": len(table),
            **{key: about.get(key) for key in ("source", "format", "licence", "protocol")},
            "source_sha256": about.get("sha256"),
        },
        "targets": [target.column.to_json() for target in targets],
        "proxies": list(asked.names),
        "scored": [p.name for p in asked.proxies],
        "presets": {
            name: asdict(preset)
            | {"proxies": list(preset.proxies)}
            | dict(zip(PROTOCOL_KEYS, _protocol(protocol, preset, space, images), strict=True))
            for name, preset in asked.presets.items()
        },
        "data": images.facts(),
        "batch_size": protocol.batch_size,
        "seeds": list(range(protocol.seeds)),
        "dtypes": list(protocol.dtypes),
        "size": {**asdict(size), "cells": list(size.cells)},
        "init": INIT,
        "executor": protocol.executor,
        "statistics": {
            "bootstrap": protocol.bootstrap,
            "tops": list(TOPS),
            "ceiling_draws": DRAWS,
            "ties": TIES,
        },
        "timed": protocol.timed,
        "device": f"{jax.default_backend()}: {jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": versions(),
    }


PROTOCOL_KEYS = ("batch_size", "repeats", "size")


def _protocol(
    protocol: Protocol, preset: Preset, space: SearchSpace, images: Images
) -> tuple[int, int, dict[str, Any]]:
    """What a preset is scored by, as plain JSON."""
    own = preset if preset.own_protocol else None
    batch_size, repeats, size = protocol.of(own, space, images)
    return batch_size, repeats, {**asdict(size), "cells": list(size.cells)}


def versions() -> dict[str, str]:
    """Of jaxnas, Python and what computes."""
    found = {"jaxnas": __version__, "python": platform.python_version()}
    for name in ("jax", "jaxlib", "flax", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def difference(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The first key in which two manifests differ, as `seeds [0] and not [0, 1]`; None: in none."""
    for key in dict.fromkeys([*one, *other]):
        a, b = one.get(key), other.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict) and (inner := difference(a, b)):
            return f"{key}.{inner}"
        return f"{key} {_short(a)} and not {_short(b)}"
    return None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
