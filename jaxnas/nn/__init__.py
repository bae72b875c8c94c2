"""Layers, convolution, pooling and choice points: what search spaces are written with."""

from jaxnas.nn.attention import (
    ClassToken,
    LayerNorm,
    Patches,
    PositionEmbedding,
    QueryKeyValue,
    SelfAttention,
    TokenMean,
)
from jaxnas.nn.context import BatchNormMode, Context, NoTap, SumTap, Tap, Taps
from jaxnas.nn.dense import GELU, Flatten
from jaxnas.nn.factorized import FactorizedReduce
from jaxnas.nn.grouped import GroupedConv, GroupWidthConv, Shift
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
    Place,
    ReLU,
    Sequential,
    Zero,
)
from jaxnas.nn.mobile import HardSwish, MBConv, ReLU6, SqueezeExcite
from jaxnas.nn.scale import Scale
from jaxnas.nn.truncate import Truncate
from jaxnas.nn.width import Width
from jaxnas.nn.wired import wired

__all__ = [
    "GELU",
    "AvgPool",
    "BatchNorm",
    "BatchNormMode",
    "Choice",
    "ClassToken",
    "Context",
    "Conv",
    "FactorizedReduce",
    "Flatten",
    "GlobalAvgPool",
    "GroupWidthConv",
    "GroupedConv",
    "HardSwish",
    "Identity",
    "Layer",
    "LayerNorm",
    "Linear",
    "MBConv",
    "MaxPool",
    "NoTap",
    "Patches",
    "Place",
    "PositionEmbedding",
    "QueryKeyValue",
    "ReLU",
    "ReLU6",
    "Scale",
    "SelfAttention",
    "Sequential",
    "Shift",
    "SqueezeExcite",
    "SumTap",
    "Tap",
    "Taps",
    "TokenMean",
    "Truncate",
    "Width",
    "Zero",
    "wired",
]
