"""The protocol of a search space. Spaces themselves are one file each in `search_spaces/`."""

import abc
from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from jaxnas.graph import CellGraph
from jaxnas.network import Network


@dataclass(frozen=True)
class Decision:
    """One integer of an architecture: its name and what its values mean."""

    name: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Size:
    """How large a space's networks are built.

    `cells` holds the number of cells of each stage; a stage after the first halves the resolution and
    doubles the channels. `resolution` is the side of the square images.
    """

    channels: int
    cells: tuple[int, ...]
    resolution: int


class SearchSpace(abc.ABC):
    """A set of architectures, each one row of integers `int32[D]`; a population is `int32[N, D]`."""

    name: ClassVar[str]
    paper: ClassVar[str]
    decisions: ClassVar[tuple[Decision, ...]]
    official_size: ClassVar[Size]
    """The size its benchmark or paper trains at."""
    proxy_size: ClassVar[Size]
    """The small size that training-free scores are computed at by default."""
    train_size: ClassVar[Size]
    """The size that candidates are trained at by default."""

    @property
    def size(self) -> int:
        """The number of architectures."""
        return int(np.prod([len(d.choices) for d in self.decisions], dtype=object))

    @abc.abstractmethod
    def all(self) -> np.ndarray:
        """Every architecture, `int32[size, D]`, in the space's official order."""

    def sample(self, key: jax.Array, n: int) -> np.ndarray:
        """`n` architectures drawn uniformly and independently; the key is consumed."""
        choices = np.array([len(d.choices) for d in self.decisions], np.int32)
        draw = jax.random.randint(key, (n, len(choices)), 0, choices[None])
        return np.asarray(draw, np.int32)

    @abc.abstractmethod
    def index(self, archs: np.ndarray) -> np.ndarray:
        """The place of each row in `all()`, `int64[N]`."""

    def neighbours(self, arch: np.ndarray) -> np.ndarray:
        """All rows that differ from `arch` in one decision."""
        arch = np.asarray(arch, np.int32)
        rows = []
        for d, decision in enumerate(self.decisions):
            for choice in range(len(decision.choices)):
                if choice != arch[d]:
                    row = arch.copy()
                    row[d] = choice
                    rows.append(row)
        return np.stack(rows)

    @abc.abstractmethod
    def to_string(self, arch: np.ndarray) -> str:
        """The field's own notation."""

    @abc.abstractmethod
    def from_string(self, text: str) -> np.ndarray:
        """The row of a string; raises `InputError` saying where and why it is malformed."""

    @abc.abstractmethod
    def active_decisions(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N, D]`: which decisions bear on the output."""

    @abc.abstractmethod
    def canonical(self, archs: np.ndarray) -> np.ndarray:
        """`int32[N, D]`: architectures that compute the same function get the same row."""

    def pruned(self, archs: np.ndarray) -> np.ndarray:
        """The rows with every inactive decision set to 0: what a network is scored and trained as."""
        archs = np.asarray(archs, np.int32)
        return np.where(self.active_decisions(archs), archs, 0)

    @abc.abstractmethod
    def connected(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N]`: whether the output depends on the input at all."""

    @abc.abstractmethod
    def network(self, size: Size, *, classes: int, image_channels: int = 3) -> Network:
        """The super-network of the space at a size."""

    @abc.abstractmethod
    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """What there is to draw of an architecture: captioned graphs."""
