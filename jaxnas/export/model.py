"""What an exported model is: the contents of `model.json`, checked when they are read."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnas.data.dataset import Dataset
from jaxnas.errors import InputError, unknown
from jaxnas.spaces import Size

FORMAT = "jaxnas-model-1"
RESIZE = "antialiased bilinear to resolution x resolution, aspect ratio not kept"


@dataclass(frozen=True)
class Images:
    """What images a network was trained on, and how they become its inputs.

    Stored images were `height` x `width` x `channels` of `dtype` (uint8 or float32), with values from
    `low` to `high`. Resized to the side `resolution`, they are `(scale x - mean) / std` per channel.
    Rows of a table are images of one pixel.
    """

    height: int
    width: int
    channels: int
    dtype: str
    low: float
    high: float
    resolution: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = RESIZE

    @classmethod
    def of(cls, data: Dataset, resolution: int) -> "Images":
        """Those of a data set, for networks of a resolution."""
        x = data.train.x
        height, width = data.resolution
        return cls(
            height=height,
            width=width,
            channels=data.channels,
            dtype=x.dtype.name,
            low=float(x.min()),
            high=float(x.max()),
            resolution=resolution,
            scale=1 / 255 if x.dtype == np.uint8 else 1.0,
            mean=tuple(map(float, data.mean)),
            std=tuple(map(float, data.std)),
        )

    @property
    def table(self) -> bool:
        """Whether they are rows of features."""
        return self.height == self.width == 1

    def check(self) -> None:
        """`InputError` where values do not fit each other."""
        sides = (self.height, self.width, self.channels, self.resolution)
        numbers = (self.low, self.high, self.scale, *self.mean, *self.std)
        if (
            min(sides) < 1
            or self.dtype not in ("uint8", "float32")
            or not len(self.mean) == len(self.std) == self.channels
            or not all(math.isfinite(n) for n in numbers)
            or min(self.std) <= 0
        ):
            raise InputError("its images are described by values that do not fit each other.")


@dataclass(frozen=True)
class Model:
    """An exported model: architecture, size, classes and images; no weights.

    `space` is a registered name, `space.yaml` (a description beside), or `module:attribute`. `arch` is
    in the space's notation. `accuracies` are those of the search, by name. `sha256` is of each file.
    """

    space: str
    arch: str
    size: Size
    class_names: tuple[str, ...]
    images: Images
    accuracies: Mapping[str, float | None]
    sha256: Mapping[str, str]
    jaxnas: str
    format: str = FORMAT

    def to_json(self) -> str:
        """As `model.json` holds it."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Model":
        """What `to_json` wrote; the values' types are checked, unknown keys refused.

        Raises:
            InputError: an incomplete sentence, of which the file is the subject.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"is not JSON: {error}.") from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            found = values.get("format") if isinstance(values, dict) else type(values).__name__
            raise InputError(f"is no model of jaxnas: its format is {found!r}, not {FORMAT!r}.")
        model = _made(cls, values, "")
        if len(model.class_names) < 2:
            raise InputError("has fewer than two class_names.")
        model.images.check()
        return model


def _made(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"has {values!r} at {where}, expected keys and values.")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise InputError(f"cannot be read: {unknown('key', where + str(key), fields)}")
    missing = [name for name in fields if name not in values]
    if missing:
        raise InputError(f"lacks {where}{missing[0]}.")
    return cls(**{k: _value(fields[k], values[k], f"{where}{k}") for k in fields})


def _value(field: dataclasses.Field, value: Any, where: str) -> Any:
    if field.name in _NESTED:
        return _made(_NESTED[field.name], value, where + ".")
    kind = str(field.type if isinstance(field.type, str) else getattr(field.type, "__name__", ""))
    if field.name in ("accuracies", "sha256"):
        inner = (str,) if field.name == "sha256" else (int, float, type(None))
        good = isinstance(value, dict) and all(isinstance(v, inner) for v in value.values())
    elif field.name in _TUPLES:
        inner = _TUPLES[field.name]
        good = isinstance(value, list) and all(_is(v, inner) for v in value)
        value = tuple(value) if good else value
    else:
        good = _is(value, kind)
    if not good:
        raise InputError(f"has {value!r} as {where}, which cannot be.")
    return value


_NESTED: dict[str, type] = {"size": Size, "images": Images}
_TUPLES = {"class_names": "str", "mean": "float", "std": "float", "cells": "int"}


def _is(value: Any, kind: str) -> bool:
    if kind == "str":
        return isinstance(value, str)
    number = isinstance(value, int) or (kind == "float" and isinstance(value, float))
    return number and not isinstance(value, bool)
