"""The stages of a search, in order. A new one is a file here and a line in `STAGES`."""

from collections.abc import Callable
from typing import Any

from jaxnas.stages.augment import augment
from jaxnas.stages.export import export
from jaxnas.stages.finish import finish
from jaxnas.stages.job import Job
from jaxnas.stages.rank import rank
from jaxnas.stages.train import train
from jaxnas.stages.tune import tune

STAGES: dict[str, Callable[[Job], Any]] = {
    "rank": rank,
    "train": train,
    "tune": tune,
    "augment": augment,
    "finish": finish,
    "export": export,
}
