"""Trained networks as files: safetensors, ONNX and StableHLO, each checked when it is written.

`export` writes a directory, `jaxnas.load` makes a classifier of it.
"""

from jaxnas.export.write import CHECKED, FORMATS, TOLERANCE, export

__all__ = ["CHECKED", "FORMATS", "TOLERANCE", "export"]
