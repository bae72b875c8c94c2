"""A search from start to end: stages one after another over one run directory."""

import contextlib
import hashlib
import itertools
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from jaxnas import __version__, backend
from jaxnas.config import SearchConfig, build, flatten, read_yaml, to_dict
from jaxnas.console import Screen, amount
from jaxnas.cost import cost_sentence
from jaxnas.data.dataset import Dataset
from jaxnas.data.load import from_arrays, load
from jaxnas.errors import InputError
from jaxnas.events import event_writer
from jaxnas.export.write import MODEL, sha256
from jaxnas.outcome import conclude, print_outcome
from jaxnas.proxies import get_proxies
from jaxnas.proxies.presets import resolve
from jaxnas.report import TrainedCandidate
from jaxnas.runs import Run, check_free, writing
from jaxnas.search_spaces import get_space
from jaxnas.spaces import SearchSpace
from jaxnas.stages import STAGES
from jaxnas.stages.begin import begin
from jaxnas.stages.job import Job
from jaxnas.stages.limits import check_limits
from jaxnas.timing import CompileClock, Stopwatch

_clock: CompileClock | None = None


@dataclass(frozen=True)
class Result:
    """What a search found; `values` is the contents of result.json.

    `ranking` has one row an architecture, best first (`jaxnas.rank`); `directory` holds the files;
    `trained` is what was trained, and how it learned.
    """

    values: Mapping[str, Any]
    ranking: pd.DataFrame
    directory: Path
    trained: tuple[TrainedCandidate, ...] = ()

    @property
    def arch(self) -> str:
        """The winner, in its space's notation."""
        return self.values["arch"]

    @property
    def test_accuracy(self) -> float | None:
        """The winner's accuracy on the test images; None unless it was trained to the end."""
        return self.values["test_accuracy"]

    @property
    def val_accuracy(self) -> float | None:
        """The same on the validation images, after the last stage that trained it."""
        return self.values["val_accuracy"]

    @property
    def exported(self) -> Path | None:
        """Where the finished network was exported to; None: it was not."""
        place = self.values.get("export")
        return None if place is None else Path(place)


def run_search(
    values: Mapping[str, Any],
    *,
    data: Any = None,
    space: SearchSpace | None = None,
    quiet: bool = False,
) -> Result:
    """Run the search that `values` (keys of the configuration, in full) describe.

    `data` and `space` are objects in place of what the configuration names.
    """
    values = _located(values, PLACES if data is not None else (*PLACES, *DATA_PLACES))
    config = _absolute(build(values))
    if config.resume:
        config = _resumed(config, values)
    elif config.out is not None:
        check_free(Path(config.out))
    named = space is None
    space = space or get_space(config.space)
    get_proxies(resolve(config.rank.proxies or space.default_proxies, config.rank.combine).proxies)
    screen = Screen(quiet=quiet)
    loaded = dataset(data, config)
    backend.deal_out_over_cores()
    backend.enable_compilation_cache()
    if sentence := backend.unused_accelerator():
        screen.say(sentence)
    watch = Stopwatch(_started_clock())
    job = Job(config, space, loaded, _NO_RUN, screen, watch, notes=[*loaded.notes], named=named)
    begin(job)
    job.check()
    check_limits(job)
    settings = to_dict(replace(config, out=None, resume=False))
    out = Path(config.out or _new_directory(space.name, loaded.name))
    writer = event_writer(out) if config.tensorboard else None
    job.run = Run.open(out) if config.resume else Run.create(out, settings)
    events = None if writer is None else writer(job.run.entries)
    if events is not None:
        job.run.listeners.append(events.hear)
    try:
        _same_inputs(job)
        screen.say(f"{space.name}: {amount(space.size)} architectures; {_describe(loaded)}")
        screen.say(f"Run directory {out}; device {job.device}")
        screen.say(cost_sentence(job))
        for name in config.active_stages:
            STAGES[name](job)
        result = conclude(job, _about(job))
        print_outcome(job, result)
    finally:
        job.run.close()
        if events is not None:
            events.close()
    assert job.ranking is not None
    return Result(result, job.ranking, out, tuple(job.trained))


_NO_RUN: Any = None


def _started_clock() -> CompileClock:
    global _clock
    if _clock is None:
        _clock = CompileClock().start()
    return _clock


def _new_directory(space: str, data: str) -> Path:
    """An empty directory under runs/ that no other process takes."""
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(data).stem)
    name = f"{space}-{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in itertools.count(1):
        path = Path("runs", name if number == 1 else f"{name}-{number}")
        with writing(path):
            path.parent.mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    raise AssertionError("unreachable")


PLACES = ("space", "limits.latency_table", "tune.space", "finish.teacher", "finish.augment")
DATA_PLACES = ("data.source", "data.dir")


