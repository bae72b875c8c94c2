"""AutoFormer's tiny space (Chen et al., arXiv:2107.00651): vision transformers layer by layer."""

import numpy as np
from flax import nnx

from jaxnas.errors import InputError
from jaxnas.graph import CellGraph
from jaxnas.network import Network
from jaxnas.nn import (
    GELU,
    Choice,
    ClassToken,
    Context,
    Identity,
    LayerNorm,
    Linear,
    Patches,
    PositionEmbedding,
    QueryKeyValue,
    SelfAttention,
    Sequential,
    TokenMean,
    Width,
)
from jaxnas.spaces import Decision, SearchSpace, Size, chain

EMBEDDINGS = (192, 216, 240)
DEPTHS = (12, 13, 14)
HEADS = (3, 4)
RATIOS = (3.5, 4.0)
HEAD_CHANNELS = 64
LAYERS = DEPTHS[-1]
OPTIONAL = len(DEPTHS) - 1
"""The last layers, which may be absent."""
EMBEDDING, DEPTH, FIRST_HEADS, FIRST_RATIO = 0, 1, 2, 2 + LAYERS
"""Where the decisions of each kind begin."""


class AutoFormer(SearchSpace):
    """1.06 x 10^9 vision transformers: embedding, depth, and of each layer heads and MLP ratio.

    As in the authors' code: square patches and a class token, absolute and relative (Shaw et al.,
    arXiv:1803.02155) positions, pre-norm layers of self-attention and an MLP with GELU, heads of 64
    channels however many there are, and a classifier on the mean of the patches' last layer norm.

    All 30 decisions are traced (the embedding, the queries' channels and the MLPs' units as masks, the
    last two layers as choice points): one program serves the whole space. `Size.channels` is the
    largest embedding, 240 officially, and everything else is in proportion; `Size.cells` the largest
    depth: of fewer than 14 layers, the first ones and the optional last two are built, so that depths
    12, 13, 14 become n - 2, n - 1, n, and what is decided about the others has no effect. Patches
    have 16 pixels a side at 224 pixels; smaller images have smaller ones (`patch_side`).

    There are no ReLUs, so that `naswot` and its like do not apply; `dss` reads self-attention.
    Candidates are trained with six layers by default: deeper ones hardly begin to learn in a few
    epochs of plain SGD, for which a learning rate of 0.05 suits them better than the usual 0.1. The
    searched AutoFormer-T of the paper has MLP ratios of 3 too, which neither its search space nor this
    one has.
    """

    name = "autoformer"
    paper = "Chen et al., AutoFormer, arXiv:2107.00651"
    decisions = (
        Decision("embedding", tuple(map(str, EMBEDDINGS))),
        Decision("depth", tuple(map(str, DEPTHS))),
        *(Decision(f"heads{i}", tuple(map(str, HEADS))) for i in range(1, LAYERS + 1)),
        *(Decision(f"ratio{i}", tuple(f"{r:g}" for r in RATIOS)) for i in range(1, LAYERS + 1)),
    )
    official_size = Size(channels=240, cells=(LAYERS,), resolution=224)
    proxy_size = Size(channels=30, cells=(LAYERS,), resolution=8)
    train_size = Size(channels=60, cells=(6,), resolution=32)
    # DSS was made for this space (its paper ranks AutoFormer's networks) and needs no labels; the number
    # of parameters is what every proxy has to add to.
    default_proxies = ("dss", "params")
    default_sample = 1000

    @property
    def size(self) -> int:
        """The number of architectures, absent layers apart."""
        return len(EMBEDDINGS) * sum((len(HEADS) * len(RATIOS)) ** depth for depth in DEPTHS)

    def to_string(self, arch: np.ndarray) -> str:
        """`(12, 4, 3.5, ..., 3, 4, ..., 192)`: depth, ratios, heads, embedding: the authors' tuple."""
        arch = np.asarray(arch)
        depth = DEPTHS[arch[DEPTH]]
        ratios = [f"{RATIOS[r]:g}" for r in arch[FIRST_RATIO:][:depth]]
        heads = [str(HEADS[h]) for h in arch[FIRST_HEADS:][:depth]]
        return f"({', '.join([str(depth), *ratios, *heads, str(EMBEDDINGS[arch[EMBEDDING]])])})"

    def from_string(self, text: str) -> np.ndarray:
        """The row of a tuple in the authors' notation."""
        parts = [
            part.strip() for part in text.strip().removeprefix("(").removesuffix(")").split(",")
        ]
        depth = DEPTHS[_place(text, "depth", parts[0], DEPTHS)]
        if len(parts) != 2 + 2 * depth:
            raise InputError(
                f"Architecture {text!r} has {len(parts)} numbers, expected {2 + 2 * depth}: the depth, "
                f"{depth} MLP ratios, {depth} numbers of heads and the embedding."
            )
        arch = np.zeros(len(self.decisions), np.int32)
        arch[DEPTH] = DEPTHS.index(depth)
        arch[EMBEDDING] = _place(text, "embedding", parts[-1], EMBEDDINGS)
        for i in range(depth):
            arch[FIRST_RATIO + i] = _place(text, f"ratio {i + 1}", parts[1 + i], RATIOS)
            arch[FIRST_HEADS + i] = _place(text, f"heads {i + 1}", parts[1 + depth + i], HEADS)
        return arch

    def active_decisions(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N, 30]`: all but those of absent layers."""
        archs = np.asarray(archs)
        there = np.arange(LAYERS) < np.asarray(DEPTHS)[archs[:, DEPTH], None]
        always = np.ones((len(archs), 2), bool)
        return np.concatenate([always, there, there], axis=1)

    def rows(self, archs: np.ndarray) -> np.ndarray:
        """`int32[N, 31]`: embedding; are the last two layers there; 14 heads; 14 units of MLPs.

        The units are chosen by embedding and ratio together.
        """
        archs = self.pruned(archs)
        there = archs[:, [DEPTH]] > np.arange(OPTIONAL)
        units = archs[:, [EMBEDDING]] * len(RATIOS) + archs[:, FIRST_RATIO:]
        parts = [archs[:, [EMBEDDING]], there, archs[:, FIRST_HEADS:FIRST_RATIO], units]
        return np.concatenate(parts, axis=1).astype(np.int32)

    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The super-network; `size.channels` is the largest embedding, `size.cells` the depth."""
        if len(size.cells) != 1 or not OPTIONAL < size.cells[0] <= LAYERS:
            raise InputError(
                f"autoformer's cells are one number of layers from {OPTIONAL + 1} to {LAYERS}, "
                f"not {','.join(map(str, size.cells))}."
            )
        module = VisionTransformer(size, classes, image_channels)
        return Network(module, size.resolution, image_channels, classes)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """The layers."""
        arch = np.asarray(arch)
        layers = [
            f"{HEADS[h]} heads, ratio {RATIOS[r]:g}"
            for h, r in zip(arch[FIRST_HEADS:FIRST_RATIO], arch[FIRST_RATIO:], strict=True)
        ]
        layers = layers[: DEPTHS[arch[DEPTH]]]
        patches = f"patches to {EMBEDDINGS[arch[EMBEDDING]]} channels"
        return (("layers", chain([patches, *layers, "mean, linear"])),)


def _place(text: str, what: str, word: str, values: tuple[float, ...]) -> int:
    known = {f"{value:g}": i for i, value in enumerate(values)}
    known |= {f"{value:.1f}": i for i, value in enumerate(values)}
    if word not in known:
        raise InputError(
            f"In architecture {text!r}: {what} is {word!r}, expected one of "
            f"{', '.join(f'{value:g}' for value in values)}."
        )
    return known[word]


def patch_side(resolution: int) -> int:
    """The side of a patch: a power of two, 2 to 16, that makes 4 x 4 to 15 x 15 of them below 256."""
    wanted = min(16, max(2, resolution // 8))
    return 1 << (wanted.bit_length() - 1)


class TransformerLayer(nnx.Module):
    """`y = x + attend(norm(x))`, then `y + mlp(norm(y))`."""

    def __init__(
        self, embedding: int | Width, heads: int | Width, units: int | Width, head: int, grid: int
    ) -> None:
        self.attend = Sequential(
            LayerNorm(embedding),
            QueryKeyValue(embedding, heads),
            SelfAttention(head, grid=grid),
            Linear(heads, embedding, role="attention"),
        )
        self.mlp = Sequential(
            LayerNorm(embedding), Linear(embedding, units), GELU(), Linear(units, embedding)
        )

    def __call__(self, x, ctx: Context):
        """`[B, T, C] -> [B, T, C]`."""
        x = ctx.add([x, self.attend(x, ctx)])
        x = ctx.add([x, self.mlp(x, ctx)])
        return x


class VisionTransformer(nnx.Module):
    """Patches, class token, positions, layers, layer norm, mean, classifier."""

    def __init__(self, size: Size, classes: int, image_channels: int) -> None:
        scale = size.channels / EMBEDDINGS[-1]
        channels = tuple(max(1, round(e * scale)) for e in EMBEDDINGS)
        head = max(1, round(HEAD_CHANNELS * scale))
        units = tuple(int(c * ratio) for c in channels for ratio in RATIOS)
        embedding = Width(0, channels)
        side = patch_side(size.resolution)
        grid = -(-size.resolution // side)
        self.tokens = Sequential(
            Patches(side),
            Linear(side * side * image_channels, embedding),
            ClassToken(embedding),
            PositionEmbedding(1 + grid**2, embedding),
        )
        self.layers = nnx.List()
        for column in _layers(size.cells[0]):
            heads = Width(1 + OPTIONAL + column, tuple(h * head for h in HEADS))
            mlp = Width(1 + OPTIONAL + LAYERS + column, units)
            layer = TransformerLayer(embedding, heads, mlp, head, grid)
            optional = column - (LAYERS - OPTIONAL)
            if optional >= 0:
                layer = Choice(1 + optional, {"none": Identity(), "layer": layer})
            self.layers.append(layer)
        self.head = Sequential(LayerNorm(embedding), TokenMean(), Linear(embedding, classes))

    def __call__(self, x, ctx: Context):
        """Logits `[B, classes]`."""
        x = ctx.boundary(self.tokens(x, ctx))
        for layer in self.layers:
            x = ctx.boundary(layer(x, ctx), layer)
        return self.head(x, ctx)


def _layers(depth: int) -> list[int]:
    """Which of the 14 layers a network of a largest depth has: the first ones and the last two."""
    return [*range(depth - OPTIONAL), *range(LAYERS - OPTIONAL, LAYERS)]
