"""Time, memory and quality of ranking all of NAS-Bench-201 by NASWOT and by the default.

    python -m jaxnas.benchmarks.speed.rank_space --data CIFAR.npz [--table ACCURACY.csv.gz]

Each run is a process of its own, so that cold means cold: first with an empty compilation cache, then
with the one the run before left. Seconds are wall time of `jaxnas.rank`, imports apart. With a table
(columns `index`, `c10_test`, `c100_test`) Spearman's correlation over all 15,625 is printed.
"""

import argparse
import json
import resource
import tempfile
import time

from jaxnas.benchmarks.speed.common import child, machine, spread


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", required=True, help="an .npz with x_train")
    parser.add_argument("--table", help="a CSV of accuracies")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--proxies", default="naswot", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(one(args)))
        return
    print(machine())
    runs = {proxies: _runs(args, proxies) for proxies in ("naswot", "naswot,params")}
    for proxies, (cold, warm) in runs.items():
        print(f"\n{proxies}, all 15,625")
        print(f"  cold  s: {spread([r['seconds'] for r in cold])}")
        print(f"  warm  s: {spread([r['seconds'] for r in warm])}")
        print(f"  peak MB: {spread([r['peak_mb'] for r in cold + warm])}")
        for target in cold[0]["spearman"]:
            values = [r["spearman"][target] for r in cold]
            listed = ", ".join(f"{v:.4f}" for v in values)
            print(f"  Spearman with {target}: {listed}; mean {sum(values) / len(values):.4f}")


def _runs(args: argparse.Namespace, proxies: str) -> tuple[list[dict], list[dict]]:
    cold, warm = [], []
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as cache:
            for runs in (cold, warm):
                arguments = ["--data", args.data, "--one", str(seed), "--proxies", proxies]
                arguments += ["--table", args.table] if args.table else []
                module = "jaxnas.benchmarks.speed.rank_space"
                runs.append(child(module, arguments, JAX_COMPILATION_CACHE_DIR=cache))
    return cold, warm


def one(args: argparse.Namespace) -> dict:
    import numpy as np
    import pandas as pd

    from jaxnas import backend
    from jaxnas.ranking import rank
    from jaxnas.search_spaces import nasbench201  # noqa: F401  (imports are not timed)

    images = np.load(args.data)["x_train"]
    backend.enable_compilation_cache()
    start = time.perf_counter()
    ranking = rank("nasbench201", images, proxies=args.proxies.split(","), seed=args.one)
    seconds = time.perf_counter() - start
    found = {}
    if args.table:
        table = pd.read_csv(args.table).set_index("index").loc[ranking["index"]]
        for target in ("c10_test", "c100_test"):
            # Ranks with ties averaged, as Spearman wants them.
            ours = ranking["score"].rank()
            found[target] = float(np.corrcoef(ours, table[target].rank())[0, 1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak, "spearman": found}


if __name__ == "__main__":
    main()
