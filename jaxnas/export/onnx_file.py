"""A model as ONNX, by jax2onnx, checked with onnxruntime."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.export.fold import Folded
from jaxnas.export.optional import imported
from jaxnas.export.program import OUTPUTS

WHAT = "A model's model.onnx"
OPSET = 18
"""Of 2022, which onnxruntime reads since 1.14."""


def write_onnx(path: Path, program: Folded, images: jax.ShapeDtypeStruct) -> None:
    """Write `program` of `images: [batch, R, R, C]`, its first size symbolic, as one file."""
    convert = imported("jax2onnx", WHAT).to_onnx

    def traced(x: jax.Array) -> Any:
        return program.run(x, {"pad": _padded})

    with _quiet():
        model = convert(
            traced,
            [images],
            opset=OPSET,
            model_name="jaxnas",
            input_names=["images"],
            output_names=list(OUTPUTS),
        )
    imported("onnx", WHAT).checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def run_onnx(path: Path, images: np.ndarray) -> tuple[np.ndarray, ...]:
    """What onnxruntime makes of `images` on the CPU: `OUTPUTS`."""
    runtime = imported("onnxruntime", WHAT)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return tuple(session.run(list(OUTPUTS), {"images": images}))


def _padded(equation: Any, values: Sequence[Any]) -> list[Any]:
    """`lax.pad` by what jax2onnx 0.17 converts with a symbolic batch too: slices, and `jnp.pad`."""
    x, fill = values
    config = equation.params["padding_config"]
    assert not any(between for _, _, between in config), "inference pads nothing between values"
    for axis, (before, after, _) in enumerate(config):
        if min(before, after) < 0:
            end = x.shape[axis] + min(after, 0)
            x = lax.slice_in_dim(x, max(-before, 0), end, axis=axis)
    widths = [(max(before, 0), max(after, 0)) for before, after, _ in config]
    return [jnp.pad(x, widths, constant_values=fill)] if np.any(widths) else [x]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what onnx_ir logs of shapes that it does not know, which the file needs not say."""
    logger = logging.getLogger("onnx_ir")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
