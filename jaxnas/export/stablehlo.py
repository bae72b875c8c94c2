"""A model as StableHLO, by `jax.export`: JAX runs it again without any of jaxnas."""

from pathlib import Path

import jax
import numpy as np
from jax import export as jax_export

from jaxnas.export.fold import Folded
from jaxnas.export.optional import imported

WHAT = "A model's model.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(path: Path, program: Folded, images: jax.ShapeDtypeStruct) -> None:
    """Write `program` of `images: [batch, R, R, C]`, its first size symbolic, for `PLATFORMS`."""
    imported("flatbuffers", WHAT)  # which jax.export writes with
    exported = jax_export.export(jax.jit(program), platforms=PLATFORMS)(images)
    path.write_bytes(exported.serialize())


def run_stablehlo(path: Path, images: np.ndarray) -> tuple[np.ndarray, ...]:
    """What the program in a file makes of `images`."""
    imported("flatbuffers", WHAT)
    exported = jax_export.deserialize(bytearray(path.read_bytes()))
    return tuple(np.asarray(value) for value in exported.call(images))
