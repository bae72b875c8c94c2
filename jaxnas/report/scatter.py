"""Tens of thousands of points as a few SVG paths."""

import numpy as np
from markupsafe import Markup

from jaxnas.report.svg import Frame, tag

FEW = 80
"""Up to so many distinct values of x, points are drawn as violins."""

_GRID = 2  # points are placed on a grid of 1/_GRID unit, and drawn once
_SHADES = 5


def dots(frame: Frame, x: np.ndarray, y: np.ndarray) -> Markup:
    """All points in a few paths of zero-length strokes, shaded by how many lie around.

    One path for each shade takes about 7 bytes a point, where an element each would take 50.
    """
    xs, ys = frame.at(x, y)
    xs = xs + _sideways(xs, ys)
    shades = _crowding(xs, ys)
    cells = np.unique(np.rint(np.stack([shades / _GRID, xs, ys], 1) * _GRID).astype(int), axis=0)
    paths = [
        tag("path", d=_path(cells[cells[:, 0] == shade, 1:]), class_=f"dots shade-{shade}")
        for shade in range(_SHADES)
    ]
    return tag("g", *paths, transform=f"scale({1 / _GRID})")


def density(frame: Frame, x: np.ndarray, y: np.ndarray, *, side: int = 6) -> Markup:
    """Points counted in squares of `side` units, shaded by the logarithm of how many lie in each.

    The page grows with the squares that are not empty, however many points there are.
    """
    squares = np.floor(np.stack(frame.at(x, y), 1) / side).astype(int)
    places, counts = np.unique(squares, axis=0, return_counts=True)
    level = np.log(counts) / max(np.log(counts.max()), 1e-9)
    shades = np.minimum((level * _SHADES).astype(int), _SHADES - 1)
    paths = []
    for shade in range(_SHADES):
        corners = places[shades == shade] * side
        data = "".join(f"M{a} {b}h{side}v{side}h-{side}z" for a, b in corners)
        paths.append(tag("path", d=data, class_=f"squares shade-{shade}"))
    return tag("g", *paths)


def _sideways(xs: np.ndarray, ys: np.ndarray, bin_height: float = 8.0) -> np.ndarray:
    """Shifts that turn each of a few columns of points into a violin, which shows their density."""
    places = np.unique(xs)
    if not 1 < len(places) <= FEW:
        return np.zeros(len(xs))
    bins = np.stack([xs, np.floor(ys / bin_height)], 1)
    _, member, counts = np.unique(bins, axis=0, return_inverse=True, return_counts=True)
    around = counts[member.reshape(-1)]
    widest = min(0.45 * np.diff(places).min(), 9.0)
    width = widest * np.sqrt(np.minimum(around / np.quantile(around, 0.9), 1.0))
    return width * np.random.default_rng(0).uniform(-1, 1, len(xs))


def _crowding(xs: np.ndarray, ys: np.ndarray, cell: float = 5.0) -> np.ndarray:
    """0 to `_SHADES` - 1: the quantile of how many points lie in the nine squares around."""
    squares = np.floor(np.stack([xs, ys]) / cell).astype(int)
    squares -= squares.min(1, keepdims=True) - 1
    counts = np.zeros(squares.max(1) + 2, int)
    np.add.at(counts, tuple(squares), 1)
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    around = np.sum([counts[squares[0] + i, squares[1] + j] for i, j in shifts], axis=0)
    limits = np.quantile(around, np.arange(1, _SHADES) / _SHADES)
    return np.searchsorted(limits, around, side="left")


def _path(cells: np.ndarray) -> str:
    """Path data of a dot at each place, by relative moves, which are short between neighbours."""
    moves = np.diff(cells, axis=0, prepend=np.zeros((1, 2), int))
    return "".join(f"m{dx} {dy}h0" for dx, dy in moves).replace(" -", "-")
