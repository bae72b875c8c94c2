"""Multilayer perceptrons, for tables and for flattened images."""

import numpy as np
from flax import nnx

from jaxnas.errors import InputError, nearest
from jaxnas.graph import CellGraph
from jaxnas.listed import ListedSpace
from jaxnas.network import Network
from jaxnas.nn import (
    GELU,
    BatchNorm,
    Choice,
    Context,
    Flatten,
    Identity,
    Linear,
    Place,
    ReLU,
    Width,
    Zero,
)
from jaxnas.spaces import Decision, Size, chain, fixed_cells

DEPTH = 4
WIDTHS = (8, 16, 32, 64, 96, 128, 192, 256)
"""Units of a layer at the official size; elsewhere in proportion, `Size.channels` being the whole."""
NORMS = ("none", "batch")
ACTIVATIONS = ("relu", "gelu")
SKIPS = ("plain", "residual")
WORDS = (NORMS, ACTIVATIONS, SKIPS)
NORM, ACTIVATION, SKIP = range(1 + DEPTH, 4 + DEPTH)
"""Columns of the decisions after the depth and the widths."""
NO_SKIP, IDENTITY, PROJECTION = range(3)


class MLP(ListedSpace):
    """37,408 networks of 1 to 4 fully connected layers, on pixels or the features of a table.

    Decisions: the depth; the width of each layer; and for the whole network batch norm or none, ReLU or
    GELU, and whether layers after the first add their input to their output before the activation, as
    it is where the two widths are equal, else through a linear layer without bias. These are what is
    searched in tables (Egele et al., AgEBO-Tabular; Gorishniy et al. compare such MLPs and ResNets).
    Widths of layers that are not there do not count, nor the skip connections of a single layer.

    Images are flattened; rows of a table come as images of one pixel, whose channels are the features.
    All decisions are traced, widths as masks on the widest network, depth, normalisation, activation
    and skip connections as choice points: one program serves the whole space. Scores that read ReLUs
    (`naswot`) say nothing of networks with GELU, which is why they are not the default here.
    """

    name = "mlp"
    paper = (
        "Egele et al., AgEBO-Tabular, arXiv:2010.16358; "
        "Gorishniy et al., Revisiting deep learning models for tabular data, arXiv:2106.11959"
    )
    decisions = (
        Decision("depth", tuple(str(d) for d in range(1, DEPTH + 1))),
        *(Decision(f"width{i}", tuple(map(str, WIDTHS))) for i in range(1, DEPTH + 1)),
        Decision("norm", NORMS),
        Decision("activation", ACTIVATIONS),
        Decision("skip", SKIPS),
    )
    official_size = Size(channels=256, cells=(DEPTH,), resolution=1)
    proxy_size = Size(channels=256, cells=(DEPTH,), resolution=8)
    train_size = Size(channels=256, cells=(DEPTH,), resolution=32)
    default_proxies = ("grad_norm", "params")
    default_sample = 10000

    def to_string(self, arch: np.ndarray) -> str:
        """`128-64-8 batch relu residual`: the widths at the official size, and the rest."""
        arch = self.pruned(np.asarray(arch)[None])[0]
        widths = "-".join(str(WIDTHS[w]) for w in arch[1 : 2 + arch[0]])
        words = (names[i] for names, i in zip(WORDS, arch[NORM:], strict=True))
        return " ".join((widths, *words))

    def from_string(self, text: str) -> np.ndarray:
        """The row of a string like `128-64-8 batch relu residual`."""
        parts = text.split()
        if len(parts) != 1 + len(WORDS):
            raise InputError(
                f"Architecture {text!r} has {len(parts)} words, expected widths, norm, activation and "
                "skip, as in '128-64-8 batch relu residual'."
            )
        widths = [_choice(text, "width", w, tuple(map(str, WIDTHS))) for w in parts[0].split("-")]
        if len(widths) > DEPTH:
            raise InputError(
                f"Architecture {text!r} has {len(widths)} widths, expected 1 to {DEPTH}."
            )
        rest = [
            _choice(text, decision.name, word, decision.choices)
            for decision, word in zip(self.decisions[NORM:], parts[1:], strict=True)
        ]
        absent = [0] * (DEPTH - len(widths))
        return np.array([len(widths) - 1, *widths, *absent, *rest], np.int32)

    def active_decisions(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N, 8]`: all but the widths of absent layers and the skips of a single one."""
        archs = np.asarray(archs)
        active = np.ones(archs.shape, bool)
        active[:, 1 : 1 + DEPTH] = np.arange(DEPTH) <= archs[:, :1]
        active[:, SKIP] = archs[:, 0] > 0
        return active

    def rows(self, archs: np.ndarray) -> np.ndarray:
        """`int32[N, 12]`: 4 widths; norm, activation; of layers 2 to 4: is it there, and its skip.

        A layer that is not there hands its input on, so that its width is that of the layer before.
        """
        archs = self.pruned(archs)
        last = np.minimum(np.arange(DEPTH), archs[:, :1])
        widths = np.take_along_axis(archs[:, 1 : 1 + DEPTH], last, axis=1)
        there = np.arange(1, DEPTH) <= archs[:, :1]
        kinds = np.where(widths[:, 1:] == widths[:, :-1], IDENTITY, PROJECTION)
        skips = np.where(there & (archs[:, SKIP:] == 1), kinds, NO_SKIP)
        rest = np.stack([there, skips], axis=2).reshape(len(archs), 2 * (DEPTH - 1))
        return np.concatenate([widths, archs[:, [NORM, ACTIVATION]], rest], axis=1).astype(np.int32)

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The super-network; `size.channels` is the largest width, 256 officially."""
        fixed_cells(self.name, size, (DEPTH,))
        features = size.resolution**2 * image_channels
        module = Perceptron(size.channels, features, classes)
        return Network(module, size.resolution, image_channels, classes)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """The layers, with skip connections."""
        arch = self.pruned(np.asarray(arch)[None])[0]
        layers = int(arch[0]) + 1
        after = (*(["batch norm"] if arch[NORM] else []), ACTIVATIONS[arch[ACTIVATION]])
        labels = [", ".join((f"linear {WIDTHS[w]}", *after)) for w in arch[1 : 1 + layers]]
        graph = chain([*labels, "linear"])
        skips = tuple((i, i + 1, "skip") for i in range(1, layers)) if arch[SKIP] else ()
        return (("layers", CellGraph(graph.nodes, (*graph.edges, *skips))),)


def _choice(text: str, what: str, word: str, choices: tuple[str, ...]) -> int:
    if word not in choices:
        near = nearest(word, choices) or list(choices)
        raise InputError(
            f"In architecture {text!r}: unknown {what} {word!r}; near: {', '.join(near)}."
        )
    return choices.index(word)


class Hidden(nnx.Module):
    """`activation(norm(W x + b) + skip(x))`; `skip` is a column of the rows, None for the first."""

    def __init__(self, inputs: int | Width, outputs: Width, skip: int | None) -> None:
        self.linear = Linear(inputs, outputs)
        self.norm = Choice(DEPTH, {"none": Identity(), "batch": BatchNorm(outputs)})
        self.skip = None if skip is None else Choice(skip, _skips(inputs, outputs))
        self.activation = Choice(DEPTH + 1, {"relu": ReLU(), "gelu": GELU()})

    def __call__(self, x, ctx: Context):
        """`[B, inputs] -> [B, outputs]`."""
        y = self.norm(self.linear(x, ctx), ctx)
        if self.skip is not None:
            y = self.skip(x, ctx, onto=y)
        y = self.activation(y, ctx)
        return y


def _skips(inputs: int | Width, outputs: Width) -> list:
    projection = Linear(inputs, outputs, bias=False)
    return [Zero(outputs), Place(0, outputs.largest, outputs), projection]


class Perceptron(nnx.Module):
    """Flattened images through the hidden layers to the logits."""

    def __init__(self, channels: int, features: int, classes: int) -> None:
        values = tuple(max(1, round(w * channels / WIDTHS[-1])) for w in WIDTHS)
        widths = [Width(i, values) for i in range(DEPTH)]
        self.flatten = Flatten()
        self.first = Hidden(features, widths[0], None)
        self.rest = nnx.List()
        for i in range(1, DEPTH):
            there = DEPTH + 2 * i
            # Widths are equal where a layer is not there: the placing only says whose width it is.
            absent = Place(0, max(values), widths[i])
            layer = Hidden(widths[i - 1], widths[i], there + 1)
            self.rest.append(Choice(there, {"none": absent, "layer": layer}))
        self.classifier = Linear(widths[-1], classes)

    def __call__(self, x, ctx: Context):
        """Logits `[B, classes]`."""
        x = ctx.boundary(self.first(self.flatten(x, ctx), ctx))
        for layer in self.rest:
            x = ctx.boundary(layer(x, ctx), layer)
        return self.classifier(x, ctx)
