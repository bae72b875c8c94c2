"""Layers, convolution, pooling and choice points: what search spaces are written with."""

from jaxnas.nn.context import BatchNormMode, Context, NoTap, Tap, Taps
from jaxnas.nn.layers import (
    AvgPool,
    BatchNorm,
    Choice,
    Conv,
    GlobalAvgPool,
    Identity,
    Layer,
    Linear,
    MaxPool,
    ReLU,
    Sequential,
    Zero,
)

__all__ = [
    "AvgPool",
    "BatchNorm",
    "BatchNormMode",
    "Choice",
    "Context",
    "Conv",
    "GlobalAvgPool",
    "Identity",
    "Layer",
    "Linear",
    "MaxPool",
    "NoTap",
    "ReLU",
    "Sequential",
    "Tap",
    "Taps",
    "Zero",
]
