"""Hyper-parameters of a model of one's own, tuned as a population: logistic regression on digits.

The model is three functions of JAX, and knows nothing of jaxnas. All members are trained in one compiled
program, and copying another's weights is a gather along its first axis. Run it:

    python examples/tune_any_model.py
    python examples/tune_any_model.py --tuners pbt,pb2,asha --members 8 --units 20
"""

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from jaxnas.hpo import FunctionTrials, Space, choice, get_tuner, log_uniform, only_if, run, uniform

CLASSES, PIXELS, BATCH = 10, 64, 32

SPACE = Space.of(
    {
        "learning_rate": log_uniform(1e-3, 10.0),
        "weight_decay": log_uniform(1e-6, 0.1),
        "noise": uniform(0.0, 1.0),
        "averaged": choice(False, True),
        "decay": uniform(0.8, 0.999),
    },
    [only_if("decay", "averaged", True)],
    inactive={"decay": 0.0},
)
"""`decay` of the moving average of the gradients means something only where there is one."""


@cache
def data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Batches to train on, `float32[n, 32, 64]` and `int32[n, 32]`; and images to be judged by."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = np.asarray(pixels, np.float32)[order] / 16
    y = np.asarray(labels, np.int32)[order]
    n = 1280 // BATCH
    batches = x[:1280].reshape(n, BATCH, PIXELS), y[:1280].reshape(n, BATCH)
    return batches, (x[1280:], y[1280:])


def init(key: jax.Array) -> dict[str, Any]:
    """Weights, the gradients' moving average, and a key for the noise."""
    weights = {
        "w": 0.01 * jax.random.normal(key, (PIXELS, CLASSES)),
        "b": jnp.zeros(CLASSES),
    }
    average = jax.tree.map(jnp.zeros_like, weights)
    return {"weights": weights, "average": average, "key": jax.random.key_data(key)}


def logits(weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """`float32[n, 10]` of images `[n, 64]`."""
    return x @ weights["w"] + weights["b"][None]


def step(
    params: dict[str, Any], hyper: dict[str, jax.Array], batch: tuple[jax.Array, jax.Array]
) -> dict[str, Any]:
    """One step of gradient descent on noisy images, by one member's hyper-parameters."""
    x, y = batch
    key, own = jax.random.split(jax.random.wrap_key_data(params["key"]))
    x = x + hyper["noise"] * jax.random.normal(own, x.shape)

    def loss(weights: dict[str, jax.Array]) -> jax.Array:
        log_p = jax.nn.log_softmax(logits(weights, x))
        decay = hyper["weight_decay"] * jnp.square(weights["w"]).sum()
        return decay - jnp.take_along_axis(log_p, y[:, None], axis=1).mean()

    gradients = jax.grad(loss)(params["weights"])
    average = jax.tree.map(
        lambda a, g: hyper["decay"] * a + (1 - hyper["decay"]) * g, params["average"], gradients
    )
    weights = jax.tree.map(lambda w, a: w - hyper["learning_rate"] * a, params["weights"], average)
    return {"weights": weights, "average": average, "key": jax.random.key_data(key)}


def evaluate(params: dict[str, Any]) -> jax.Array:
    """Accuracy on the images that are not trained on."""
    x, y = data()[1]
    return (logits(params["weights"], jnp.asarray(x)).argmax(axis=1) == y).mean()


def main(argv: Sequence[str] | None = None) -> int:
    """Tune by each tuner with the same budget, and print what it found; returns the exit code, 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tuners", default="random,asha,pbt,pb2", help="names, by commas")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--units", type=int, default=20, help="passes over the data, of a training")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    trials = FunctionTrials(init, step, evaluate, data()[0])
    budget = given.members * given.units
    print(f"{budget} passes over the data for each tuner, {given.members} members")
    for name in given.tuners.split(","):
        result = run(
            get_tuner(name),
            trials,
            SPACE,
            n=given.members,
            units=given.units,
            budget=budget,
            seed=given.seed,
        )
        line = result.schedule.lineage()
        changes = sum(int((a.hyper != b.hyper).any()) for a, b in pairwise(line))
        best = ", ".join(
            f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.best.items()
        )
        print(f"{name}: accuracy {result.fitness:.4f} after {changes} changes; in the end {best}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
