"""What an architecture may cost at most: parameters, multiply-adds, milliseconds of one image."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxnas.config import FinishConfig, TrainConfig
from jaxnas.errors import InputError
from jaxnas.latency import milliseconds
from jaxnas.stages.job import Job

UNITS = {"params": "parameters", "macs": "multiply-adds", "latency": "ms"}


def limits(job: Job) -> dict[str, float]:
    """The limits that are set, by cost."""
    asked = {name: getattr(job.config.limits, f"max_{name}") for name in UNITS}
    return {name: float(value) for name, value in asked.items() if value is not None}


def check_limits(job: Job) -> None:
    """Refuse, before any stage has run, a table of latencies that cannot be read."""
    config = job.config.limits
    if config.latency_table is None:
        return
    if config.max_latency is None:
        raise InputError("limits.latency_table is of use only beside limits.max_latency.")
    _read(config.latency_table, job.space.name)


def costs(job: Job, archs: np.ndarray) -> np.ndarray:
    """Parameters, multiply-adds and, where it is limited, latency of `archs`, `float64[N, C]`.

    All are those of the network that the run ends with: at the size of stage finish, if there is one.
    """
    counts = job.count(_section(job), archs)
    found = [counts.params, counts.macs]
    if job.config.limits.max_latency is not None:
        found.append(_latency(job, archs))
    return np.stack(found, axis=1).astype(np.float64)


def known_costs(job: Job, archs: np.ndarray) -> list[dict[str, float]]:
    """The same by name for each of `archs`, without latencies that were not timed nor in the table."""
    counts = job.count(_section(job), archs)
    config = job.config.limits
    timed = {} if config.max_latency is None else _known_latency(job)
    found: list[dict[str, float]] = []
    for i, arch in enumerate(job.space.pruned(archs)):
        name = job.space.to_string(arch)
        latency = {"latency": timed[name]} if name in timed else {}
        found.append({"params": float(counts.params[i]), "macs": float(counts.macs[i]), **latency})
    return found


def allowed(job: Job, archs: np.ndarray) -> np.ndarray:
    """`bool[N]`: who keeps all limits.

    Raises:
        InputError: nobody, with how near the nearest comes.
    """
    asked = limits(job)
    if not asked or not len(archs):
        return np.ones(len(archs), bool)
    table = _limited(job, archs)
    over = (table / np.array(list(asked.values()))).max(axis=1)
    if (over > 1).all():
        nearest = int(over.argmin())
        what = zip(asked.items(), table[nearest], strict=True)
        said = " and ".join(
            f"{_write(cost)} {UNITS[name]} (at most {_write(limit)})"
            for (name, limit), cost in what
        )
        raise InputError(
            f"None of {len(archs):,} architectures keeps the limits; the nearest, "
            f"{job.space.to_string(archs[nearest])}, has {said}."
        )
    return over <= 1


def _write(cost: float) -> str:
    return f"{cost:,.0f}" if cost == round(cost) else f"{cost:,.3f}"


def keeping(job: Job, archs: np.ndarray) -> np.ndarray:
    """`bool[N]`: who keeps all limits, which may be nobody."""
    asked = np.array(list(limits(job).values()))
    return (_limited(job, archs) <= asked).all(axis=1)


def _limited(job: Job, archs: np.ndarray) -> np.ndarray:
    """The costs that are limited, `float64[N, C]`."""
    return costs(job, archs)[:, [list(UNITS).index(name) for name in limits(job)]]


def _section(job: Job) -> TrainConfig | FinishConfig:
    return job.config.finish if "finish" in job.config.active_stages else job.config.train


def _known_latency(job: Job) -> dict[str, float]:
    """Milliseconds by architecture: the table that is named, else what was timed so far."""
    table = job.config.limits.latency_table
    if table is not None:
        return _read(table, job.space.name)
    return {e["arch"]: e["ms"] for e in job.run.of_stage("limits", "latency")}


def _latency(job: Job, archs: np.ndarray) -> np.ndarray:
    """Milliseconds of one image: from the table that is named, else timed here."""
    table, known = job.config.limits.latency_table, _known_latency(job)
    names = [job.space.to_string(arch) for arch in job.space.pruned(archs)]
    missing = np.array([i for i, name in enumerate(names) if name not in known], int)
    if len(missing) and table is not None:
        raise InputError(
            f"{table} has no latency of {len(missing):,} of {len(names):,} architectures, the first "
            f"{names[missing[0]]}."
        )
    if len(missing):
        known |= _timed(job, archs[missing], [names[i] for i in missing])
    return np.array([known[name] for name in names])


def _timed(job: Job, archs: np.ndarray, names: list[str]) -> dict[str, float]:
    """Milliseconds on this device, each journalled once it is known."""
    section, kinds = _section(job), job.space.shape_classes(archs)
    found: dict[str, float] = {}
    with job.screen.bar("latency", len(archs)) as bar:
        for kind in np.unique(kinds).tolist():
            network = job.network(section, kind)
            mine = np.flatnonzero(kinds == kind)
            variables = network.init(jax.random.key(0))
            side, channels = network.resolution, network.image_channels
            image = jnp.zeros((1, side, side, channels))
            rows = job.space.rows(archs[mine])
            for i, ms in zip(mine, milliseconds(network, variables, rows, image), strict=True):
                found[names[i]] = ms
                said = {"stage": "limits", "unit": "latency", "arch": names[i], "ms": ms}
                job.run.record(**said, seconds=job.watch.lap())
                bar.advance(1, f"{ms:.2f} ms")
    return found


def _read(path: str, space: str) -> dict[str, float]:
    """The table `arch`, `latency_ms`."""
    name = Path(path)
    try:
        frame = pd.read_parquet(name) if name.suffix == ".parquet" else pd.read_csv(name)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"Cannot read the latencies {path}: {why}.") from error
    lacking = [c for c in ("arch", "latency_ms") if c not in frame.columns]
    if lacking:
        raise InputError(
            f"{path} has columns {', '.join(map(str, frame.columns))}; expected arch ({space}'s "
            "notation) and latency_ms."
        )
    archs = frame["arch"].astype(str)
    latency = np.asarray(pd.to_numeric(frame["latency_ms"], errors="coerce"), np.float64)
    wrong = np.flatnonzero(~(np.isfinite(latency) & (latency > 0)))
    if len(wrong):
        raise InputError(
            f"{path}: latency_ms of {archs.iloc[wrong[0]]} is {frame['latency_ms'].iloc[wrong[0]]}, "
            "expected a number above 0."
        )
    return dict(zip(archs, latency.tolist(), strict=True))
