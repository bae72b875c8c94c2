"""Pipelines of all stages so small that a test can afford them."""

import pytest
from searching import fewer, images

from jaxnas.search import search

SMALL = {
    "preset": "full",
    "channels": 4,
    "cells": 1,
    "resolution": 8,
    "epochs": 2,
    "top": 2,
    "train": {"baselines": 0, "budget": 2},
    "tune": {"tuner": "pbt:interval=1", "members": 2, "epochs": 2},
    "augment": {"policies": ["none", "flip_crop"], "search": ["pba"], "members": 2, "epochs": 2},
    "export": {"formats": ["safetensors"]},
}
ARCH = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"


def data(n=150, classes=3):
    x, y = images(n, 8, 8, 3, classes=classes)
    return x, y


def run(out, **options):
    with pytest.MonkeyPatch.context() as patch:
        fewer(patch, 60)
        return search("nasbench201", data(), out=out, quiet=True, **SMALL | options)
