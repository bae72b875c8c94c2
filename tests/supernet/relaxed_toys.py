"""Small spaces and data that the tests of differentiable search share."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnas.module_space import ModuleSpace
from jaxnas.nn import Choice, GlobalAvgPool, Identity, Layer, Linear, Place, Zero
from jaxnas.spaces import Size
from jaxnas.training.population import TrainingData

CHANNELS = 8
BEST = [2, 1]
"""Of `Toy`: the square of the first half of the channels, the second half as it is."""


class Take(Layer):
    """Some of the channels."""

    def __init__(self, start, channels):
        self.start, self.outputs = start, channels

    def forward(self, x, ctx):
        return x[..., self.start : self.start + self.outputs]


class Square(Layer):
    """x^2 - 1."""

    def forward(self, x, ctx):
        return x**2 - 1


class Toy(nnx.Module):
    """Means over pixels of nothing, x or x^2 - 1, for each half of the channels; a linear classifier."""

    def __init__(self, size, classes, image_channels):
        half = image_channels // 2
        self.parts = nnx.List([Take(0, half), Take(half, half)])
        names = ("first", "second")
        self.choices = nnx.List(
            [Choice(n, {"none": Zero(), "skip": Identity(), "square": Square()}) for n in names]
        )
        places = [Place(start, half, image_channels) for start in (0, half)]
        self.places = nnx.List(places)
        self.pool, self.classifier = GlobalAvgPool(), Linear(image_channels, classes)

    def __call__(self, x, ctx):
        halves = [
            place(choice(part(x, ctx), ctx), ctx)
            for part, choice, place in zip(self.parts, self.choices, self.places, strict=True)
        ]
        return self.classifier(self.pool(ctx.add(halves), ctx), ctx)


def toy_space():
    size = Size(channels=CHANNELS, cells=(1,), resolution=4)
    return ModuleSpace(Toy, size=size)


def toy_network(space):
    return space.network(space.train_size, classes=4, image_channels=CHANNELS)


def toy_images(n, seed):
    """The class is how wide the first half of the channels is spread, and the second half's sign.

    So means of the first half say nothing, and squares of the second half, whose mean is 1, neither.
    """
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    x = rng.standard_normal((n, 4, 4, CHANNELS))
    half = CHANNELS // 2
    x[..., :half] *= np.where(y % 2, 1.4, 0.6)[:, None, None, None]
    sign = np.where(y // 2, 1, -1)[:, None, None, None]
    common = rng.standard_normal((n, 1, 1, half))
    x[..., half:] = 0.7 * sign + 0.6 * common + 0.39 * x[..., half:]
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


def toy_data():
    return TrainingData(*toy_images(256, 0), *toy_images(256, 1))
