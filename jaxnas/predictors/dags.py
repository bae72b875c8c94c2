"""Architectures as small directed graphs of operations, which path and graph predictors read."""

import re
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from jaxnas.graph import CellGraph
from jaxnas.predictor import Candidates
from jaxnas.spaces import SearchSpace

type Dag = tuple[Vertex, ...]


class Vertex(NamedTuple):
    """An operation or an input: its label and the vertices it reads, all earlier ones."""

    label: str
    before: tuple[int, ...]


def once[T](function: Callable[[Candidates], T]) -> Callable[[Candidates], T]:
    """The function, keeping what it made of the architectures asked for last.

    A search fits to the same pool again and again. What is kept must not be changed.
    """
    kept: dict[tuple[int, tuple[int, ...], bytes], tuple[SearchSpace, T]] = {}

    @wraps(function)
    def of(pool: Candidates) -> T:
        key = (id(pool.space), pool.archs.shape, np.ascontiguousarray(pool.archs).tobytes())
        if key not in kept:
            made = function(pool)
            kept.clear()
            # With its space, whose id would else be free for another.
            kept[key] = (pool.space, made)
        return kept[key][1]

    return of


@once
def dags(pool: Candidates) -> list[Dag]:
    """The graph of each member."""
    rows, which = np.unique(pool.archs, axis=0, return_inverse=True)
    found = [dag(pool.space, arch) for arch in rows]
    return [found[i] for i in which.reshape(-1)]


def dag(space: SearchSpace, arch: np.ndarray) -> Dag:
    """The operations on a path from an input to an output of all graphs of `space.graphs`.

    Edges are vertices, labelled by their operation and, where there are several graphs, by which one
    they are of. Nodes are vertices where they are inputs or have a name; those with a number alone are
    left out, and what leaves them reads what enters them.
    """
    graphs = space.graphs(arch)
    vertices: list[Vertex] = []
    for caption, graph in graphs:
        _add(vertices, graph, f"{caption}: " if len(graphs) > 1 else "")
    return tuple(vertices)


def _add(vertices: list[Vertex], graph: CellGraph, where: str) -> None:
    live = [edge for edge, on in zip(graph.edges, graph.live_edges(), strict=True) if on]
    left = {source for source, _, _ in live}
    gives: dict[int, tuple[int, ...]] = {}
    enters: dict[int, list[int]] = {}
    for node, name in enumerate(graph.nodes):
        into = tuple(enters.get(node, ()))
        if node not in left:
            continue
        plain = re.fullmatch(r"[\d.]+", name) is not None
        if into and plain:
            gives[node] = into
        else:
            vertices.append(Vertex(where + name, into))
            gives[node] = (len(vertices) - 1,)
        for source, target, operation in live:
            if source == node:
                vertices.append(Vertex(where + operation, gives[node]))
                enters.setdefault(target, []).append(len(vertices) - 1)


def path_counts(members: list[Dag]) -> list[Counter[str]]:
    """How often each path of labels from an input to an output occurs in each member."""
    found = []
    for vertices in members:
        to: list[Counter[str]] = []
        read = {i for vertex in vertices for i in vertex.before}
        ended: Counter[str] = Counter()
        for i, vertex in enumerate(vertices):
            here: Counter[str] = Counter() if vertex.before else Counter({vertex.label: 1})
            for before in vertex.before:
                for path, count in to[before].items():
                    here[f"{path} > {vertex.label}"] += count
            to.append(here)
            if i not in read:
                ended += here
        found.append(ended)
    return found


def weisfeiler_lehman(members: list[Dag], depth: int) -> list[csr_matrix]:
    """Counts of labels after 0 to `depth` rounds of refinement, of each round `[N, labels]`.

    In a round a vertex's label becomes its own with the sorted labels of those it reads (Shervashidze et
    al., JMLR 12, 2011; on directed edges as in Ru et al., arXiv:2006.07556).
    """
    labels: list[list[object]] = [[vertex.label for vertex in vertices] for vertices in members]
    rounds = []
    for step in range(depth + 1):
        if step:
            labels = [
                [(now[i], *sorted(now[b] for b in v.before)) for i, v in enumerate(vertices)]  # pyright: ignore
                for vertices, now in zip(members, labels, strict=True)
            ]
        codes: dict[object, int] = {}
        labels = [[codes.setdefault(label, len(codes)) for label in now] for now in labels]
        member = np.repeat(np.arange(len(labels)), [len(now) for now in labels])
        flat = np.array([code for now in labels for code in now], np.int64)
        shape = (len(labels), max(len(codes), 1))
        rounds.append(csr_matrix((np.ones(len(flat)), (member, flat)), shape))
    return rounds


class Padded(NamedTuple):
    """Graphs of one size: labels `int32[N, V]` (0: no vertex), and who reads whom `bool[N, V, V]`."""

    labels: np.ndarray
    reads: np.ndarray
    vocabulary: int


def padded(members: list[Dag]) -> Padded:
    """The graphs as arrays, `V` being the size of the largest."""
    names = sorted({vertex.label for vertices in members for vertex in vertices})
    code = {name: i + 1 for i, name in enumerate(names)}
    size = max(1, *(len(vertices) for vertices in members))
    labels = np.zeros((len(members), size), np.int32)
    reads = np.zeros((len(members), size, size), bool)
    for i, vertices in enumerate(members):
        for j, vertex in enumerate(vertices):
            labels[i, j] = code[vertex.label]
            reads[i, j, list(vertex.before)] = True
    return Padded(labels, reads, len(names) + 1)
