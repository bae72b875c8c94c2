"""The weights of one architecture as a safetensors file.

Of a super-network only what the architecture has is written: parameters of branches that it does not
take are left out, and so are channels beyond its widths. Read back, these are 0.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnas.errors import InputError
from jaxnas.export.optional import imported
from jaxnas.network import Network, Variables

WHAT = "A model's weights.safetensors"


def save_weights(path: Path, network: Network, variables: Variables, row: np.ndarray) -> None:
    """Write `variables`' arrays by their places in the module, as `cells.0.edges.3.branches.2.kernel`."""
    save = imported("safetensors.numpy", WHAT).save_file
    boxes = _boxes(network, variables, row)
    named = {name: np.asarray(leaf.get_value()) for name, leaf in _leaves(variables)}
    cut = {
        name: np.ascontiguousarray(array[boxes[name]])
        for name, array in named.items()
        if boxes[name] is not None
    }
    save(cut, path)


def load_weights(path: Path, network: Network, row: np.ndarray) -> Variables:
    """The variables that `save_weights` wrote of the same network and `row: int32[P]`.

    Raises:
        InputError: an incomplete sentence, of which the file is the subject: it is damaged, or of
            another network.
    """
    package = imported("safetensors", WHAT)
    read = imported("safetensors.numpy", WHAT).load_file
    try:
        found: dict[str, np.ndarray] = read(path)
    except (OSError, package.SafetensorError) as error:
        raise InputError(f"is damaged or no safetensors file: {error}.") from error
    like = jax.eval_shape(network.init, jax.random.key(0))
    boxes = _boxes(network, like, row)
    leaves = {name: leaf.get_value() for name, leaf in _leaves(like)}
    expected = {
        name: jax.eval_shape(lambda a, box=box: a[box], leaves[name])
        for name, box in boxes.items()
        if box is not None
    }
    _check(found, expected)

    def filled(path: Any, leaf: nnx.Variable) -> nnx.Variable:
        name, built = _name(path), leaf.get_value()
        whole = np.zeros(built.shape, built.dtype)
        if name in found:
            whole[boxes[name]] = found[name]
        return leaf.replace(value=jnp.asarray(whole))

    parts = [
        jax.tree.map_with_path(filled, part, is_leaf=lambda v: isinstance(v, nnx.Variable))
        for part in like
    ]
    return Variables(*parts)


def _check(found: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    for name in sorted(found.keys() | expected.keys()):
        got, want = (
            f"{a[name].dtype}{list(a[name].shape)}" if name in a else "nothing"
            for a in (found, expected)
        )
        if got != want:
            raise InputError(
                f"has {got} as {name}, but the network of its model.json has {want} there."
            )


def _boxes(
    network: Network, variables: Variables, row: np.ndarray
) -> dict[str, tuple[slice, ...] | None]:
    """The part of each array that the architecture has; None: nothing of it."""
    masks = jax.tree.leaves(network.active(row))
    boxes = {
        name: _box(np.asarray(mask), leaf.get_value().ndim)
        for (name, leaf), mask in zip(
            _leaves(variables._replace(statistics=())), masks, strict=True
        )
    }
    for name, leaf in _leaves(variables._replace(params=())):
        # Running averages lie beside the scale of the same layer, and have its channels.
        scale = f"{name.rpartition('.')[0]}.scale"
        same = leaf.get_value().ndim == 1 and scale in boxes
        boxes[name] = boxes[scale] if same else (slice(None),) * leaf.get_value().ndim
    return boxes


def _box(mask: np.ndarray, axes: int) -> tuple[slice, ...] | None:
    if not mask.any():
        return None
    box = []
    for axis in range(axes):
        others = tuple(a for a in range(axes) if a != axis)
        there = mask.any(axis=others) if mask.ndim == axes else np.ones(1)
        box.append(slice(None) if len(there) == 1 else slice(int(np.flatnonzero(there)[-1]) + 1))
    return tuple(box)


def _leaves(tree: Any) -> list[tuple[str, nnx.Variable]]:
    def is_leaf(node: Any) -> bool:
        return isinstance(node, nnx.Variable)

    found: list[tuple[str, nnx.Variable]] = []
    for part in tree:
        pairs = jax.tree.leaves_with_path(part, is_leaf=is_leaf)
        found += [(_name(path), leaf) for path, leaf in pairs]
    return found


def _name(path: Any) -> str:
    return ".".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
