"""NAS-Bench-201's network written out in plain XLA operations, one architecture at a time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.search_spaces.nasbench201 import CONV1, CONV3, EDGES, NONE, SKIP


def by_name(tree: Any) -> dict[str, jax.Array]:
    """Leaves by path, as in `blocks.0.edges.3.branches.2.modules.1.kernel`."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    names = [[str(getattr(k, "key", getattr(k, "idx", ""))) for k in path] for path, _ in flat]
    return {
        ".".join(n for n in name if n): leaf for name, (_, leaf) in zip(names, flat, strict=True)
    }


class Reference:
    """One pass of `arch` over `images`.

    Gives `logits`, every ReLU's input in `pre_activations`, every convolution's output in
    `convolutions`, and by name the mean and unbiased variance of what each batch norm sees in
    `statistics`.
    """

    def __init__(self, weights: dict[str, jax.Array], arch: np.ndarray, images: jax.Array) -> None:
        self.weights, self.pre_activations, self.convolutions = weights, [], []
        self.statistics: dict[str, jax.Array] = {}
        x = self.batch_norm("stem.modules.1", self.conv("stem.modules.0", images))
        for i in range(1 + max(int(n.split(".")[1]) for n in weights if n.startswith("blocks"))):
            name = f"blocks.{i}"
            reduces = f"{name}.conv_a.modules.1.kernel" in weights
            x = self.reduction(name, x) if reduces else self.cell(name, arch, x)
        x = self.relu(self.batch_norm("last.modules.0", x)).mean((1, 2))
        bias = weights["classifier.bias"]
        self.logits = x @ weights["classifier.kernel"] + jnp.broadcast_to(bias, (len(x), len(bias)))

    def cell(self, name: str, arch: np.ndarray, x: jax.Array) -> jax.Array:
        nodes = [x, *(jnp.zeros_like(x) for _ in range(3))]
        for e, (a, b) in enumerate(EDGES):
            nodes[b] = nodes[b] + self.operation(f"{name}.edges.{e}", int(arch[e]), nodes[a])
        return nodes[3]

    def operation(self, name: str, op: int, x: jax.Array) -> jax.Array:
        if op == NONE:
            return jnp.zeros_like(x)
        if op == SKIP:
            return x
        if op in (CONV1, CONV3):
            return self.relu_conv_norm(f"{name}.branches.{op}", x)
        cells = lax.reduce_window(jnp.ones_like(x), 0.0, lax.add, (1, 3, 3, 1), (1,) * 4, "SAME")
        return lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1,) * 4, "SAME") / cells

    def reduction(self, name: str, x: jax.Array) -> jax.Array:
        inner = self.relu_conv_norm(f"{name}.conv_a", x, stride=2)
        window = ((1, 2, 2, 1), (1, 2, 2, 1), "SAME")
        cells = lax.reduce_window(jnp.ones_like(x), 0.0, lax.add, *window)
        pooled = lax.reduce_window(x, 0.0, lax.add, *window) / cells
        shortcut = self.conv(f"{name}.shortcut.modules.1", pooled)
        return shortcut + self.relu_conv_norm(f"{name}.conv_b", inner)

    def relu_conv_norm(self, name: str, x: jax.Array, stride: int = 1) -> jax.Array:
        x = self.conv(f"{name}.modules.1", self.relu(x), stride)
        return self.batch_norm(f"{name}.modules.2", x)

    def relu(self, x: jax.Array) -> jax.Array:
        self.pre_activations.append(x)
        return jnp.maximum(x, 0)

    def conv(self, name: str, x: jax.Array, stride: int = 1) -> jax.Array:
        w = self.weights[f"{name}.kernel"]
        pad = w.shape[0] // 2
        layout = ("NHWC", "HWIO", "NHWC")
        pads = [(pad, pad), (pad, pad)]
        y = lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=layout)
        self.convolutions.append(y)
        return y

    def batch_norm(self, name: str, x: jax.Array) -> jax.Array:
        mean, variance = x.mean((0, 1, 2), keepdims=True), x.var((0, 1, 2), keepdims=True)
        self.statistics[f"{name}.mean"] = mean.reshape(-1)
        self.statistics[f"{name}.variance"] = x.var((0, 1, 2), ddof=1)
        scale, bias = (self.weights[f"{name}.{k}"].reshape(1, 1, 1, -1) for k in ("scale", "bias"))
        return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias
