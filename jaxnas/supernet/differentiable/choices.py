"""What there is to relax in a network: its choice points, as arrays."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxnas.errors import InputError
from jaxnas.network import Network
from jaxnas.nn.layers import Choice, Zero
from jaxnas.nn.survey import Probe, SurveyContext


class Choices(NamedTuple):
    """A network's P choices of up to K branches each; columns as in `SearchSpace.rows`.

    `present`, `skips` and `zeros` are `bool[P, K]`: which branches there are, which are skip connections,
    which are no connection. `nodes: int32[P]`: choices of one number are edges that meet in a node.
    """

    present: Any
    skips: Any
    zeros: Any
    nodes: Any

    @classmethod
    def of(cls, network: Network) -> "Choices":
        """Those of a network.

        Raises:
            InputError: architectures choose widths, or nothing; or rows hold what no choice point reads.
        """
        found = {int(d): len(names) for d, names in network.survey.decisions.items()}
        if network.elastic or sorted(found) != list(range(len(found))) or not found:
            raise InputError(
                "Relaxed choices need a network of choice points alone, whose rows hold one column for "
                f"each; got columns {sorted(found)}{' and widths' if network.elastic else ''}."
            )
        shape = (len(found), max(found.values()))
        present = np.arange(shape[1]) < np.array([found[d] for d in range(shape[0])])[:, None]
        skips, zeros = np.zeros(shape, bool), np.zeros(shape, bool)
        for choice in _choice_points(network):
            for k, (name, branch) in enumerate(zip(choice.names, choice.branches, strict=True)):
                skips[choice.decision, k] |= name.startswith("skip") or k in choice.identities()
                zeros[choice.decision, k] |= isinstance(branch, Zero)
        return cls(present, skips, zeros, _nodes(network, shape[0]))

    def share_of_skips(self, row: np.ndarray) -> float:
        """Of the connections of `row: int[P]` the share that are skip connections; 0 without any."""
        at = np.arange(len(row)), row
        connections = int((~self.zeros[at]).sum())
        return float(self.skips[at].sum() / connections) if connections else 0.0


def _choice_points(network: Network) -> list[Any]:
    return [m for _, m in nnx.iter_modules(network.module) if isinstance(m, Choice)]


class _MeetingContext(SurveyContext):
    """Notes which choices' values are added up."""

    def __init__(self) -> None:
        super().__init__()
        # Values are known by identity, and kept lest another be given the same.
        self.made: dict[int, tuple[Probe, set[int]]] = {}
        self.meeting: list[set[int]] = []

    def choose(self, choice: Choice, x: Probe, onto: Probe | None = None) -> Probe:
        """A value of its own, which is that of the choice."""
        y = replace(super().choose(choice, x))
        self.made[id(y)] = y, {int(choice.decision)}
        return y if onto is None else self.add([onto, y])

    def add(self, values: Any) -> Probe:
        """A value of its own; choices among what it is the sum of meet in it."""
        y = replace(super().add(values))
        terms = set().union(*(self.made[id(v)][1] for v in values if id(v) in self.made))
        self.made[id(y)] = y, terms
        self.meeting.append(terms)
        return y


def _nodes(network: Network, decisions: int) -> np.ndarray:
    side, called = network.resolution, network.module
    ctx = _MeetingContext()
    called(Probe((1, side, side, network.image_channels)), ctx)  # type: ignore[operator]
    nodes = np.arange(decisions, dtype=np.int32)
    for terms in ctx.meeting:
        into = nodes[sorted(terms)]
        if len(into):
            nodes[np.isin(nodes, into)] = into.min()
    return nodes
