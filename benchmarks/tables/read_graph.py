"""NAS-Bench-Graph: the `.bench` pickles of PyPI's nas-bench-graph, one a data set.

A dict from the authors' hash of an architecture to `{"valid_perf", "perf", "latency", "para"}`. Has met
real files: all nine of version 1.4.0. The space is `jaxnas.benchmarks.tables.graph_space`, known by these
tables alone; of each class of isomorphic architectures they hold one.
"""

import importlib.util
from pathlib import Path
from typing import Any

from jaxnas.benchmarks.tables.columns import column_of
from jaxnas.benchmarks.tables.graph_space import LINKS, OPS, NASBenchGraph
from jaxnas.benchmarks.tables.raw import Collector, Options, Raw
from jaxnas.benchmarks.tables.sources import existing, wrong_layout
from jaxnas.benchmarks.tables.unpickle import unpickle
from jaxnas.errors import InputError

PACKAGE = "nas_bench_graph"


def read(source: str, options: Options) -> Raw:
    """Validation and test performance (a fraction; ROC-AUC for proteins), latency and parameters."""
    if options.space not in (None, NASBenchGraph.name):
        raise InputError(
            f"--space is {options.space}, expected {NASBenchGraph.name}, the space of NAS-Bench-Graph."
        )
    path = _path(source)
    files = sorted(path.glob("*.bench")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .bench file.")
    table = Collector()
    for file in files:
        found = unpickle(file.read_bytes(), str(file))
        if not isinstance(found, dict):
            raise wrong_layout(file, f"a {type(found).__name__}", "a dict by hash")
        for key, results in found.items():
            _add(table, file, key, results)
    said = "The mean over three seeds."
    return Raw(table.archs, table.columns(), NASBenchGraph.name, protocol=said)


def _path(source: str) -> Path:
    if source not in (PACKAGE, PACKAGE.replace("_", "-")):
        return existing(source, folders=True)
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            "The package nas-bench-graph is not installed; `pip install nas-bench-graph`, or name one "
            "of its .bench files."
        )
    return Path(next(iter(found.submodule_search_locations))) / "light"


def _add(table: Collector, file: Path, key: Any, results: Any) -> None:
    dataset = file.stem.rstrip("0123456789")
    try:
        arch = written(key)
        metric = "rocauc" if dataset == "proteins" else "acc"
        for split, name in (("valid", "valid_perf"), ("test", "perf")):
            table.add(arch, column_of(dataset, split, metric), float(results[name]))
        table.add(arch, column_of(dataset, None, "latency", unit="s"), float(results["latency"]))
        table.add(arch, column_of(dataset, None, "params", unit="M"), float(results["para"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        what = f"architecture {key!r} has {type(error).__name__} {error}"
        raise wrong_layout(file, what, "valid_perf, perf, latency, para") from error


def written(key: int) -> str:
    """The architecture of a hash: its decimal digits are the links' number and four operations."""
    links, ops = divmod(int(key), 10**4)
    chosen = [OPS[int(digit)] for digit in f"{ops:04d}"]
    return f"Arch({list(LINKS[links])}, {chosen})"
