"""Images a second that augmentation policies are applied to.

    python -m jaxnas.benchmarks.speed.augmentation

Each repeat applies every policy once, in turn, to the same batch, so that a drift of the machine meets
all alike; what is printed is the median over repeats and its range, processor time an image (which
tells more where others use the machine), and compilation apart. Batches are dealt out over the cores, one
each, as the candidates of a population are; `--devices 1` is one program on all cores, `--threads 1` one
core's share.
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
    parser.add_argument("--devices", type=int, help="as which they are used; one a core by default")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    if args.devices != 1:
        from jaxnas.backend import deal_out_over_cores

        deal_out_over_cores()
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
        count = args.batch_size * len(images)
        rates = [count / wall for wall, _ in taken]
        core = 1e6 * statistics.median(cpu for _, cpu in taken) / count
        span = f"[{min(rates):7,.0f} to {max(rates):7,.0f}]"
        middle = statistics.median(rates)
        print(f"{name:<36} {middle:9,.0f} {span} {core:14.1f} {programs[name][2]:14.1f}")


def _programs(args: argparse.Namespace) -> tuple:
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding
    from jax.sharding import PartitionSpec as P

    from jaxnas.augment import Policy, apply_policy, get_policy

    devices = jax.local_devices()[: args.devices]
    mesh = Mesh(np.array(devices), ("cores",))

    def one(key: jax.Array, images: jax.Array, policy: Policy) -> jax.Array:
        own = jax.random.fold_in(key, jax.lax.axis_index("cores"))
        return apply_policy(own, images[0], policy)[None]

    dealt = jax.shard_map(
        one, mesh=mesh, in_specs=(P(), P("cores"), P()), out_specs=P("cores"), check_vma=False
    )
    shape = (args.batch_size, args.resolution, args.resolution, args.channels)
    # Smooth, so that levels lie about as in photographs; the time hardly depends on them.
    noise = np.random.default_rng(args.seed).standard_normal(shape).cumsum(1).cumsum(2)
    noise = (noise - noise.min()) / np.ptp(noise)
    batches = np.repeat(np.round(255 * noise).astype(np.float32)[None], len(devices), axis=0)
    images = jax.device_put(batches, NamedSharding(mesh, P("cores")))
    programs = {}
    for name in args.policies:
        everywhere = NamedSharding(mesh, P())
        policy = jax.device_put(get_policy(name), everywhere)
        key = jax.device_put(jax.random.key(0), everywhere)
        start = time.perf_counter()
        program = jax.jit(dealt).lower(key, images, policy).compile()
        programs[name] = program, policy, time.perf_counter() - start
    return images, programs


def _seconds(program: Callable, seed: int, images: object, policy: object) -> tuple:
    """Wall and processor time of one call."""
    import jax

    (place,) = {leaf.sharding for leaf in jax.tree.leaves(policy)}
    key = jax.block_until_ready(jax.device_put(jax.random.key(seed), place))
    start, processor = time.perf_counter(), time.process_time()
    jax.block_until_ready(program(key, images, policy))
    return time.perf_counter() - start, time.process_time() - processor


if __name__ == "__main__":
    main()
