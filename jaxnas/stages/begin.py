"""What must be known before the first stage: what is ranked, or the architecture that is given."""

from pathlib import Path

import pandas as pd

from jaxnas.augment import get_policy
from jaxnas.augment.search import SEARCHES
from jaxnas.config import SearchConfig
from jaxnas.errors import InputError, unknown
from jaxnas.export import FORMATS
from jaxnas.export.optional import imported
from jaxnas.ranking import population
from jaxnas.runs import check_free
from jaxnas.sections import JOINT
from jaxnas.stages.job import Job
from jaxnas.stages.plan import named_policy, objective
from jaxnas.stages.teacher import teacher_of
from jaxnas.stages.tune import check_study


def begin(job: Job) -> None:
    """Fills `job.archs`, and the winner where one is given; refuses what later stages cannot do."""
    config = job.config
    if config.arch is None:
        job.archs = population(job.space, config.rank.sample, config.seed)
    else:
        job.winner = job.space.from_string(config.arch)
        job.archs = job.space.pruned(job.winner[None])
        if "rank" not in config.active_stages:
            row = {"index": 0, "arch": config.arch, "score": 0.0, "rank": 1}
            job.ranking = pd.DataFrame([row])
    objective(job)
    _check_metric(config)
    stages = config.active_stages
    if "tune" in stages:
        check_study(job)
    if "augment" in stages:
        _check_policies(config)
    if "finish" in stages:
        if config.finish.augment is not None:
            _check_policy(config.finish.augment, stages)
        job.teacher = teacher_of(job)
    if "export" in stages:
        for name in config.export.formats:
            if name not in FORMATS:
                raise unknown("export format", name, FORMATS)
        _check_packages(config.export.formats)
        if config.export.dir and not config.resume:
            _check_place(Path(config.export.dir), Path(config.out or "runs/run").absolute())


def _check_place(directory: Path, out: Path) -> None:
    check_free(directory, "--export.dir")
    if directory == out or directory in out.parents:
        raise InputError(
            f"--export.dir {directory} would hold the run directory {out}; expected one beside or in it."
        )


def _check_metric(config: SearchConfig) -> None:
    plain = config.objective == type(config.objective)()
    shared = config.train.trainer not in ("population", JOINT)
    if "train" in config.active_stages and shared and not plain:
        raise InputError(
            f"train.trainer {config.train.trainer} trains one super-net by cross-entropy and compares by "
            "accuracy; another objective needs train.trainer population."
        )


def _check_policy(asked: str, stages: tuple[str, ...]) -> None:
    named_policy(asked)
    if "augment" in stages:
        raise InputError(
            f"finish.augment is {asked}, and stage augment would choose another; expected one of the "
            "two, or the policy among augment.policies."
        )


def _check_policies(config: SearchConfig) -> None:
    asked = config.augment
    for name in asked.policies:
        named_policy(name)
    get_policy(asked.beside)
    for name in asked.search or ():
        if name not in SEARCHES:
            raise unknown("search of policies", name, SEARCHES)
    names = [*asked.policies, *(asked.search or ())]
    if len(set(names)) < len(names):
        raise InputError(f"The policies {', '.join(names)} are not all different.")
    if asked.search and config.data.stream == "always":
        raise InputError(
            "Searches of policies have their images on the device; data.stream is always."
        )


def _check_packages(formats: tuple[str, ...]) -> None:
    """Refuse before hours of training what could not be written after them."""
    needed = {"onnx": ("jax2onnx", "onnx", "onnxruntime"), "stablehlo": ("flatbuffers",)}
    for name in formats:
        for module in needed.get(name, ()):
            imported(module, f"The format {name}")
