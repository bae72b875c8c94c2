"""The gradient of a convolution inside `lax.scan`: XLA's own against `jaxnas.nn.conv`'s.

    python -m jaxnas.benchmarks.speed.conv_gradient

Both are timed in turn in one process, so that a drift of the machine meets both; what is printed
is their ratio, by case, with its median and spread over the repeats, and compilation apart.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.nn.conv import conv2d


@dataclass(frozen=True)
class Case:
    channels: int
    kernel: int = 3
    stride: int = 1
    depthwise: bool = False

    @property
    def name(self) -> str:
        kind = "depthwise" if self.depthwise else "dense"
        size = f"{self.kernel}x{self.kernel}"
        return f"{kind} {size}, {self.channels} channels, stride {self.stride}"


def cases(channels: list[int]) -> Iterator[Case]:
    for c in channels:
        yield Case(c)
        yield Case(c, stride=2)
        yield Case(c, kernel=1)
        yield Case(c, depthwise=True)


def loop_of_gradients(case: Case, steps: int, custom: bool) -> Callable:
    """`steps` gradients of `sum(conv2d(x, w)^2)`, each waiting for the one before."""

    def loss(x: jax.Array, w: jax.Array) -> jax.Array:
        groups = case.channels if case.depthwise else 1
        y = conv2d(
            x,
            w,
            stride=case.stride,
            padding=case.kernel // 2,
            groups=groups,
            custom_gradient=custom,
        )
        return jnp.sum(jnp.square(y))

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        gradient = jax.grad(loss, (0, 1))(*carry)
        return jax.tree.map(lambda a, g: a - 1e-9 * g, carry, gradient), None

    return lambda x, w: lax.scan(step, (x, w), None, length=steps)[0]


def compiled(function: Callable, arguments: tuple) -> tuple[Callable, float]:
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - start


def seconds(program: Callable, arguments: tuple) -> float:
    start = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    return time.perf_counter() - start


def measure(case: Case, args: argparse.Namespace) -> str:
    """One line of the table."""
    key_x, key_w = jax.random.split(jax.random.key(args.seed))
    c, k = case.channels, case.kernel
    x = jax.random.normal(key_x, (args.batch_size, args.resolution, args.resolution, c))
    w = jax.random.normal(key_w, (k, k, 1 if case.depthwise else c, c)) / (k * k * c) ** 0.5
    programs, compilation = zip(
        *(
            compiled(loop_of_gradients(case, args.steps, custom), (x, w))
            for custom in (False, True)
        ),
        strict=True,
    )
    for program in programs:
        seconds(program, (x, w))
    times = [[seconds(p, (x, w)) / args.steps for p in programs] for _ in range(args.repeats)]
    ratios = [xla / ours for xla, ours in times]
    xla, ours = (1e3 * statistics.median(t) for t in zip(*times, strict=True))
    return (
        f"{case.name:<36} {xla:9.2f} {ours:9.2f} {statistics.median(ratios):8.1f} "
        f"[{min(ratios):.1f} to {max(ratios):.1f}]".ljust(84)
        + f"{compilation[0]:6.2f} {compilation[1]:6.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32, 64], help="in and out")
    parser.add_argument("--batch-size", type=int, default=32, help="images")
    parser.add_argument("--resolution", type=int, default=16, help="height and width of images")
    parser.add_argument("--steps", type=int, default=3, help="gradients in one scan")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each program")
    parser.add_argument("--seed", type=int, default=0, help="of images and kernels")
    args = parser.parse_args()
    print(
        f"jax {jax.__version__} on {jax.default_backend()}, {platform.machine()}, "
        f"{os.cpu_count()} cores; {args}"
    )
    print("One gradient inside lax.scan, milliseconds (median); compilation of the scan, seconds")
    header = f"{'convolution':<36} {'XLA ms':>9} {'ours ms':>9} {'XLA/ours':>8} [spread]"
    print(header.ljust(84) + f"{'XLA s':>6} {'ours s':>6}")
    for case in cases(args.channels):
        print(measure(case, args), flush=True)


if __name__ == "__main__":
    main()
