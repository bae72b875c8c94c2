"""Networks that a file describes: a stem, cells one after another, a classifier.

What a description leaves open becomes choice points and widths; the rest is built as it says.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxnas.errors import InputError, nearest, unknown
from jaxnas.network import Network
from jaxnas.nn import (
    AvgPool,
    BatchNorm,
    Choice,
    Conv,
    GlobalAvgPool,
    Identity,
    Linear,
    MaxPool,
    MBConv,
    ReLU,
    Sequential,
    Width,
)
from jaxnas.nn.width import largest
from jaxnas.spaces import Decision, SearchSpace, Size, fixed_cells

BLOCKS = (
    "conv",
    "sep_conv",
    "dil_conv",
    "residual",
    "mbconv",
    "avg_pool",
    "max_pool",
    "identity",
)
CELL: dict[str, Any] = {
    "block": "conv",
    "channels": 16,
    "kernel": 3,
    "stride": 1,
    "repeat": 1,
    "expansion": 3,
}
"""The attributes of a cell and what they are unless a description says otherwise."""
STEM: dict[str, Any] = {"channels": 16, "kernel": 3, "stride": 1}
ALIASES = {
    "width": "channels",
    "outchannels": "channels",
    "out_channels": "channels",
    "inchannels": "channels",
    "in_channels": "channels",
    "strides": "stride",
    "kernel_size": "kernel",
    "op": "block",
    "depth": "repeat",
}
"""Other words for attributes, VEGA's among them."""
FIXED = ("stride",)
"""Attributes that change shapes, so that they cannot be searched in one program."""
EIGHT_CELLS: list[dict[str, Any]] = [
    {
        "name": f"cell{i}",
        "block": "residual",
        "channels": 64 * 2 ** (i // 2),
        "stride": 1 + (i in (2, 4, 6)),
    }
    for i in range(8)
]
"""VEGA's ResNet: eight residual cells, four resolutions."""


class Leaf(NamedTuple):
    """An attribute of a network: of which part, and its name."""

    part: str
    attribute: str


class Attributes:
    """A network's description with every attribute in place: `parts[part][attribute]`.

    Args:
        name: what the network is called.
        given: the description: `stem` and `cells`, each cell a mapping with a name and attributes.

    Raises:
        InputError: an unknown attribute or block, a value that an attribute cannot have.
    """

    def __init__(self, name: str, given: Mapping[str, Any]) -> None:
        for key in given:
            if key not in ("type", "stem", "cells"):
                raise InputError(f"In model {name}: {unknown('part', key, ['stem', 'cells'])}")
        cells = given.get("cells", EIGHT_CELLS if given.get("type") == "ResNet" else None)
        if not isinstance(cells, list) or not cells:
            raise InputError(f"In model {name}: cells is {cells!r}, expected a list of cells.")
        self.parts = {"stem": self._filled(f"{name}.stem", STEM, given.get("stem") or {})}
        for i, cell in enumerate(cells):
            if not isinstance(cell, Mapping):
                raise InputError(f"In model {name}: cell {i} is {cell!r}, expected a mapping.")
            own = dict(cell)
            part = str(own.pop("name", f"cell{i + 1}"))
            if part in self.parts or part in ("cells", "cell", "convs"):
                raise InputError(f"In model {name}: two parts are called {part!r}.")
            self.parts[part] = self._filled(f"{name}.{part}", CELL, own)

    @staticmethod
    def _filled(where: str, known: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        filled = dict(known)
        for key, value in given.items():
            attribute = ALIASES.get(key, key)
            if attribute not in known:
                near = nearest(key, [*known, *ALIASES]) or list(known)
                raise InputError(
                    f"{where} has no attribute {key!r}; did you mean {' or '.join(near)}?"
                )
            check_value(f"{where}.{key}", attribute, value)
            filled[attribute] = value
        return filled

    def tree(self, leaf: Callable[[str, str], Any]) -> dict[str, Any]:
        """Nested mappings of `leaf(part, attribute)`, as keys address them."""
        parts = {
            part: {
                word: leaf(part, attribute)
                for attribute in attributes
                for word in (attribute, *(a for a, name in ALIASES.items() if name == attribute))
            }
            for part, attributes in self.parts.items()
        }
        cells = [tree for part, tree in parts.items() if part != "stem"]
        return parts | {"cells": cells, "cell": cells, "convs": cells}


def check_value(where: str, attribute: str, value: Any) -> None:
    """`InputError` for a value that an attribute cannot have."""
    if attribute == "block":
        if value not in BLOCKS:
            raise InputError(f"{where}: {unknown('block', str(value), BLOCKS)}")
        return
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not whole or (attribute == "kernel" and value % 2 == 0):
        odd = "an odd whole number" if attribute == "kernel" else "a whole number of at least 1"
        raise InputError(f"{where} is {value!r}, expected {odd}.")


class ConvNet(nnx.Module):
    """The network of a description.

    `searched[leaf]` is the column of the rows that choose it and the values to choose from; everything
    else is as in `attributes`. Whether block n of a part whose repetition is searched is there (0 or 1)
    is n - 2 columns further. `scale` is multiplied to every number of channels.
    """

    def __init__(
        self,
        attributes: Attributes,
        searched: Mapping["Leaf", tuple[int, tuple[Any, ...]]],
        scale: float,
        classes: int,
        image_channels: int,
    ) -> None:
        self._searched, self._scale = dict(searched), scale
        parts = attributes.parts
        width = self._width("stem", parts["stem"])
        stem = parts["stem"]
        first = self._branch(
            "stem", "kernel", stem, lambda k: _conv(image_channels, width, k, stem)
        )
        cells = []
        for part, given in parts.items():
            if part != "stem":
                outputs = self._width(part, given)
                cells.append(self._cell(part, given, width, outputs))
                width = outputs
        self.stem, self.cells = first, nnx.List(cells)
        self.head = Sequential(GlobalAvgPool(), Linear(width, classes))
        del self._searched, self._scale

    def __call__(self, x: Any, ctx: Any) -> Any:
        """Logits `[B, classes]`."""
        x = ctx.boundary(self.stem(x, ctx))
        for cell in self.cells:
            x = ctx.boundary(cell(x, ctx), cell)
        return self.head(x, ctx)

    def _values(self, part: str, attribute: str, given: dict[str, Any]) -> tuple[int, tuple]:
        return self._searched.get(Leaf(part, attribute), (-1, (given[attribute],)))

    def _width(self, part: str, given: dict[str, Any]) -> int | Width:
        column, values = self._values(part, "channels", given)
        scaled = tuple(max(1, round(v * self._scale)) for v in values)
        return scaled[0] if column < 0 else Width(column, scaled)

    def _branch(self, part: str, attribute: str, given: dict[str, Any], make: Any) -> Any:
        """What `make(value)` makes of the attribute's value, or the choice between its values."""
        column, values = self._values(part, attribute, given)
        made = [make(value) for value in values]
        return made[0] if column < 0 else Choice(column, made)

    def _cell(self, part: str, given: dict[str, Any], inputs: Any, outputs: Any) -> Any:
        """The first block, which has the stride, and as many more as are repeated at most."""
        column, repeats = self._values(part, "repeat", given)
        blocks = [self._block(part, given, inputs, outputs, given["stride"])]
        for number in range(2, max(repeats) + 1):
            block = self._block(part, given, outputs, outputs, 1)
            if column >= 0:
                block = Choice(column + number - 2, [Identity(), block])
            blocks.append(block)
        return Sequential(*blocks)

    def _block(
        self, part: str, given: dict[str, Any], inputs: Any, outputs: Any, stride: int
    ) -> Any:
        def of_kind(kind: str) -> Any:
            return self._branch(part, "kernel", given, lambda k: of_kernel(kind, k))

        def of_kernel(kind: str, kernel: int) -> Any:
            if kind != "mbconv":
                return _BLOCKS[kind](inputs, outputs, kernel, stride)
            return self._branch(
                part,
                "expansion",
                given,
                lambda e: MBConv(inputs, outputs, kernel, expansion=e, stride=stride),
            )

        return self._branch(part, "block", given, of_kind)


def _conv(inputs: Any, outputs: Any, kernel: int, given: dict[str, Any]) -> Sequential:
    return _plain(inputs, outputs, kernel, given["stride"])


def _plain(inputs: Any, outputs: Any, kernel: int, stride: int) -> Sequential:
    return Sequential(Conv(inputs, outputs, kernel, stride=stride), BatchNorm(outputs), ReLU())


def _separable(
    inputs: Any, outputs: Any, kernel: int, stride: int, dilation: int = 1
) -> Sequential:
    depthwise = Conv(
        inputs, inputs, kernel, stride=stride, dilation=dilation, groups=largest(inputs)
    )
    return Sequential(depthwise, Conv(inputs, outputs, 1), BatchNorm(outputs), ReLU())


def _dilated(inputs: Any, outputs: Any, kernel: int, stride: int) -> Sequential:
    return _separable(inputs, outputs, kernel, stride, dilation=2)


def _pooled(pool: type[Any]) -> Any:
    def make(inputs: Any, outputs: Any, kernel: int, stride: int) -> Any:
        return _adapted(pool(kernel, stride=stride), inputs, outputs)

    return make


def _identity(inputs: Any, outputs: Any, kernel: int, stride: int) -> Any:
    return _adapted(AvgPool(stride, stride=stride) if stride > 1 else Identity(), inputs, outputs)


def _adapted(layer: Any, inputs: Any, outputs: Any) -> Any:
    """A layer that keeps its channels, and a 1x1 convolution where others are wanted."""
    if inputs == outputs:
        return layer
    return Sequential(layer, Conv(inputs, outputs, 1), BatchNorm(outputs))


class Residual(nnx.Module):
    """He et al.'s basic block (arXiv:1512.03385), with a projection where shapes differ."""

    def __init__(self, inputs: Any, outputs: Any, kernel: int, stride: int) -> None:
        self.body = Sequential(
            _plain(inputs, outputs, kernel, stride),
            Conv(outputs, outputs, kernel),
            BatchNorm(outputs),
        )
        same = stride == 1 and inputs == outputs
        project = Sequential(Conv(inputs, outputs, 1, stride=stride), BatchNorm(outputs))
        self.shortcut = Identity() if same else project
        self.last = ReLU()

    def __call__(self, x: Any, ctx: Any) -> Any:
        """`[B, H, W, inputs] -> [B, ceil(H / stride), ceil(W / stride), outputs]`."""
        return self.last(ctx.add([self.shortcut(x, ctx), self.body(x, ctx)]), ctx)


_BLOCKS = {
    "conv": _plain,
    "sep_conv": _separable,
    "dil_conv": _dilated,
    "residual": Residual,
    "avg_pool": _pooled(AvgPool),
    "max_pool": _pooled(MaxPool),
    "identity": _identity,
}


class ConvNetModel:
    """A described network, some of whose attributes a search space leaves open."""

    def __init__(self, name: str, given: Mapping[str, Any]) -> None:
        self.name, self.attributes = name, Attributes(name, given)

    def tree(self) -> dict[str, Any]:
        """Its attributes as keys address them: parts, and all cells at once."""
        return self.attributes.tree(Leaf)

    def default(self, leaf: Leaf) -> Any:
        """What the attribute is where nothing chooses it."""
        return self.attributes.parts[leaf.part][leaf.attribute]

    def check(self, leaf: Leaf, value: Any, where: str) -> None:
        """`InputError` unless the attribute can have the value and be searched."""
        if leaf.attribute in FIXED:
            raise InputError(
                f"{where}: {leaf.part}.{leaf.attribute} changes shapes and cannot be searched; "
                "it is what the model says."
            )
        check_value(where, leaf.attribute, value)

    def space(self, searched: Mapping[Leaf, tuple[Any, ...]]) -> SearchSpace:
        """The space of these attributes' values, one decision each, in order."""
        return ConvNetSpace(self.name, self.attributes, searched)


class ConvNetSpace(SearchSpace):
    """The networks of a description. All decisions are traced: one program serves the whole space."""

    paper = ""

    def __init__(
        self, name: str, attributes: Attributes, searched: Mapping[Leaf, tuple[Any, ...]]
    ) -> None:
        self.name = name
        self._attributes, self._searched = attributes, dict(searched)
        self.decisions = tuple(
            Decision(f"{leaf.part}.{leaf.attribute}", tuple(map(str, values)))
            for leaf, values in searched.items()
        )
        cells = (len(attributes.parts) - 1,)
        self.official_size = Size(self._widest_stem, cells, 32)
        self.proxy_size = Size(min(16, self._widest_stem), cells, 16)
        self.train_size = self.official_size

    @property
    def _widest_stem(self) -> int:
        fixed = (self._attributes.parts["stem"]["channels"],)
        return max(self._searched.get(Leaf("stem", "channels"), fixed))

    def active_decisions(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N, D]`: a kernel counts where the block has one, an expansion in an mbconv."""
        archs = np.asarray(archs)
        active = np.ones(archs.shape, bool)
        for d, leaf in enumerate(self._searched):
            if leaf.attribute == "kernel" and leaf.part != "stem":
                active[:, d] = ~np.isin(self._values(archs, leaf.part, "block"), ["identity"])
            if leaf.attribute == "expansion":
                active[:, d] = np.isin(self._values(archs, leaf.part, "block"), ["mbconv"])
        return active

    def _values(self, archs: np.ndarray, part: str, attribute: str) -> np.ndarray:
        leaf = Leaf(part, attribute)
        if leaf not in self._searched:
            return np.full(len(archs), self._attributes.parts[part][attribute])
        column = list(self._searched).index(leaf)
        return np.array(self._searched[leaf])[archs[:, column]]

    def rows(self, archs: np.ndarray) -> np.ndarray:
        """A column a decision; a repetition has one for each block after the first, 0 or 1."""
        archs = self.pruned(archs)
        columns = []
        for d, (leaf, values) in enumerate(self._searched.items()):
            if leaf.attribute == "repeat":
                repeats = np.array(values)[archs[:, d]]
                columns += [(repeats >= n) for n in range(2, max(values) + 1)]
            else:
                columns.append(archs[:, d])
        return np.stack(columns, axis=1).astype(np.int32)

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The network with all branches; channels scale with the stem's."""
        fixed_cells(self.name, size, self.official_size.cells)
        columns, searched = 0, {}
        for leaf, values in self._searched.items():
            searched[leaf] = (columns, values)
            columns += max(values) - 1 if leaf.attribute == "repeat" else 1
        scale = size.channels / self.official_size.channels
        module = ConvNet(self._attributes, searched, scale, classes, image_channels)
        return Network(module, size.resolution, image_channels, classes)
