"""AutoFormer's networks written out from the paper, each alone with its own first channels' weights."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.search_spaces.autoformer import (
    DEPTH,
    DEPTHS,
    EMBEDDING,
    EMBEDDINGS,
    FIRST_HEADS,
    FIRST_RATIO,
    HEADS,
    LAYERS,
    RATIOS,
)


def alone(network, arch, variables):
    """The weights of the architecture's own network, first channels of the widest one's."""
    module = network.bound_module(variables)
    scale = module.tokens.modules[1].kernel[...].shape[1] / EMBEDDINGS[-1]
    e = round(EMBEDDINGS[arch[EMBEDDING]] * scale)
    patches, token, position = module.tokens.modules[1:]
    norm, _, classifier = module.head.modules
    layers = []
    first = len(module.layers) - 2
    for i, layer in zip([*range(first), LAYERS - 2, LAYERS - 1], module.layers, strict=True):
        if i >= DEPTHS[arch[DEPTH]]:
            continue
        layer = layer if i < DEPTHS[0] else layer.branches[1]
        q = round(64 * scale) * HEADS[arch[FIRST_HEADS + i]]
        u = int(RATIOS[arch[FIRST_RATIO + i]] * e)
        one, qkv, attend, out = layer.attend.modules
        two, up, _, down = layer.mlp.modules
        layers.append(
            {
                "norm1": (one.scale[...][:e], one.bias[...][:e]),
                "qkv": qkv.kernel[...][:e, :, :q],
                "biases": [b[...][:q] for b in (qkv.query_bias, qkv.key_bias, qkv.value_bias)],
                "keys": attend.key_positions[...],
                "values": attend.value_positions[...],
                "out": (out.kernel[...][:q, :e], out.bias[...][:e]),
                "norm2": (two.scale[...][:e], two.bias[...][:e]),
                "up": (up.kernel[...][:e, :u], up.bias[...][:u]),
                "down": (down.kernel[...][:u, :e], down.bias[...][:e]),
            }
        )
    return {
        "patches": (patches.kernel[...][:, :e], patches.bias[...][:e]),
        "token": token.token[...][:e],
        "position": position.embedding[...][:, :e],
        "layers": layers,
        "norm": (norm.scale[...][:e], norm.bias[...][:e]),
        "classifier": (classifier.kernel[...][:e], classifier.bias[...]),
    }


def normalised(x, weights):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * weights[0][None, None] + weights[1][None, None]


def attended(x, layer, reach=14):
    d, grid = layer["keys"].shape[-1], round((x.shape[1] - 1) ** 0.5)
    q, k, v = (x @ layer["qkv"][:, n] + bias[None, None] for n, bias in enumerate(layer["biases"]))
    y, column = np.divmod(np.arange(grid**2), grid)
    index = np.zeros((2, 1 + grid**2, 1 + grid**2), int)
    index[0, 1:, 1:] = y[None] - y[:, None] + reach + 1
    index[1, 1:, 1:] = column[None] - column[:, None] + reach + 1
    keys, values = (t[0][index[0]] + t[1][index[1]] for t in (layer["keys"], layer["values"]))
    heads = []
    for h in range(q.shape[-1] // d):
        part = slice(h * d, (h + 1) * d)
        pairs = k[:, None, :, part] + keys[None]
        weights = jax.nn.softmax((q[:, :, None, part] * pairs).sum(-1) / d**0.5)
        heads.append((weights[..., None] * (v[:, None, :, part] + values[None])).sum(2))
    return jnp.concatenate(heads, -1) @ layer["out"][0] + layer["out"][1][None, None]


def transformer(weights, images):
    """Logits, written from the paper."""
    side = round((weights["patches"][0].shape[0] / images.shape[-1]) ** 0.5)
    places = [slice(start, start + side) for start in range(0, images.shape[1], side)]
    squares = [images[:, rows, columns] for rows in places for columns in places]
    x = jnp.stack([square.reshape(len(images), -1) for square in squares], 1)
    x = x @ weights["patches"][0] + weights["patches"][1][None, None]
    token = jnp.tile(weights["token"][None, None], (len(images), 1, 1))
    x = jnp.concatenate([token, x], 1) + weights["position"][None]
    for layer in weights["layers"]:
        x = x + attended(normalised(x, layer["norm1"]), layer)
        y = normalised(x, layer["norm2"]) @ layer["up"][0] + layer["up"][1][None, None]
        y = y * jax.scipy.stats.norm.cdf(y)
        x = x + y @ layer["down"][0] + layer["down"][1][None, None]
    x = normalised(x, weights["norm"])[:, 1:].mean(1)
    return x @ weights["classifier"][0] + weights["classifier"][1][None]
