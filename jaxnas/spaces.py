"""The protocol of a search space. Spaces themselves are one file each in `search_spaces/`."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from jaxnas.errors import InputError, nearest
from jaxnas.graph import CellGraph
from jaxnas.network import Counts, Network

ENUMERABLE = 2**20
"""Spaces of at most so many architectures can list them all."""
TRIES = 1_000_000
"""So many draws in a row without one that is valid say that there is none."""


@dataclass(frozen=True)
class Decision:
    """One integer of an architecture: its name and what its values mean.

    Traced decisions are data of one compiled program. One that changes shapes (`shape_class`) has a
    program for each of its choices.
    """

    name: str
    choices: tuple[str, ...]
    shape_class: bool = False


@dataclass(frozen=True)
class Size:
    """How large a space's networks are built.

    `cells` holds the number of cells (blocks, layers) of each stage; a stage after the first halves the
    resolution and doubles the channels. `resolution` is the side of the square images.
    """

    channels: int
    cells: tuple[int, ...]
    resolution: int


class SearchSpace(abc.ABC):
    """A set of architectures, each one row of integers `int32[D]`; a population is `int32[N, D]`.

    A row is what strategies move about in. What the network's choice points read is made from it by
    `rows`, the same unless a space says otherwise.
    """

    name: str
    paper: str
    decisions: tuple[Decision, ...]
    official_size: Size
    """The size its benchmark or paper trains at."""
    proxy_size: Size
    """The small size that training-free scores are computed at by default."""
    deep_size: Size | None = None
    """A small size of several cells, for rankings that want depth; None: `proxy_size` is deep enough."""
    train_size: Size
    """The size that candidates are trained at by default."""
    default_proxies: tuple[str, ...] = ("naswot", "params")
    """What it is ranked by unless told otherwise."""
    default_sample: int | None = None
    """How many architectures are ranked unless told otherwise; None: all."""

    @property
    def choices(self) -> np.ndarray:
        """The number of choices of each decision, `int64[D]`."""
        return np.array([len(d.choices) for d in self.decisions], np.int64)

    @property
    def size(self) -> int:
        """The number of architectures."""
        return math.prod(len(d.choices) for d in self.decisions)

    @property
    def enumerable(self) -> bool:
        """Whether `all()` is sane."""
        return self.size <= ENUMERABLE

    @property
    def programs(self) -> int:
        """How many networks of different shapes the space has: each is compiled by itself."""
        return math.prod(len(d.choices) for d in self.decisions if d.shape_class)

    def all(self) -> np.ndarray:
        """Every architecture, `int32[size, D]`, in the space's official order.

        Raises:
            InputError: where there are more than `ENUMERABLE`.
        """
        if self._products > ENUMERABLE:
            raise InputError(
                f"{self.name} has {self.size:,} architectures, too many to list; draw a sample."
            )
        # Counted up like the digits of a number, the last decision fastest.
        rows = np.stack(np.unravel_index(np.arange(self._products), tuple(self.choices)), axis=1)
        return rows[self.valid(rows)].astype(np.int32)

    @property
    def _products(self) -> int:
        return math.prod(self.choices.tolist())

    def index(self, archs: np.ndarray) -> np.ndarray:
        """The place of each row in `all()`, `int64[N]`; `InputError` where there are too many."""
        if not self.enumerable:
            raise InputError(f"{self.name} is too large for its architectures to have an index.")
        columns = tuple(np.asarray(archs).T)
        code = np.asarray(np.ravel_multi_index(columns, tuple(self.choices)), np.int64)
        if self.size < self._products:
            every = np.ravel_multi_index(tuple(self.all().T), tuple(self.choices))
            code = np.searchsorted(every, code)
        return code

    def valid(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N]`: which rows, each of integers in range, belong to the space."""
        return np.ones(len(archs), bool)

    def sample(self, key: jax.Array, n: int) -> np.ndarray:
        """`n` architectures drawn uniformly and independently; the key is consumed.

        Raises:
            InputError: `TRIES` draws in a row did not belong to the space.
        """
        found, have, tries = [np.zeros((0, len(self.decisions)), np.int32)], 0, 0
        while have < n:
            key, use = jax.random.split(key)
            rows = self._drawn(use, max(n, 64))
            found.append(rows[self.valid(rows)])
            have += len(found[-1])
            tries = 0 if len(found[-1]) else tries + len(rows)
            if tries >= TRIES:
                raise InputError(f"None of {tries:,} rows drawn belongs to {self.name}.")
        return np.concatenate(found)[:n]

    def _drawn(self, key: jax.Array, n: int) -> np.ndarray:
        """`n` rows, valid or not, of which the valid ones are drawn uniformly."""
        choices = self.choices.astype(np.int32)
        draw = jax.random.randint(key, (n, len(choices)), 0, choices[None])
        return np.asarray(draw, np.int32)

    def sample_distinct(self, key: jax.Array, n: int) -> np.ndarray:
        """Up to `n` architectures that differ in more than inactive decisions.

        Fewer where repeated draws find no more.
        """
        rows = np.zeros((0, len(self.decisions)), np.int32)
        for step in range(64):
            drawn = self.sample(jax.random.fold_in(key, step), n)
            rows = np.concatenate([rows, drawn])
            _, first = np.unique(self.pruned(rows), axis=0, return_index=True)
            rows = rows[np.sort(first)]
            if len(rows) >= n:
                break
        return rows[:n]

    def neighbours(self, arch: np.ndarray) -> np.ndarray:
        """All rows of the space that differ from `arch` in one decision."""
        arch = np.asarray(arch, np.int32)
        which = np.repeat(np.arange(len(arch)), self.choices)
        choice = np.concatenate([np.arange(n) for n in self.choices])
        rows = np.tile(arch, (len(which), 1))
        rows[np.arange(len(which)), which] = choice
        rows = rows[choice != arch[which]]
        return rows[self.valid(rows)]

    def to_string(self, arch: np.ndarray) -> str:
        """The field's own notation; by default `name=choice` for each decision."""
        pairs = zip(self.decisions, np.asarray(arch), strict=True)
        return " ".join(f"{d.name}={d.choices[choice]}" for d, choice in pairs)

    def from_string(self, text: str) -> np.ndarray:
        """The row of a string; raises `InputError` saying where and why it is malformed."""
        found: dict[str, str] = {}
        names = [d.name for d in self.decisions]
        for part in text.split():
            name, equals, choice = part.partition("=")
            if not equals or name not in names or name in found:
                near = nearest(name, names) or names[:3]
                raise InputError(
                    f"In architecture {text!r}: {part!r} is no decision; expected each decision once, "
                    f"as name=choice; near: {', '.join(near)}."
                )
            found[name] = choice
        row = []
        for d in self.decisions:
            if d.name not in found:
                raise InputError(f"Architecture {text!r} lacks {d.name}=, one of {d.choices}.")
            if found[d.name] not in d.choices:
                near = nearest(found[d.name], d.choices) or list(d.choices)
                raise InputError(
                    f"In architecture {text!r}: {d.name} has no choice {found[d.name]!r}; "
                    f"near: {', '.join(near)}."
                )
            row.append(d.choices.index(found[d.name]))
        arch = np.array(row, np.int32)
        self.check(arch[None], repr(text))
        return arch

    def check(self, archs: np.ndarray, what: str = "the population") -> None:
        """`InputError` where a row does not belong to the space, with the first one."""
        archs = np.asarray(archs)
        d = len(self.decisions)
        if archs.ndim != 2 or archs.shape[1] != d:
            raise InputError(
                f"Architectures of {self.name} are rows of {d} integers, but {what} has shape "
                f"{archs.shape}."
            )
        in_range = ((archs >= 0) & (archs < self.choices)).all(axis=1)
        fine = in_range.copy()
        fine[in_range] = self.valid(archs[in_range])
        if not fine.all():
            first = int(np.flatnonzero(~fine)[0])
            raise InputError(
                f"{(~fine).sum():,} of {len(archs):,} rows of {what} do not belong to {self.name}; "
                f"the first is row {first}: {archs[first].tolist()}."
            )

    def active_decisions(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N, D]`: which decisions bear on the output."""
        return np.ones(np.shape(archs), bool)

    def canonical(self, archs: np.ndarray) -> np.ndarray:
        """`int32[N, D]`: architectures that compute the same function get the same row."""
        return self.pruned(archs)

    def pruned(self, archs: np.ndarray) -> np.ndarray:
        """The rows with every inactive decision set to 0: what a network is scored and trained as."""
        archs = np.asarray(archs, np.int32)
        return np.where(self.active_decisions(archs), archs, 0)

    def scored(self, archs: np.ndarray) -> np.ndarray:
        """The pruned rows that are scored in the architectures' place.

        Architectures that before training are the same random network, weights being drawn
        independently, may share one; their sizes are the same then.
        """
        return self.pruned(archs)

    def connected(self, archs: np.ndarray) -> np.ndarray:
        """`bool[N]`: whether the output depends on the input at all."""
        return np.ones(len(archs), bool)

    def rows(self, archs: np.ndarray) -> np.ndarray:
        """`int32[N, P]`: what the choice points of the network read, for pruned architectures."""
        return self.pruned(archs)

    def discretise(self, probabilities: np.ndarray) -> np.ndarray:
        """The architecture `int32[D]` that relaxed choices stand for: of each the most probable.

        `probabilities: float[P, K]` has a row for each column of `rows`, padded with 0.

        Raises:
            InputError: a space whose network reads other columns than its decisions, or decides shapes,
                and that has no rule of its own.
        """
        if type(self).rows is not SearchSpace.rows or self.programs > 1:
            raise InputError(
                f"{self.name} has no rule that makes an architecture of relaxed choices: its network "
                "does not read its decisions one by one, as a space of cells' does."
            )
        most = [int(np.argmax(p[:n])) for p, n in zip(probabilities, self.choices, strict=True)]
        return np.array(most, np.int32)

    def cells_of(self, columns: int) -> np.ndarray:
        """`int64[P]`: which kind of cell each of the P columns of `rows` belongs to; by default one."""
        return np.zeros(columns, np.int64)

    def hyper(self, archs: np.ndarray) -> dict[str, np.ndarray]:
        """Hyper-parameters that architectures bring for their training, `float[N]` by name.

        Names are those of `jaxnas.training.population.Hyper`; NaN where one has none of its own.
        """
        return {}

    def shape_classes(self, archs: np.ndarray) -> np.ndarray:
        """`int64[N]` below `programs`: which network each architecture belongs to."""
        archs = np.asarray(archs)
        number = np.zeros(len(archs), np.int64)
        for d, decision in enumerate(self.decisions):
            if decision.shape_class:
                number = number * len(decision.choices) + archs[:, d]
        return number

    @abc.abstractmethod
    def network(
        self, size: Size, *, classes: int, image_channels: int = 3, shape_class: int = 0
    ) -> Network:
        """The super-network at a size, of the architectures of one shape class."""

    def count(
        self, archs: np.ndarray, size: Size, *, classes: int, image_channels: int = 3
    ) -> Counts:
        """Parameters and multiply-adds of each architecture, over operations that reach the output."""

        def network(kind: int) -> Network:
            return self.network(
                size, classes=classes, image_channels=image_channels, shape_class=kind
            )

        return self.count_in(archs, network)

    def count_in(self, archs: np.ndarray, network: Callable[[int], Network]) -> Counts:
        """`count`, where `network(shape_class)` gives the networks."""
        rows, kinds = self.rows(archs), self.shape_classes(archs)
        params, macs = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        for kind in np.unique(kinds):
            members = kinds == kind
            params[members], macs[members] = network(int(kind)).count(rows[members])
        return Counts(params, macs)

    def graphs(self, arch: np.ndarray) -> tuple[tuple[str, CellGraph], ...]:
        """What there is to draw of an architecture: captioned graphs. By default its decisions."""
        arch = np.asarray(arch, np.int32)
        active = self.active_decisions(arch[None])[0]
        labels = [
            f"{d.name} {d.choices[choice]}"
            for d, choice, on in zip(self.decisions, arch, active, strict=True)
            if on
        ]
        return ((self.name, chain(labels)),)


def chain(operations: list[str]) -> CellGraph:
    """One operation after another."""
    nodes = ("input", *(str(i) for i in range(1, len(operations))), "output")
    return CellGraph(nodes, tuple((i, i + 1, op) for i, op in enumerate(operations)))


def fixed_cells(space: str, size: Size, cells: tuple[int, ...]) -> None:
    """`InputError` unless a size has the cells that a space's decisions are about."""
    if tuple(size.cells) != cells:
        raise InputError(
            f"{space} has a decision for each of its layers, so that cells is always "
            f"{','.join(map(str, cells))}, not {','.join(map(str, size.cells))}; "
            "channels and resolution can be changed."
        )
