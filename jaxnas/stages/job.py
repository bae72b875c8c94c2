"""What every stage of a search works with, and what they leave for each other."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxnas.augment.search import Found
from jaxnas.config import (
    TRAINING,
    AugmentConfig,
    FinishConfig,
    RankConfig,
    SearchConfig,
    TrainConfig,
    TuneConfig,
)
from jaxnas.console import Screen
from jaxnas.data.dataset import Dataset, Split
from jaxnas.errors import InputError
from jaxnas.network import Counts, Network, Variables
from jaxnas.proxies import get_proxies
from jaxnas.proxies.presets import Recipe, resolve
from jaxnas.proxy import GradientProxy, Proxy
from jaxnas.ranking import check_applies
from jaxnas.report import ComparedPolicy, Decision, Judged, TrainedCandidate, TunedMember
from jaxnas.runs import Run
from jaxnas.spaces import SearchSpace, Size
from jaxnas.timing import Stopwatch
from jaxnas.training.population import TrainingData
from jaxnas.training.stream import Streamed, StreamedData, check_installed, fits, prepared_bytes

type Section = RankConfig | TrainConfig | TuneConfig | AugmentConfig | FinishConfig
"""A section that says how large networks are."""


class Teacher(NamedTuple):
    """A trained network that others learn from: its variables and the row of its choice points."""

    network: Network
    variables: Variables
    row: np.ndarray


class Finished(NamedTuple):
    """The finished network and its size; its variables have an axis of 1."""

    network: Network
    variables: Variables
    size: Size


@dataclass
class Job:
    """One search under way. Stages fill in the fields below `archs`."""

    config: SearchConfig
    space: SearchSpace
    data: Dataset
    run: Run
    screen: Screen
    watch: Stopwatch
    notes: list[str] = field(default_factory=list)
    archs: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    """What is ranked: the whole space or a sample; the ranking's `index` counts its rows."""
    ranking: pd.DataFrame | None = None
    trained: list[TrainedCandidate] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    winner: np.ndarray | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    curves: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """What a super-net's training reported, a value an epoch, by name."""
    named: bool = True
    """Whether `config.space` is where the space came from: not, if an object was given."""
    tuned: dict[str, np.ndarray] | None = None
    """Hyper-parameters that were found, `float32[units]` by name."""
    trials: list[TunedMember] = field(default_factory=list)
    policy: Found | None = None
    """How training images are augmented, if a stage has found it."""
    policies: list[ComparedPolicy] = field(default_factory=list)
    teacher: Teacher | None = None
    finished: Finished | None = None
    judged: Judged | None = None
    """What the finished network says of the test images."""
    _training_data: TrainingData | None = None
    _networks: dict[tuple[Size, int], Network] = field(default_factory=dict)

    def size(self, section: Section) -> Size:
        """How large a section's networks are: what it asks for, else the space's default.

        Stages that prepare for the last training take its size where they ask for none.
        """
        space = self.space
        ranking = isinstance(section, RankConfig)
        default = self.recipe.size(space) if ranking else space.train_size
        stored = min(self.data.resolution)
        size = replace(default, resolution=min(default.resolution, stored))
        names = ("channels", "cells", "resolution")
        asked = {k: getattr(section, k) for k in names}
        if isinstance(section, TuneConfig | AugmentConfig):
            last = {k: getattr(self.config.finish, k) for k in names}
            asked = {k: last[k] if v is None else v for k, v in asked.items()}
        return replace(size, **{k: v for k, v in asked.items() if v is not None})

    def network(self, section: Section, shape_class: int = 0) -> Network:
        """The space's super-network at a section's size, for this data; built once."""
        size = self.size(section)
        if (size, shape_class) not in self._networks:
            self._networks[size, shape_class] = self.space.network(
                size,
                classes=self.data.classes,
                image_channels=self.data.channels,
                shape_class=shape_class,
            )
        return self._networks[size, shape_class]

    def count(self, section: Section, archs: np.ndarray) -> Counts:
        """The sizes of architectures as a section builds them."""
        return self.space.count_in(archs, partial(self.network, section))

    @property
    def proxies(self) -> tuple[Proxy, ...]:
        """What architectures are ranked by."""
        return get_proxies(self.recipe.proxies)

    @property
    def recipe(self) -> Recipe:
        """How the ranking is made."""
        rank = self.config.rank
        names = self.space.default_proxies if rank.proxies is None else rank.proxies
        return resolve(names, rank.combine, rank.batch_size, rank.repeats)

    def prepared(self, split: Split, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """A split as network inputs and labels."""
        return self.data.prepare(split.x, resolution), split.y

    def training_data(self, resolution: int) -> TrainingData:
        """Training and validation images, on the device."""
        if self._training_data is None or self._training_data.x.shape[1] != resolution:
            arrays = (
                *self.prepared(self.data.train, resolution),
                *self.prepared(self.data.val, resolution),
            )
            self._training_data = TrainingData(*(jnp.asarray(a) for a in arrays))
        return self._training_data

    def population_data(self, resolution: int) -> TrainingData | StreamedData:
        """The same for `train_population`; streamed where `data.stream` says so."""
        if not self.streams(resolution):
            return self.training_data(resolution)
        note = (
            f"Images were streamed from the host (data.stream {self.config.data.stream}): prepared they "
            f"take {self._prepared_bytes(resolution) / 2**20:,.2f} MB."
        )
        if note not in self.notes:
            self.notes.append(note)
        return StreamedData(
            self.streamed(self.data.train, resolution), self.streamed(self.data.val, resolution)
        )

    def streamed(self, split: Split, resolution: int) -> Streamed:
        """A split that stays on the host and is prepared as it is read."""
        return Streamed(split.x, split.y, partial(self.data.prepare, resolution=resolution))

    def streams(self, resolution: int) -> bool:
        """Whether candidates are trained on streamed images."""
        asked = self.config.data.stream
        return asked == "always" or (asked == "auto" and not fits(self._prepared_bytes(resolution)))

    def _prepared_bytes(self, resolution: int) -> int:
        images = len(self.data.train) + len(self.data.val)
        return prepared_bytes(images, (resolution, resolution, self.data.channels))

    @property
    def device(self) -> str:
        """The devices in use, in words: platform, number and kind."""
        kind = jax.devices()[0].device_kind
        return f"{jax.default_backend()}: {jax.device_count()} x {kind}"

    def check(self) -> None:
        """Refuse what cannot work before any stage has run."""
        n = len(self.data.train)
        trained = [name for name in self.config.active_stages if name in TRAINING]
        for name in trained:
            batch = getattr(self.config, name).batch_size or self.recipe.batch_size
            if batch > n:
                raise InputError(
                    f"{name}.batch_size is {batch}, but there are only {n} training images."
                )
        needy = [
            p.name
            for p in self.proxies
            if isinstance(p, GradientProxy) and self.config.rank.executor == "shared_prefix"
        ]
        if needy:
            raise InputError(
                f"rank.executor shared_prefix has no gradients; {needy[0]} needs them."
            )
        if "train" in trained and self.config.train.top > len(self.archs):
            what = "has only" if len(self.archs) == self.space.size else "is ranked by a sample of"
            raise InputError(
                f"train.top is {self.config.train.top}, but {self.space.name} {what} "
                f"{len(self.archs)} architectures."
            )
        for name in trained:
            network = self.network(getattr(self.config, name))  # refuses a size that does not fit
            if name != "rank" and self.streams(network.resolution):
                self._check_streams(name)
        if "rank" in trained:
            check_applies(self.network(self.config.rank), self.proxies)

    def _check_streams(self, stage: str) -> None:
        trainer = self.config.train.trainer
        if stage != "train" or trainer == "population":
            check_installed()
        elif self.config.data.stream == "always":
            raise InputError(
                f"data.stream is always, but trainer {trainer} has its images on the device; expected "
                "auto or never, or train.trainer population."
            )
