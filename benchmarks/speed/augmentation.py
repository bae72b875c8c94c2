"""Images a second that augmentation policies are applied to.

    python -m jaxnas.benchmarks.speed.augmentation

Each repeat applies every policy once, in turn, to the same batch, so that a drift of the machine meets
all alike; what is printed is the median over repeats and its range, processor time an image (which
tells more where others use the machine), and compilation apart. `--threads 1` is one core's share, as
a candidate has it where candidates are dealt out over cores.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

from jaxnas.benchmarks.speed.common import machine

POLICIES = (
    "flip_crop",
    "randaugment:n=2:m=9",
    "trivialaugment",
    "autoaugment_cifar10",
    "randaugment:n=2:m=9:erasing=0.25",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=str(__doc__).splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument("--batch-size", type=int, default=256, help="images a call")
    parser.add_argument("--resolution", type=int, default=32, help="height and width")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, help="cores to run on; all by default")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    print(machine())
    print(args)
    images, programs = _programs(args)
    head = f"{'policy':<36} {'images/s':>9} [{'least':>7} to {'most':>7}]"
    print(f"\n{head} {'core-us/image':>14} {'compilation s':>14}")
    seconds = {name: [] for name in args.policies}
    for repeat in range(-2, args.repeats):
        for name, (program, policy, _) in programs.items():
            taken = _seconds(program, args.seed + repeat + 2, images, policy)
            if repeat >= 0:
                seconds[name].append(taken)
    for name, taken in seconds.items():
        rates = [args.batch_size / wall for wall, _ in taken]
        core = 1e6 * statistics.median(cpu for _, cpu in taken) / args.batch_size
        span = f"[{min(rates):7,.0f} to {max(rates):7,.0f}]"
        middle = statistics.median(rates)
        print(f"{name:<36} {middle:9,.0f} {span} {core:14.1f} {programs[name][2]:14.1f}")


def _programs(args: argparse.Namespace) -> tuple:
    import jax
    import numpy as np

    from jaxnas.augment import apply_policy, get_policy

    shape = (args.batch_size, args.resolution, args.resolution, args.channels)
    # Smooth, so that levels lie about as in photographs; the time hardly depends on them.
    noise = np.random.default_rng(args.seed).standard_normal(shape).cumsum(1).cumsum(2)
    noise = (noise - noise.min()) / np.ptp(noise)
    images = jax.device_put(np.round(255 * noise).astype(np.float32))
    programs = {}
    for name in args.policies:
        policy = jax.device_put(get_policy(name))
        start = time.perf_counter()
        program = jax.jit(apply_policy).lower(jax.random.key(0), images, policy).compile()
        programs[name] = program, policy, time.perf_counter() - start
    return images, programs


def _seconds(program: Callable, seed: int, images: object, policy: object) -> tuple:
    """Wall and processor time of one call."""
    import jax

    key = jax.block_until_ready(jax.random.key(seed))
    start, processor = time.perf_counter(), time.process_time()
    jax.block_until_ready(program(key, images, policy))
    return time.perf_counter() - start, time.process_time() - processor


if __name__ == "__main__":
    main()