def _located(values: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Files and folders by their full paths, so that config.yaml means them wherever it is read."""
    found = dict(values)
    for key in keys:
        value = found.get(key)
        files = {"space": (".yaml", ".yml"), "finish.augment": (".json",)}.get(key, ("",))
        named = not str(value).endswith(files)
        if isinstance(value, str) and value not in ("", "digits") and not named:
            path = Path(value).expanduser()
            with contextlib.suppress(OSError):
                found[key] = str(path.absolute()) if path.exists() else value
    return found


def _absolute(config: SearchConfig) -> SearchConfig:
    """The same with full paths of the directory to come and of each policy that is a file."""

    def full(name: str) -> str:
        return str(Path(name).expanduser().absolute())

    policies = tuple(full(p) if p.endswith(".json") else p for p in config.augment.policies)
    place = None if config.export.dir is None else full(config.export.dir)
    return replace(
        config,
        augment=replace(config.augment, policies=policies),
        export=replace(config.export, dir=place),
    )


def _resumed(config: SearchConfig, values: Mapping[str, Any]) -> SearchConfig:
    """The configuration of the run in `--out`; what is given beside must be the same."""
    if config.out is None:
        raise InputError("--resume needs --out DIR, the run to continue.")
    path = Path(config.out) / "config.yaml"
    if not path.is_file():
        raise InputError(f"--resume: there is no run in {config.out} (no config.yaml).")
    before = build(read_yaml(path))
    was, now = flatten(to_dict(before)), flatten(to_dict(config))
    for key in values:
        if key not in ("out", "resume") and now[key] != was[key]:
            raise InputError(
                f"--resume: {key} is {now[key]!r}, but the run in {config.out} has {was[key]!r}."
            )
    return replace(before, out=config.out, resume=True)


def dataset(data: Any, config: SearchConfig) -> Dataset:
    """The data of a search: what the configuration names, unless it is given as an object."""
    if isinstance(data, Dataset):
        return data
    options = config.data
    split: dict[str, Any] = {
        "split_seed": options.split_seed,
        "val_fraction": options.val_fraction,
        "test_fraction": options.test_fraction,
    }
    if data is None:
        return load(
            options.source,
            data_dir=options.dir,
            target=options.target,
            max_bad=options.max_bad,
            **split,
        )
    if not isinstance(data, tuple) or len(data) not in (2, 4):
        raise InputError(
            "Data must be a name or path, (x, y) or (x, y, x_test, y_test), "
            f"got {type(data).__name__}."
        )
    return from_arrays(*data, **split)


def _same_inputs(job: Job) -> None:
    """A resumed run must see the images, the space and the files it began with."""
    fingerprint, space, files = job.data.fingerprint, _fingerprint(job.space), _files(job.config)
    for entry in job.run.of_stage("data", "loaded"):
        if entry.get("space", space) != space:
            raise InputError(
                f"--resume: the run in {job.run.directory} began with other decisions than "
                f"{job.config.space} has now."
            )
        if entry["fingerprint"] != fingerprint:
            raise InputError(
                f"--resume: the run in {job.run.directory} began with other data than "
                f"{job.data.name} holds now."
            )
        for key, value in entry.get("files", files).items():
            if files.get(key) != value:
                raise InputError(
                    f"--resume: {key} has changed since the run in {job.run.directory} began."
                )
        return
    job.run.record(stage="data", unit="loaded", fingerprint=fingerprint, space=space, files=files)


def _fingerprint(space: SearchSpace) -> str:
    """SHA-256 of a space's decisions: a file or a module may have changed under its name."""
    return hashlib.sha256(repr(space.decisions).encode()).hexdigest()


def _files(config: SearchConfig) -> dict[str, str]:
    """SHA-256 of each file that the configuration names and a stage reads, by key and name."""
    teacher = config.finish.teacher
    named = [
        ("tune.space", config.tune.space),
        ("limits.latency_table", config.limits.latency_table),
        # Which has those of the other files.
        ("finish.teacher", None if teacher is None else str(Path(teacher, MODEL))),
        *(("augment.policies", p) for p in config.augment.policies if p.endswith(".json")),
    ]
    if (config.finish.augment or "").endswith(".json"):
        named.append(("finish.augment", config.finish.augment))
    there = [(key, Path(name)) for key, name in named if name is not None]
    return {f"{key} {path}": sha256(path) for key, path in there if path.is_file()}


def _describe(data: Dataset) -> str:
    height, width = data.resolution
    test = f"{len(data.test):,}" if data.tested else "no"
    return (
        f"{data.name}: {len(data.train):,} training, {len(data.val):,} validation and "
        f"{test} test images of {height}x{width}x{data.channels}, "
        f"{data.classes} classes"
    )


def _about(job: Job) -> dict[str, Any]:
    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "seed": job.config.seed,
        "versions": {
            "jaxnas": __version__,
            "python": platform.python_version(),
            **{name: installed(name) for name in packages},
        },
        "device": job.device,
        "config": to_dict(replace(job.config, out=None, resume=False)),
    }
